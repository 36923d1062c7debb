# SPDX-License-Identifier: Apache-2.0
"""The RPC server that other hosts' workers call.

Each endpoint is a class of its own, for the version that brought its methods.
Runs in oslo.messaging's threads; a call may take as long as its files do, the
caller meanwhile gets heartbeats.
"""

import contextlib
import logging
import threading
import typing as ty

import msgspec
import oslo_messaging

import rpcapi
from rbd_worker import news
from rbd_worker.migration.audit import Audit
from rbd_worker.migration.desk import Desk
from rbd_worker.migration.testimony import Testimonies
from rbd_worker.triggers.edge import Counted, answer, expected, heard
from rbd_worker.triggers.parcels import Sender
from rpcapi import payloads


class Endpoint:
    """The methods of rpcapi 1.0; every one takes and gives plain JSON types."""

    target = oslo_messaging.Target(version="1.0")

    def __init__(self, desk: Desk, testimonies: Testimonies, audit: Audit,
                 describe: ty.Callable[[], payloads.Description],
                 parcels: Sender | None = None) -> None:
        self._desk = desk
        self._parcels = parcels
        self._testimonies = testimonies
        self._audit = audit
        self._describe = describe

    @expected
    def describe(self, _context: ty.Any) -> dict[str, ty.Any]:
        return self._describe().to_wire()

    @expected
    def pre_live_migration(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(payloads.PrepareRequest, request, self._desk.pre_live_migration)

    @expected
    def read_chunk(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(payloads.ChunkRequest, request, self._read_chunk)

    @expected
    def post_live_migration(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(payloads.FinishRequest, request, self._desk.post_live_migration)

    @expected
    def rollback_live_migration(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(payloads.RollbackRequest, request, self._desk.rollback_live_migration)

    @expected
    def look_again(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(payloads.LookRequest, request, self._desk.look_again)

    @expected
    def testify(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(payloads.TestifyRequest, request, self._testify)

    @expected
    def audit(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(payloads.AuditRequest, request, self._run_audit)

    def who_holds(self, _context: ty.Any, request: object) -> None:
        heard(payloads.WhoHoldsRequest, request, self._audit.who_holds)

    def holding(self, _context: ty.Any, request: object) -> None:
        heard(payloads.HoldingReport, request, self._audit.holding)

    def _read_chunk(self, request: payloads.ChunkRequest) -> payloads.Chunk:
        chunk = self._desk.read_chunk(request)
        if not (self._parcels and request.queue and chunk.data):
            return chunk
        if not self._parcels.send(request.queue, request.token, chunk.data):
            return chunk
        return msgspec.structs.replace(chunk, data=b"", apart=len(chunk.data))

    def _run_audit(self, request: payloads.AuditRequest) -> payloads.AuditReply:
        report = self._audit.run(request.act)
        return payloads.AuditReply(directories=report.directories, findings=report.findings)

    def _testify(self, request: payloads.TestifyRequest) -> payloads.TestifyReply:
        return payloads.TestifyReply(testimonies=tuple(
            self._testimonies.testify(question) for question in request.questions))


class PeerServer:
    """Starts in the background: a broker that is away must not hold up recovery."""

    def __init__(self, transport: oslo_messaging.Transport, host: str,
                 *endpoints: object, told: news.Listener | None = None) -> None:
        if told is not None:
            endpoints = tuple(Counted(endpoint, told) for endpoint in endpoints)
        target = oslo_messaging.Target(exchange=rpcapi.EXCHANGE, topic=rpcapi.TOPIC, server=host)
        self._server = oslo_messaging.get_rpc_server(transport, target, endpoints)
        self._thread = threading.Thread(target=self._server.start, name="peer-server-start",
                                        daemon=True)
        self._is_stopping = False

    def start(self) -> None:
        self._thread.start()

    def wait_started(self, seconds: float) -> bool:
        """True as soon as peers can call, False where the broker is still away."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def is_deaf(self) -> bool:
        """True where oslo.messaging's listening thread has ended without a stop.

        It waits for a broker that is away, and none of our errors ends it; so nothing but a
        new start brings it back.
        """
        thread: threading.Thread | None = getattr(self._server.listener, "_listen_thread", None)
        if thread is None or thread.ident is None or self._is_stopping:
            return False  # not started yet, or with another driver
        return not thread.is_alive()

    def stop(self, knock: ty.Callable[[], None], seconds: float = 5.0) -> None:
        """Take no further call and let those in hand end, as far as they do within ``seconds``.

        oslo.messaging waits for as long as the slowest call takes.

        :param knock: sends this server any message.  Its listener, where nothing has come for
            a while, would see the stop up to 5 s later.
        """
        self._is_stopping = True
        if not self.wait_started(0):
            return
        ending = threading.Thread(target=self._end, name="peer-server-stop", daemon=True)
        ending.start()
        threading.Thread(target=_knock_until, args=(ending, knock), daemon=True,
                         name="peer-server-knock").start()
        ending.join(seconds)

    def _end(self) -> None:
        with _unheard_cancel():
            self._server.stop()
            self._server.wait()


def _knock_until(ending: threading.Thread, knock: ty.Callable[[], None]) -> None:
    while ending.is_alive():
        ending.join(0.05)
        knock()
        ending.join(0.5)


@contextlib.contextmanager
def _unheard_cancel() -> ty.Iterator[None]:
    """Without amqp's warning that a consumer is told of the end of its queue.

    oslo.messaging deletes its fanout queue while it still listens to it.
    """
    log = logging.getLogger("amqp")

    def is_news(record: logging.LogRecord) -> bool:
        return "during closing channel" not in str(record.msg)

    log.addFilter(is_news)
    try:
        yield
    finally:
        log.removeFilter(is_news)
