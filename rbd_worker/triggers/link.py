# SPDX-License-Identifier: Apache-2.0
"""One connection to RabbitMQ: the only file that knows kombu's calls.

It is used below kombu's ``Consumer``, whose ``Message`` would decompress a
body of any size and knows how to decode it; the tap wants bytes.  Foreign
exceptions end here: a missing exchange or queue is an answer, a queue with
other arguments is :class:`QueueDiffers`, and everything else is
``errors.BrokerUnavailable``, after which the link is of no more use.

A broker says no by closing the channel, and the consumers on it with it (py-amqp
opens the same channel again at once).  So there are two: one for questions and
declarations, one for messages.

kombu's memory transport stands in for RabbitMQ where ``is_memory`` is set.
"""

import bz2
import contextlib
import select
import socket
import ssl
import typing as ty
import zlib

import amqp
from kombu import connection as kombu_connection
from kombu import exceptions as kombu_errors

from rbd_worker import errors
from rbd_worker.triggers import envelope
from rbd_worker.triggers.broker import BrokerHost, BrokerSettings

#: Seconds for the TCP and TLS handshakes, and for one answer of the broker.
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
_GOODBYE_SECONDS = 1.0
#: Seconds that a read may wait for the rest of something that has begun to arrive.
_READ_SECONDS = 0.1
#: Seconds between two looks of the memory transport, which cannot wake anybody.
_MEMORY_POLL = 0.02

_FOREIGN = (amqp.exceptions.AMQPError, kombu_errors.KombuError, OSError)
_CLIENT = {"capabilities": {"authentication_failure_close": True, "connection.blocked": True,
                            "consumer_cancel_notify": True}}


class QueueDiffers(errors.Permanent):
    """The queue exists with other arguments, or its arguments are refused."""

    msg = "RabbitMQ refuses to declare queue {queue}: {reason}"


class Delivery(ty.NamedTuple):
    """One message; ``tag`` acknowledges it on the link that brought it."""

    tag: ty.Any
    routing_key: str
    body: bytes


class QueueState(ty.NamedTuple):
    messages: int
    consumers: int


class Link:
    """Used by one thread only, the one that opened it.

    :param name: shown by RabbitMQ as the connection's name.
    :raises errors.BrokerUnavailable: from every method but ``close``.
    """

    def __init__(self, settings: BrokerSettings, host: BrokerHost, name: str) -> None:
        self._settings = settings
        self._host = host
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
        with self._translated():
            self._transport = self._kombu.transport
            self._connection = self._transport.establish_connection()
            self._channel = self._transport.create_channel(self._connection)
            self._asking = self._transport.create_channel(self._connection)
        if not settings.is_memory:
            self._channel.auto_decode = False  # else a body may come as str
            self._channel.events["basic_return"].add(self._on_return)

    @property
    def host(self) -> str:
        return str(self._host)

    # -- what there is ---------------------------------------------------------

    def exchange_exists(self, name: str) -> bool:
        def ask() -> None:
            self._asking.exchange_declare(exchange=name, type="topic", passive=True)
        return self._asked(ask)

    def queue_state(self, name: str) -> QueueState | None:
        """Ready messages and consumers of a queue; None where there is no such queue."""
        found: list[ty.Any] = []

        def ask() -> None:
            found.append(self._asking.queue_declare(queue=name, passive=True))
        if not self._asked(ask):
            return None
        return QueueState(found[0].message_count, found[0].consumer_count)

    # -- what shall be ---------------------------------------------------------

    def declare_queue(self, name: str, arguments: dict[str, ty.Any]) -> None:
        """Make a durable queue, or see that it is there with these arguments.

        :raises QueueDiffers: it is there with others; the link stays usable.
        """
        with self._translated():
            try:
                self._asking.queue_declare(queue=name, durable=True, auto_delete=False,
                                           arguments=arguments)
            except amqp.exceptions.PreconditionFailed as e:
                raise QueueDiffers(queue=name, reason=e.reply_text) from e

    def bind(self, queue: str, exchange: str, key: str) -> None:
        with self._translated():
            self._asking.queue_bind(queue=queue, exchange=exchange, routing_key=key)

    def unbind(self, queue: str, exchange: str, key: str) -> None:
        with self._translated():
            self._asking.queue_unbind(queue=queue, exchange=exchange, routing_key=key)

    def delete_if_idle(self, queue: str) -> bool:
        """Delete a queue that is empty and that nobody consumes; False where it is not so."""
        with self._translated():
            try:
                self._asking.queue_delete(queue=queue, if_unused=True, if_empty=True)
            except amqp.exceptions.PreconditionFailed:
                return False
        return True

    # -- messages --------------------------------------------------------------

    def consume(self, queue: str, prefetch: int, callback: ty.Callable[[Delivery], None]) -> str:
        """Have ``callback`` called from ``drain`` for each message; returns the consumer's tag."""
        def arrived(message: ty.Any) -> None:
            key = message.delivery_info.get("routing_key", "")
            callback(Delivery(message.delivery_tag, key, _raw(message)))
        tag = f"tap-{queue}"
        with self._translated():
            self._channel.basic_qos(0, prefetch, False)
            self._channel.basic_consume(queue=queue, no_ack=False, callback=arrived,
                                        consumer_tag=tag)
        return tag

    def cancel(self, tag: str) -> None:
        """End a consumer; messages that are on their way still reach its callback."""
        with self._translated():
            self._channel.basic_cancel(tag)

    def ack_up_to(self, tag: ty.Any) -> None:
        """Acknowledge this message and all that came before it on this link."""
        with self._translated():
            self._channel.basic_ack(tag, multiple=True)

    def give_back(self, tag: ty.Any) -> None:
        """Let the broker deliver this message again."""
        with self._translated():
            self._channel.basic_reject(tag, requeue=True)

    def publish(self, exchange: str, key: str, body: bytes, expires: float) -> None:
        """Publish a message that lives for ``expires`` seconds; see ``was_returned``."""
        with self._translated():
            if self._settings.is_memory:
                message = self._channel.prepare_message(body)
                self._channel.basic_publish(message, exchange, key)
                return
            message = amqp.Message(body, delivery_mode=1, expiration=str(int(expires * 1000)))
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
            raise self._unavailable(ConnectionError("the connection is lost"))
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
        except _FOREIGN as e:
            raise self._unavailable(e) from e

    def beat(self) -> None:
        """Send a heartbeat if it is time to; notice when the broker sent none."""
        if not self._settings.is_memory:
            with self._translated():
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

    def _asked(self, ask: ty.Callable[[], None]) -> bool:
        with self._translated():
            try:
                ask()
            except amqp.exceptions.ChannelError as e:
                if str(e.reply_code) != "404" or "down or inaccessible" in str(e.reply_text):
                    raise
                return False
        return True

    @contextlib.contextmanager
    def _translated(self) -> ty.Iterator[None]:
        try:
            yield
        except _FOREIGN as e:
            raise self._unavailable(e) from e

    def _unavailable(self, e: BaseException) -> errors.BrokerUnavailable:
        text = str(getattr(e, "reply_text", None) or e) or type(e).__name__
        return errors.BrokerUnavailable(url=f"{self._settings.url} (at {self._host})",
                                        reason=" ".join(text.split())[:300])


def _raw(message: ty.Any) -> bytes:
    """The body's bytes; oslo.messaging's ``kombu_compression`` is undone, up to a limit."""
    body = message.body
    raw: bytes = body.encode() if isinstance(body, str) else bytes(body)
    headers = getattr(message, "headers", None)
    properties = message.properties
    if headers is None:
        headers = properties.get("application_headers")
    kind = headers.get("compression") if isinstance(headers, dict) else None
    return _inflated(raw, kind) if kind else raw


def _inflated(raw: bytes, kind: object) -> bytes:
    """One byte more than a reader of envelopes takes is enough: it will be refused."""
    limit = envelope.MAX_BODY + 1
    try:
        if kind == "application/x-gzip":
            return zlib.decompressobj(wbits=47).decompress(raw, limit)
        if kind == "application/x-bz2":
            return bz2.BZ2Decompressor().decompress(raw, limit)
    except (zlib.error, OSError, ValueError):
        pass
    return raw  # unknown or broken: no reader will take it for an envelope


def consumers_of(settings: BrokerSettings, queue: str) -> int | None:
    """How many consumers ``queue`` has; None where there is no such queue.

    :raises errors.BrokerUnavailable: no host of the broker could be asked.
    """
    problem: errors.BrokerUnavailable | None = None
    for host in settings.hosts:
        try:
            link = Link(settings, host, "rbd-worker question")
        except errors.BrokerUnavailable as e:
            problem = e
            continue
        try:
            state = link.queue_state(queue)
        finally:
            link.close()
        return None if state is None else state.consumers
    raise problem or errors.BrokerUnavailable(url=settings.url, reason="no host is configured")
