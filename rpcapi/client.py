# SPDX-License-Identifier: Apache-2.0
"""The calls, one method each; the only place that knows oslo.messaging's client.

Every call has a time limit of its own and asks the server for heartbeats
(``call_monitor_timeout``), so that a dead peer is noticed in seconds although
a large copy may take minutes.  A host where no worker ever ran is noticed at
once, because messages have to be routable (``at_least_once``).

What oslo.messaging raises depends on its driver and on the class at the other
end: an exception of ours arrives with the peer's traceback in its text, a
built-in one as itself, others as ``RemoteError``.  All of that ends here.
"""

import contextlib
import typing as ty

import oslo_messaging
from oslo_config import cfg

import rpcapi
from rpcapi import errors, fields, payloads

#: Seconds without a sign of life after which a peer counts as gone.
MONITOR_SECONDS = 5
#: Seconds for a question that is answered from memory, libvirt or the journal.
ASK_SECONDS = 5
#: Seconds for a call that may move files.
COPY_SECONDS = 3600
#: Attempts to publish after the first; oslo.messaging's default is to try for ever.
PUBLISH_RETRIES = 1

#: What every worker understands; each call names the version that brought it.
OLDEST = "1.0"

#: Longest name of a queue in bytes, as AMQP carries it.
MAX_QUEUE_NAME = 255

#: A host's name that cannot be one.
_NOBODY = "-"

_ANSWERS = (errors.PeerRefused, errors.PeerBusy, errors.PeerUndecided)
#: The server's complaints, as class names where they come from another process.
_UNKNOWN_THERE = ("UnsupportedVersion", "NoSuchMethod")

P = ty.TypeVar("P", bound=fields.Payload)


class Unreachable(Exception):
    """No answer: no worker, no broker, or no time left."""


class TooNew(Exception):
    """The peer does not know this method or version."""


class Client:
    """Calls the worker of another host.

    Thread-safe.  Raises :class:`Unreachable`, :class:`TooNew`, the classes of
    :mod:`rpcapi.errors`, and :class:`fields.BadPayload` for an answer that
    breaks the contract.

    :param transport: from ``oslo_messaging.get_rpc_transport`` with
        ``allowed_remote_exmods=rpcapi.errors.REMOTE_MODULES``.
    :param version_cap: oldest RPC version among the peers, as ``"1.0"``; None
        for no cap.
    :param broker: what to call RabbitMQ where it cannot be reached; no password in it.
    """

    def __init__(self, transport: oslo_messaging.Transport,
                 version_cap: str | None = None, broker: str = "") -> None:
        target = oslo_messaging.Target(
            exchange=rpcapi.EXCHANGE, topic=rpcapi.TOPIC, version=OLDEST)
        self._client = oslo_messaging.get_rpc_client(
            transport, target, version_cap=version_cap, retry=PUBLISH_RETRIES,
            transport_options=oslo_messaging.TransportOptions(at_least_once=True))
        self._broker = f" at {broker}" if broker else ""
        self._reached_broker = False

    def describe(self, host: str) -> payloads.Description:
        """Who runs on ``host``. Since 1.0."""
        return self.call(host, "describe", payloads.Description, ASK_SECONDS)

    def pre_live_migration(self, host: str,
                           request: payloads.PrepareRequest) -> payloads.PrepareReply:
        """Make ``host`` ready for a guest. Since 1.0. Safe to repeat."""
        return self.call(host, "pre_live_migration", payloads.PrepareReply,
                          COPY_SECONDS, request)

    def read_chunk(self, host: str, request: payloads.ChunkRequest) -> payloads.Chunk:
        """A piece of a file that ``host`` has pinned. Since 1.0."""
        return self.call(host, "read_chunk", payloads.Chunk, 60, request)

    def post_live_migration(self, host: str,
                            request: payloads.FinishRequest) -> payloads.FinishReply:
        """Hand over the files as they ended. Since 1.0. Safe to repeat."""
        return self.call(host, "post_live_migration", payloads.FinishReply,
                          COPY_SECONDS, request)

    def rollback_live_migration(self, host: str, request: payloads.RollbackRequest,
                                ) -> payloads.RollbackReply:
        """Let ``host`` drop what it staged or made. Since 1.0. Safe to repeat."""
        return self.call(host, "rollback_live_migration", payloads.RollbackReply,
                          60, request)

    def testify(self, host: str, request: payloads.TestifyRequest) -> payloads.TestifyReply:
        """What ``host`` observes of some instances right now. Since 1.0."""
        return self.call(host, "testify", payloads.TestifyReply, ASK_SECONDS, request)

    def look_again(self, host: str, request: payloads.LookRequest) -> payloads.LookReply:
        """Something was heard that makes a look at a migration worthwhile. Since 1.0."""
        return self.call(host, "look_again", payloads.LookReply, ASK_SECONDS, request)

    def audit(self, host: str, request: payloads.AuditRequest) -> payloads.AuditReply:
        """Have ``host`` look at its directories without a guest. Since 1.0."""
        return self.call(host, "audit", payloads.AuditReply, COPY_SECONDS, request)

    def who_holds(self, request: payloads.WhoHoldsRequest) -> None:
        """Ask all workers at once; holders send ``holding`` to the asker. Since 1.0."""
        self.cast_all("who_holds", request)

    def holding(self, host: str, report: payloads.HoldingReport) -> None:
        """Tell ``host`` what it asked all about. Since 1.0."""
        self.cast(host, "holding", report)

    # -- for the modules of this package that have a noun of their own ----------

    def call(self, host: str, method: str, reply: type[P], seconds: float,
             request: fields.Payload | None = None, version: str = OLDEST) -> P:
        """Ask ``host`` and wait for its answer.

        :param seconds: time limit of the whole call.
        :param version: of the RPC API that brought ``method``.
        """
        self._check_cap(method, version)
        _check_name(host)
        prepared = self._client.prepare(
            server=host, version=version, timeout=seconds,
            call_monitor_timeout=MONITOR_SECONDS if seconds > MONITOR_SECONDS else None)
        arguments = {} if request is None else {"request": request.to_wire()}
        with _translated(method, version):
            self._reach_broker()
            answer = prepared.call({}, method, **arguments)
        return reply.from_wire(answer)

    def cast(self, host: str, method: str, request: fields.Payload,
             version: str = OLDEST) -> None:
        """Tell ``host`` something and wait for nothing."""
        _check_name(host)
        self._cast(method, request, version, server=host)

    def cast_all(self, method: str, request: fields.Payload, version: str = OLDEST) -> None:
        """Tell all workers something and wait for nothing."""
        self._cast(method, request, version, fanout=True)

    def _cast(self, method: str, request: fields.Payload, version: str,
              **target: ty.Any) -> None:
        self._check_cap(method, version)
        with _translated(method, version):
            self._reach_broker()
            self._client.prepare(version=version, **target).cast(
                {}, method, request=request.to_wire())

    def may_send(self, version: str) -> bool:
        """Whether the version cap allows it."""
        return bool(self._client.can_send_version(version))

    def _check_cap(self, method: str, version: str) -> None:
        if not self.may_send(version):
            raise TooNew(f"{method} needs {version}, which the version cap forbids")

    def _reach_broker(self) -> None:
        """Raise where RabbitMQ is away, once before the first call.

        The first call opens the connection for replies, and oslo.messaging
        waits for ever there.  A cast to nobody fails at once.
        """
        if self._reached_broker:
            return
        try:
            self._client.prepare(server=_NOBODY).cast({}, "describe")
        except oslo_messaging.MessageUndeliverable:
            pass
        except Exception as e:  # oslo.messaging's, kombu's, amqp's or the socket's
            raise Unreachable(f"RabbitMQ cannot be reached{self._broker} ({e})") from e
        self._reached_broker = True


def _check_name(host: str) -> None:
    """Raise where no worker can be called so.

    amqp would fail in the middle of a message, and end the connection that all calls share.
    """
    if len(f"{rpcapi.TOPIC}.{host}") > MAX_QUEUE_NAME:
        raise Unreachable("the name is too long for a queue of RabbitMQ")


@contextlib.contextmanager
def _translated(method: str, version: str) -> ty.Iterator[None]:
    try:
        yield
    except Unreachable:
        raise
    except _ANSWERS as e:
        raise _plain(e) from e
    except oslo_messaging.MessagingTimeout as e:
        raise Unreachable(f"no answer to {method} in time") from e
    except oslo_messaging.MessageUndeliverable as e:
        raise Unreachable("no worker was ever started there") from e
    except (oslo_messaging.UnsupportedVersion, oslo_messaging.NoSuchMethod) as e:
        raise TooNew(f"{method} {version} is not known there") from e
    except oslo_messaging.RemoteError as e:
        if e.exc_type in _UNKNOWN_THERE:
            raise TooNew(f"{method} {version} is not known there") from e
        raise errors.PeerBusy(f"{method} failed there: {e.exc_type}") from e
    except Exception as e:  # a built-in one raised there, or any trouble with the broker
        raise Unreachable(f"{method} failed: {type(e).__name__}") from e


def _plain(answer: Exception) -> Exception:
    """The same answer without the peer's traceback, which oslo.messaging adds to its text."""
    for kind in _ANSWERS:
        if isinstance(answer, kind):
            return kind(*answer.args)
    return answer


def transport_for(conf: cfg.ConfigOpts) -> oslo_messaging.Transport:
    """The RPC transport that ``transport_url`` and ``[oslo_messaging_rabbit]`` describe.

    Except for ``use_queue_manager``, which names the queue of answers after host and process
    (``hostname``, ``processname``).  Where nova.conf says ``processname`` that is nova-compute's
    own queue, and Nova would miss answers; else two rbd-workerctl at a time have the same one.
    A query in the URL wins over the files.
    """
    url = oslo_messaging.TransportURL.parse(conf)
    url.query["use_queue_manager"] = "false"
    return oslo_messaging.get_rpc_transport(
        conf, url, allowed_remote_exmods=list(errors.REMOTE_MODULES))
