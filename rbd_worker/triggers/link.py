# SPDX-License-Identifier: Apache-2.0
"""One connection to RabbitMQ, and the messages on it.

kombu is used below its ``Consumer`` (see ``bodies``).  What stands on the
broker is asked and changed through ``Link.topology``, which has a channel of
its own.  kombu's memory transport stands in for RabbitMQ where ``is_memory``
is set.
"""

import contextlib
import select
import socket
import ssl
import typing as ty

import amqp
from kombu import connection as kombu_connection

from rbd_worker import errors
from rbd_worker.triggers import bodies
from rbd_worker.triggers.broker import BrokerHost, BrokerSettings
from rbd_worker.triggers.topology import FOREIGN, Topology, translated, unavailable

#: Seconds for the TCP and TLS handshakes, and for one answer of the broker.
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
_GOODBYE_SECONDS = 1.0
#: Seconds that a read may wait for the rest of something that has begun to arrive.
_READ_SECONDS = 0.1
#: Seconds between two looks of the memory transport, which cannot wake anybody.
_MEMORY_POLL = 0.02

_CLIENT = {"capabilities": {"authentication_failure_close": True, "connection.blocked": True,
                            "consumer_cancel_notify": True}}


class Delivery(ty.NamedTuple):
    """One message; ``tag`` acknowledges it on the link that brought it."""

    tag: ty.Any
    routing_key: str
    body: bytes
    correlation: str = ""


class Link:
    """Used by one thread only, the one that opened it.

    :param name: shown by RabbitMQ as the connection's name.
    :ivar topology: what stands on the broker.
    :ivar is_blocked: RabbitMQ takes no messages at the moment.
    :raises errors.BrokerUnavailable: from every method but ``close``.
    """

    def __init__(self, settings: BrokerSettings, host: BrokerHost, name: str) -> None:
        self._settings = settings
        self._host = host
        self._where = f"{settings.url} (at {host})"
        self.is_blocked = False
        self._returned = False
        tls = settings.tls.arguments(host.hostname) if settings.tls else False
        self._kombu = kombu_connection.Connection(  # type: ignore[no-untyped-call]
            transport="memory" if settings.is_memory else "pyamqp",
            hostname=host.hostname, port=host.port, userid=host.username,
            password=host.password, virtual_host=settings.virtual_host, ssl=tls,
            login_method=settings.login_method, heartbeat=settings.heartbeat,
            connect_timeout=_CONNECT_SECONDS,
            transport_options=self._transport_options(name))
        with translated(self._where):
            self._transport = self._kombu.transport
            self._connection = self._transport.establish_connection()
            self._channel = self._transport.create_channel(self._connection)
            self.topology = Topology(self._transport.create_channel(self._connection),
                                     self._where)
        if not settings.is_memory:
            self._channel.auto_decode = False  # else a body may come as str
            self._channel.events["basic_return"].add(self._on_return)

    @property
    def host(self) -> str:
        return str(self._host)

    # -- messages --------------------------------------------------------------

    def consume(self, queue: str, prefetch: int, callback: ty.Callable[[Delivery], None]) -> str:
        """Have ``callback`` called from ``drain`` for each message; returns the consumer's tag."""
        def arrived(message: ty.Any) -> None:
            key = message.delivery_info.get("routing_key", "")
            callback(Delivery(message.delivery_tag, key, bodies.raw(message),
                              message.properties.get("correlation_id", "")))
        tag = f"tap-{queue}"
        with translated(self._where):
            self._channel.basic_qos(0, prefetch, False)
            self._channel.basic_consume(queue=queue, no_ack=False, callback=arrived,
                                        consumer_tag=tag)
        return tag

    def cancel(self, tag: str) -> None:
        """End a consumer; messages that are on their way still reach its callback."""
        with translated(self._where):
            self._channel.basic_cancel(tag)

    def ack_up_to(self, tag: ty.Any) -> None:
        """Acknowledge this message and all that came before it on this link."""
        with translated(self._where):
            self._channel.basic_ack(tag, multiple=True)

    def give_back(self, tag: ty.Any) -> None:
        """Let the broker deliver this message again."""
        with translated(self._where):
            self._channel.basic_reject(tag, requeue=True)

    def publish(self, exchange: str, key: str, body: bytes, expires: float,
                correlation: str = "") -> None:
        """Publish a message that lives for ``expires`` seconds; see ``was_returned``."""
        with translated(self._where):
            if self._settings.is_memory:
                message = self._channel.prepare_message(body)
                self._channel.basic_publish(message, exchange, key)
                return
            message = amqp.Message(body, delivery_mode=1, expiration=str(int(expires * 1000)),
                                   correlation_id=correlation)
            self._channel.basic_publish(message, exchange=exchange, routing_key=key,
                                        mandatory=True)

    def was_returned(self) -> bool:
        """True once after the broker had no queue for a message published here."""
        returned, self._returned = self._returned, False
        return returned

    # -- time ------------------------------------------------------------------

    def wait(self, seconds: float, wake: socket.socket) -> bool:
        """Wait for something to read, or for ``wake``; True where it is worth a ``drain``."""
        if self._settings.is_memory:
            return True
        if not self._connection.connected:  # to ask for the socket would connect silently
            raise unavailable(self._where, ConnectionError("the connection is lost"))
        sock = self._connection.sock
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            return True
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        poll.register(wake, select.POLLIN)
        return any(fd == sock.fileno() for fd, _ in poll.poll(max(0.0, seconds) * 1000))

    def drain(self) -> None:
        """Read what has arrived: at most one message, handed to its callback."""
        try:
            timeout = _MEMORY_POLL if self._settings.is_memory else _READ_SECONDS
            self._transport.drain_events(self._connection, timeout=timeout)
        except TimeoutError:
            pass
        except FOREIGN as e:
            raise unavailable(self._where, e) from e

    def beat(self) -> None:
        """Send a heartbeat if it is time to; notice when the broker sent none."""
        if not self._settings.is_memory:
            with translated(self._where):
                self._transport.heartbeat_check(self._connection, rate=2)

    def close(self) -> None:
        """Say goodbye where the broker still listens; takes a second at most, never raises."""
        try:
            if not self._settings.is_memory and self._connection.connected:
                self._connection.sock.settimeout(_GOODBYE_SECONDS)
            self._transport.close_connection(self._connection)
        except Exception:  # noqa: BLE001 - a broken connection breaks in many ways
            with contextlib.suppress(Exception):
                self._transport._collect(self._connection)

    # -- inside ----------------------------------------------------------------

    def _transport_options(self, name: str) -> dict[str, ty.Any]:
        if self._settings.is_memory:
            return {"polling_interval": _MEMORY_POLL}
        patience = max(self._settings.heartbeat, 10)
        return {"client_properties": _CLIENT | {"connection_name": name},
                "read_timeout": _ANSWER_SECONDS, "write_timeout": _ANSWER_SECONDS,
                "socket_settings": {socket.TCP_USER_TIMEOUT: patience * 1000},
                "on_blocked": self._on_blocked, "on_unblocked": self._on_unblocked}

    def _on_blocked(self, _reason: str) -> None:
        self.is_blocked = True

    def _on_unblocked(self) -> None:
        self.is_blocked = False

    def _on_return(self, *_details: ty.Any) -> None:
        self._returned = True


def reached(settings: BrokerSettings, name: str) -> Link:
    """A link to the first of the broker's hosts that can be reached.

    :raises errors.BrokerUnavailable: none can.
    """
    problem: errors.BrokerUnavailable | None = None
    for host in settings.hosts:
        try:
            return Link(settings, host, name)
        except errors.BrokerUnavailable as e:
            problem = e
    raise problem or errors.BrokerUnavailable(url=settings.url, reason="no host is configured")


def consumers_of(settings: BrokerSettings, queue: str) -> int | None:
    """How many consumers ``queue`` has; None where there is no such queue.

    :raises errors.BrokerUnavailable: no host of the broker could be asked.
    """
    link = reached(settings, "rbd-worker question")
    try:
        state = link.topology.queue_state(queue)
    finally:
        link.close()
    return None if state is None else state.consumers
