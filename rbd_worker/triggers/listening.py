# SPDX-License-Identifier: Apache-2.0
"""The tap's life on one connection: wait for the exchange, bind, hear, acknowledge.

A message that is certain to be none of our business is dropped by a look at
its bytes.  Any other goes to the handler, which has written its journal when
it returns, and only then is acknowledged.  Acknowledgements of dropped ones are gathered,
because one can stand for many.

Where the journal cannot be written, the message in hand is kept, the flow is
stopped at the broker, and the handler is asked again until it succeeds.  Any
other error of the handler ends the matter for that message: what cannot be
handled once cannot come back for ever.
"""

import collections
import collections.abc
import logging
import socket
import threading
import time
import traceback
import typing as ty

from rbd_worker import errors
from rbd_worker.triggers import envelope
from rbd_worker.triggers.link import Delivery, Link
from rbd_worker.triggers.probe import Probe
from rbd_worker.triggers.tap_queue import TapQueue
from rbd_worker.triggers.tap_status import Board, TapState

LOG = logging.getLogger(__name__)

Handler = collections.abc.Callable[[bytes], None]

#: Seconds that a gathered acknowledgement waits for more to come.
_GATHER_SECONDS = 0.02
#: Seconds between two looks for the exchange, and two attempts on the journal.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0
#: Probes in a row that may be lost before the connection itself is given up.
_MOST_LOST = 2


class StopSignal:
    """Asks the tap's thread to end, also while it waits for the broker."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.wake, self._bell = socket.socketpair()

    def set(self) -> None:
        self._event.set()
        self._bell.send(b"!")

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        return self._event.wait(seconds)

    def close(self) -> None:
        self.wake.close()
        self._bell.close()


class Listening:
    """Used by the tap's thread, for the life of ``link``."""

    def __init__(self, link: Link, queue: TapQueue, probe: Probe, handler: Handler, board: Board,
                 stop: StopSignal, *, prefetch: int, heartbeat: int) -> None:
        self._link = link
        self._topology = link.topology
        self._queue = queue
        self._probe = probe
        self._handler = handler
        self._board = board
        self._counters = board.counters
        self._stop = stop
        self._prefetch = prefetch
        self._beat_pause = max(heartbeat / 4, 0.25) if heartbeat else float("inf")
        self._next_beat = time.monotonic() + self._beat_pause
        self._deliveries: collections.deque[Delivery] = collections.deque()
        self._consumers: dict[str, str] = {}
        self._unacked = 0
        self._last_tag: ty.Any = None
        self._lost = 0

    def run(self) -> None:
        """Hear until the stop signal.

        :raises errors.BrokerUnavailable: the connection is of no more use.
        """
        if not self._exchange_is_there():
            return
        self._begin()
        while not self._stop.is_set():
            self._work_off()
            self._wait(self._patience())
            if not self._deliveries:
                self._at_rest()
            self._check_probe()
        self._acknowledge()

    # -- before ----------------------------------------------------------------

    def _exchange_is_there(self) -> bool:
        """Wait until Nova has made its exchange; False where the stop came first."""
        pause = _FIRST_PAUSE
        while not self._topology.exchange_exists(self._queue.exchange):
            self._board.show(TapState.WAITING,
                             f"{self._queue.exchange} is made by Nova's services when they start")
            if self._rest(pause):
                return False
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        return True

    def _begin(self) -> None:
        self._queue.ensure(self._topology)
        self._board.show(TapState.LISTENING, f"queue {self._queue.name} at {self._link.host}")
        self._consume()
        self._probe.hurry()

    def _consume(self) -> None:
        for queue in (self._queue.name, self._queue.old):
            if queue is not None and queue not in self._consumers:
                self._consumers[queue] = self._link.consume(
                    queue, self._prefetch, self._deliveries.append)

    # -- time ------------------------------------------------------------------

    def _patience(self) -> float:
        """Seconds until something is to be done although nothing arrives."""
        if self._unacked:
            return _GATHER_SECONDS
        return self._probe.deadline - time.monotonic()

    def _wait(self, seconds: float) -> None:
        """Read what arrives within ``seconds``, and keep the connection alive."""
        until_beat = self._next_beat - time.monotonic()
        if self._link.wait(min(seconds, until_beat), self._stop.wake):
            self._link.drain()
        if time.monotonic() >= self._next_beat:
            self._link.beat()
            self._next_beat = time.monotonic() + self._beat_pause

    def _rest(self, seconds: float) -> bool:
        """Let time pass on a living connection; True where the stop came."""
        end = time.monotonic() + seconds
        while not self._stop.is_set() and time.monotonic() < end:
            self._wait(end - time.monotonic())
        return self._stop.is_set()

    def _at_rest(self) -> None:
        """Nothing is waiting here: acknowledge, and see whether the old queue is empty."""
        self._acknowledge()
        if self._queue.old is None:
            return
        state = self._topology.queue_state(self._queue.old)
        if self._deliveries or (state is not None and state.messages):
            return
        if state is not None:
            self._link.cancel(self._consumers.pop(self._queue.old))
        if not self._deliveries and self._queue.drop_old(self._topology):
            self._queue.ensure(self._topology)
        self._consume()

    # -- messages --------------------------------------------------------------

    def _work_off(self) -> None:
        while self._deliveries and not self._stop.is_set():
            self._take(self._deliveries.popleft())

    def _take(self, delivery: Delivery) -> None:
        if delivery.routing_key == self._queue.probe_key:
            if self._probe.came_back(delivery.body):
                self._proven()
            self._done(delivery)
            return
        self._counters.heard += 1
        if not envelope.may_concern(delivery.body):
            self._counters.dropped += 1
            self._done(delivery)
        elif self._hand_on(delivery):
            self._done(delivery)
            self._acknowledge()

    def _done(self, delivery: Delivery) -> None:
        self._unacked += 1
        self._last_tag = delivery.tag
        if self._unacked >= max(1, self._prefetch // 4):
            self._acknowledge()

    def _acknowledge(self) -> None:
        if self._unacked:
            self._link.ack_up_to(self._last_tag)
            self._unacked = 0

    def _hand_on(self, delivery: Delivery) -> bool:
        """Give a message to the handler; False where the stop came before it was taken."""
        try:
            self._handler(delivery.body)
        except errors.JournalUnusable as e:
            return self._hold(delivery, e)
        except Exception as e:  # noqa: BLE001 - whatever it is, the next message must be heard
            self._counters.refused += 1
            LOG.warning("tap: a message was refused: %s", described(e))
        else:
            self._counters.handed_on += 1
        return True

    def _hold(self, delivery: Delivery, reason: errors.JournalUnusable) -> bool:
        """Keep one message, stop the flow of others, and try until the journal takes it."""
        self._acknowledge()
        self._stop_flow()
        pause = _FIRST_PAUSE
        while True:
            self._board.show(TapState.HELD, reason.sentence)
            if self._rest(pause):
                return False  # not acknowledged: the broker delivers it again
            try:
                self._handler(delivery.body)
            except errors.JournalUnusable as e:
                reason, pause = e, min(pause * 2, _LONGEST_PAUSE)
            except Exception as e:  # noqa: BLE001 - as above
                self._counters.refused += 1
                LOG.warning("tap: a message was refused: %s", described(e))
                break
            else:
                self._counters.handed_on += 1
                break
        self._begin()
        return True

    def _stop_flow(self) -> None:
        """No more deliveries; those that are here or on their way go back to the queue."""
        for tag in self._consumers.values():
            self._link.cancel(tag)
        self._consumers.clear()
        while self._deliveries:
            self._link.give_back(self._deliveries.popleft().tag)

    # -- proof -----------------------------------------------------------------

    def _proven(self) -> None:
        self._lost = 0
        self._queue.bind(self._topology)  # one of the others alone may be lost, too
        self._board.show(TapState.HEARING, f"queue {self._queue.name} at {self._link.host}")

    def _check_probe(self) -> None:
        if self._link.was_returned():
            self._probe_lost("RabbitMQ says that its queue is not bound")
        elif time.monotonic() < self._probe.deadline:
            return
        elif self._probe.is_out:
            self._probe_overdue()
        elif self._link.is_blocked:
            self._probe.extend()  # RabbitMQ takes no messages from anybody at the moment
        else:
            self._link.publish(self._queue.exchange, self._queue.probe_key, self._probe.send(),
                               expires=60)

    def _probe_overdue(self) -> None:
        state = self._topology.queue_state(self._queue.name)
        if state is None:
            raise errors.BrokerUnavailable(url=self._queue.name, reason="the queue is gone")
        self._work_off()
        if not self._probe.is_out:
            return
        if state.messages or self._link.is_blocked:
            self._probe.extend()
        else:
            self._probe_lost("it did not come back")

    def _probe_lost(self, reason: str) -> None:
        self._lost += 1
        self._counters.rebinds += 1
        LOG.warning("tap: a probe through exchange %s was lost: %s; casts may have been missed, "
                    "the queue is bound again", self._queue.exchange, reason)
        self._board.show(TapState.LISTENING, "a probe was lost")
        if self._lost >= _MOST_LOST:
            raise errors.BrokerUnavailable(url=self._link.host,
                                           reason=f"{self._lost} probes in a row were lost")
        self._queue.bind(self._topology)
        self._probe.hurry()


def described(e: Exception) -> str:
    """One line; of a foreign error only its kind and place, since its text may hold a body."""
    if isinstance(e, errors.Error):
        return " ".join(e.sentence.split())
    frames = traceback.extract_tb(e.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(e).__name__}{place}"
