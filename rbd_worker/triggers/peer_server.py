# SPDX-License-Identifier: Apache-2.0
"""The RPC server that other hosts' workers call.

Here, at the edge, arguments are checked by type, length and range
(``rpcapi.payloads``), refusals get the form that a peer understands
(``rpcapi.errors``), and whatever is not foreseen is logged and answered
without its text.  Runs in oslo.messaging's threads; a call may take as long
as its files do, the caller meanwhile gets heartbeats.
"""

import logging
import threading
import typing as ty

import oslo_messaging

import rpcapi
from rbd_worker import errors
from rbd_worker.migration.audit import Audit
from rbd_worker.migration.desk import Desk
from rbd_worker.migration.testimony import Testimonies
from rpcapi import errors as peer_errors
from rpcapi import fields, payloads

LOG = logging.getLogger(__name__)

_EXPECTED = (peer_errors.PeerRefused, peer_errors.PeerBusy, peer_errors.PeerUndecided)

P = ty.TypeVar("P", bound=fields.Payload)


def _expected(method: ty.Callable[..., dict[str, ty.Any]]) -> ty.Callable[..., dict[str, ty.Any]]:
    """The peer gets these errors as they are; oslo.messaging logs them without a traceback."""
    decorated = oslo_messaging.expected_exceptions(*_EXPECTED)(method)
    return ty.cast(ty.Callable[..., dict[str, ty.Any]], decorated)


class Endpoint:
    """The methods of rpcapi 1.0; every one takes and gives plain JSON types."""

    target = oslo_messaging.Target(version=rpcapi.VERSION)

    def __init__(self, desk: Desk, testimonies: Testimonies, audit: Audit,
                 describe: ty.Callable[[], payloads.Description]) -> None:
        self._desk = desk
        self._testimonies = testimonies
        self._audit = audit
        self._describe = describe

    @_expected
    def describe(self, _context: ty.Any) -> dict[str, ty.Any]:
        return self._describe().to_wire()

    @_expected
    def pre_live_migration(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return _answer(payloads.PrepareRequest, request, self._desk.pre_live_migration)

    @_expected
    def read_chunk(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return _answer(payloads.ChunkRequest, request, self._desk.read_chunk)

    @_expected
    def post_live_migration(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return _answer(payloads.FinishRequest, request, self._desk.post_live_migration)

    @_expected
    def rollback_live_migration(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return _answer(payloads.RollbackRequest, request, self._desk.rollback_live_migration)

    @_expected
    def look_again(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return _answer(payloads.LookRequest, request, self._desk.look_again)

    @_expected
    def testify(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return _answer(payloads.TestifyRequest, request, self._testify)

    @_expected
    def audit(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return _answer(payloads.AuditRequest, request, self._run_audit)

    def who_holds(self, _context: ty.Any, request: object) -> None:
        _heard(payloads.WhoHoldsRequest, request, self._audit.who_holds)

    def holding(self, _context: ty.Any, request: object) -> None:
        _heard(payloads.HoldingReport, request, self._audit.holding)

    def _run_audit(self, request: payloads.AuditRequest) -> payloads.AuditReply:
        report = self._audit.run(request.act)
        return payloads.AuditReply(directories=report.directories, findings=report.findings)

    def _testify(self, request: payloads.TestifyRequest) -> payloads.TestifyReply:
        return payloads.TestifyReply(testimonies=tuple(
            self._testimonies.testify(question) for question in request.questions))


def _answer(request_type: type[P], wire: object,
            method: ty.Callable[[P], fields.Payload]) -> dict[str, ty.Any]:
    try:
        return method(request_type.from_wire(wire)).to_wire()
    except fields.BadPayload as e:
        LOG.warning("a call of a peer is refused: %s", e)
        raise peer_errors.PeerRefused(f"the call breaks the contract: {e}") from e
    except errors.Transient as e:
        raise peer_errors.PeerBusy(e.sentence) from e
    except errors.Permanent as e:
        raise peer_errors.PeerRefused(e.sentence) from e
    except errors.Undecided as e:
        raise peer_errors.PeerUndecided(e.sentence) from e
    except Exception as e:
        LOG.exception("a call of a peer failed in a way that is not foreseen")
        raise peer_errors.PeerBusy(f"internal error {type(e).__name__}, see the log there") from e


def _heard(request_type: type[P], wire: object, method: ty.Callable[[P], None]) -> None:
    """A cast: nobody waits for an answer, so an error is only logged."""
    try:
        method(request_type.from_wire(wire))
    except fields.BadPayload as e:
        LOG.warning("a cast of a peer is refused: %s", e)
    except errors.Error as e:
        LOG.warning("a cast of a peer is not followed: %s", e.sentence)
    except Exception:
        LOG.exception("a cast of a peer failed in a way that is not foreseen")


class PeerServer:
    """Starts in the background: a broker that is away must not hold up recovery."""

    def __init__(self, transport: oslo_messaging.Transport, host: str,
                 endpoint: Endpoint) -> None:
        target = oslo_messaging.Target(exchange=rpcapi.EXCHANGE, topic=rpcapi.TOPIC, server=host)
        self._server = oslo_messaging.get_rpc_server(transport, target, [endpoint])
        self._thread = threading.Thread(target=self._server.start, name="peer-server-start",
                                        daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait_started(self, seconds: float) -> bool:
        """True as soon as peers can call, False where the broker is still away."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def stop(self, seconds: float = 5.0) -> None:
        """Take no further call and let those in hand end, as far as they do within ``seconds``.

        oslo.messaging waits for as long as the slowest call takes.
        """
        if self.wait_started(0):
            self._server.stop()
            waiting = threading.Thread(target=self._server.wait, name="peer-server-stop",
                                       daemon=True)
            waiting.start()
            waiting.join(seconds)
