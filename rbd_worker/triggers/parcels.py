# SPDX-License-Identifier: Apache-2.0
"""Pieces of large files as messages of their own, outside the RPC calls that ask for them.

oslo.messaging carries JSON in JSON, where bytes are base64: for each MiB both
ends spend more time on that than on everything else.  So the destination of a
large file declares a queue of its own, names it in its calls, and the source
puts the bytes there before it answers.  The call stays what it was: it asks,
and it brings the refusals.  Where the queue cannot be had, or a parcel does
not come, the piece comes with the answer as it always can.

Both connections are there only while a file is pulled, and go
:data:`IDLE_SECONDS` after the last piece.
"""

import concurrent.futures
import dataclasses
import logging
import secrets
import threading
import time

from rbd_worker import errors
from rbd_worker.triggers.broker import BrokerSettings
from rbd_worker.triggers.link import Delivery, Link, reached
from rbd_worker.triggers.listening import StopSignal
from rbd_worker.triggers.topology import QueueDiffers
from rpcapi import payloads

LOG = logging.getLogger(__name__)

#: How long a connection waits for the next piece.
IDLE_SECONDS = 20.0
#: After a piece did not come so, or could not go so, answers bring them for so long.
PAUSE_SECONDS = 60.0
#: Until there is a queue, or the first piece comes with its answer.
_OPEN_SECONDS = 5.0
#: RabbitMQ drops what nobody fetches.
_EXPIRES_SECONDS = 60.0
_QUEUE_BYTES = 16 * payloads.MAX_PARCEL_BYTES
_PREFETCH = 8


class Sender:
    """The source's end; thread-safe."""

    def __init__(self, settings: BrokerSettings, host: str) -> None:
        self._settings = _without_heartbeat(settings)
        self._name = f"rbd-worker pieces from {host}"
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._used = 0.0
        self._broken = -PAUSE_SECONDS

    def send(self, queue: str, token: str, body: bytes) -> bool:
        """Put ``body`` into a peer's queue; False where RabbitMQ could not be given it.

        True is no promise: a queue that is gone tells nobody.
        """
        if self._settings.is_memory or time.monotonic() - self._broken < PAUSE_SECONDS:
            return False
        with self._lock:
            try:
                link = self._open()
                link.publish("", queue, body, _EXPIRES_SECONDS, correlation=token)
            except errors.BrokerUnavailable as e:
                LOG.debug("a piece goes with its answer: %s", e.sentence)
                self._broken = time.monotonic()
                self._close()
                return False
            self._used = time.monotonic()
            return True

    def _open(self) -> Link:
        if self._link is None:
            self._link = reached(self._settings, self._name)
            self._close_later(IDLE_SECONDS)
        return self._link

    def _close_later(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self._close_if_idle)
        timer.daemon = True
        timer.start()

    def _close_if_idle(self) -> None:
        with self._lock:
            if self._link is None:
                return
            idle = time.monotonic() - self._used
            if idle < IDLE_SECONDS:
                self._close_later(IDLE_SECONDS - idle)
            else:
                self._close()

    def _close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


@dataclasses.dataclass(frozen=True)
class Parcel:
    """What is awaited in ``queue`` under ``token``."""

    queue: str
    token: str
    _content: "concurrent.futures.Future[bytes]"

    @property
    def has_come(self) -> bool:
        return self._content.done() and self._content.exception() is None

    def content(self, seconds: float) -> bytes | None:
        """Its bytes; None where they did not come within ``seconds``."""
        try:
            return self._content.result(seconds)
        except (concurrent.futures.TimeoutError, errors.BrokerUnavailable):
            return None


class Receiver:
    """The destination's end; thread-safe."""

    def __init__(self, settings: BrokerSettings, host: str) -> None:
        self._settings = _without_heartbeat(settings)
        self._name = f"rbd-worker pieces to {host}"
        self._lock = threading.Lock()
        self._mailbox: _Mailbox | None = None
        self._broken = -PAUSE_SECONDS

    def expect(self) -> Parcel | None:
        """Be ready for one piece; None where it has to come with its answer.

        The first call opens the connection, and waits some seconds at most.
        """
        if self._settings.is_memory or time.monotonic() - self._broken < PAUSE_SECONDS:
            return None
        with self._lock:
            if self._mailbox is None or not self._mailbox.is_open:
                self._mailbox = _Mailbox(self._settings, self._name)
            mailbox = self._mailbox
        parcel = mailbox.expect(_OPEN_SECONDS)
        if parcel is None:
            self._broken = time.monotonic()
        return parcel

    def forget(self, parcel: Parcel) -> None:
        """It need not come any more; if it did not, nor do the next ones for a while."""
        if not parcel.has_come:
            self._broken = time.monotonic()
        mailbox = self._mailbox
        if mailbox is not None:
            mailbox.forget(parcel.token)


class _Mailbox:
    """One queue and the thread that empties it, for as long as somebody expects something."""

    def __init__(self, settings: BrokerSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._queue = f"{payloads.PARCEL_QUEUE}.{secrets.token_hex(16)}"
        self._lock = threading.Lock()
        self._expected: dict[str, concurrent.futures.Future[bytes]] = {}
        self._used = time.monotonic()
        self._ready = threading.Event()
        self._stop = StopSignal()
        self.is_open = True
        threading.Thread(target=self._run, name="parcels", daemon=True).start()

    def expect(self, seconds: float) -> Parcel | None:
        self._ready.wait(seconds)
        with self._lock:
            if not (self.is_open and self._ready.is_set()):
                return None
            parcel = Parcel(self._queue, secrets.token_hex(16), concurrent.futures.Future())
            self._expected[parcel.token] = parcel._content
            self._used = time.monotonic()
        return parcel

    def forget(self, token: str) -> None:
        with self._lock:
            self._expected.pop(token, None)

    # -- the thread --------------------------------------------------------------

    def _run(self) -> None:
        link = None
        try:
            link = reached(self._settings, self._name)
            link.topology.declare_own_queue(self._queue, {
                "x-max-length-bytes": _QUEUE_BYTES, "x-message-ttl": int(_EXPIRES_SECONDS * 1000)})
            link.consume(self._queue, _PREFETCH, lambda delivery: self._arrived(link, delivery))
            self._ready.set()
            LOG.info("pieces of large files come by a queue of their own, until %d s pass "
                     "without one", IDLE_SECONDS)
            while self._is_wanted():
                if link.wait(1.0, self._stop.wake):
                    link.drain()
        except (errors.BrokerUnavailable, QueueDiffers) as e:
            LOG.debug("pieces come with their answers: %s", e.sentence)
        finally:
            self._end()
            if link is not None:
                link.close()
            self._stop.close()

    def _arrived(self, link: Link, delivery: Delivery) -> None:
        link.ack_up_to(delivery.tag)
        with self._lock:
            waiting = self._expected.pop(delivery.correlation, None)
            self._used = time.monotonic()
        if waiting is not None and len(delivery.body) <= payloads.MAX_PARCEL_BYTES:
            waiting.set_result(delivery.body)

    def _is_wanted(self) -> bool:
        with self._lock:
            self.is_open = time.monotonic() - self._used < IDLE_SECONDS or bool(self._expected)
            return self.is_open

    def _end(self) -> None:
        with self._lock:
            self.is_open = False
            left, self._expected = self._expected, {}
        self._ready.set()
        for waiting in left.values():
            waiting.set_exception(errors.BrokerUnavailable(
                url=self._settings.url, reason="the connection for pieces has ended"))


def _without_heartbeat(settings: BrokerSettings) -> BrokerSettings:
    """Nothing is read while nothing is expected; a dead peer shows by TCP's own timeout."""
    return dataclasses.replace(settings, heartbeat=0)
