# SPDX-License-Identifier: Apache-2.0
"""Hears what Nova sends to this host's compute service, without taking anything away.

One thread: it connects to one of the broker's hosts, listens there for as
long as that goes well (see ``listening``), and goes on to the next host with a
growing pause when it does not.  A reader follows a message from here by way
of ``listening`` and ``envelope`` to ``casts``.
"""

import dataclasses
import itertools
import logging
import os
import random
import threading
import typing as ty

from rbd_worker import errors
from rbd_worker.triggers.broker import BrokerSettings
from rbd_worker.triggers.link import Link, consumers_of
from rbd_worker.triggers.listening import Handler, Listening, StopSignal, described
from rbd_worker.triggers.probe import Probe
from rbd_worker.triggers.tap_queue import TapQueue
from rbd_worker.triggers.tap_status import Board, TapState, TapStatus

__all__ = ["Handler", "Tap", "TapOptions", "TapState", "TapStatus", "consumers_of"]

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TapOptions:
    """The ``tap_*`` options of ``[rbd_worker]``; times in seconds."""

    prefetch: int = 50
    queue_expires: int = 86400
    message_ttl: int = 900
    max_length: int = 20000
    probe_interval: int = 20


class Tap:
    """Calls ``handler`` with the body of every message that may concern a live migration.

    :param host: this host's name as Nova knows it, part of the routing keys.
    :param handler: called in the tap's thread, one message after the other.
        Having returned, it has made the message durable.  Raising
        ``errors.JournalUnusable`` has it called again later with the same
        message; any other exception refuses the message for good.  The same
        message may come more than once.
    """

    def __init__(self, settings: BrokerSettings, host: str, options: TapOptions,
                 handler: Handler) -> None:
        self._settings = settings
        self._options = options
        self._handler = handler
        self._name = f"rbd-worker tap {host} {os.getpid()}"
        self._queue = TapQueue(settings, host, expires=options.queue_expires,
                               message_ttl=options.message_ttl, max_length=options.max_length)
        self._probe = Probe(options.probe_interval)
        self._board = Board()
        self._stop = StopSignal()
        self._thread = threading.Thread(target=self._run, name="tap", daemon=True)

    def start(self) -> None:
        """Returns at once; the broker need not be there yet."""
        self._thread.start()

    def stop(self, timeout: float = 30) -> bool:
        """Let the message in hand be finished, then disconnect; False where that took too long."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def is_hearing(self) -> bool:
        """True while a probe has proven that casts reach the queue."""
        return self._board.state is TapState.HEARING

    def wait_hearing(self, timeout: float) -> bool:
        return self._board.wait_for(TapState.HEARING, timeout)

    def status(self) -> TapStatus:
        return self._board.status(self._queue.name, self._probe.last_seen)

    # -- the thread --------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        for host in itertools.cycle(self._settings.hosts):
            self._board.show(TapState.CONNECTING, str(host))
            was_heard, problem = self._listen(host)
            if self._stop.is_set():
                break
            failures = 1 if was_heard else failures + 1
            pause = self._pause(failures)
            LOG.warning("tap: not connected: %s; next attempt in %.1f s", problem, pause)
            if self._stop.wait(pause):
                break
            self._board.counters.reconnects += 1
        self._board.show(TapState.STOPPED)

    def _listen(self, host: ty.Any) -> tuple[bool, str]:
        """Connect and hear until that fails; whether a probe was seen, and what went wrong."""
        seen = self._probe.last_seen
        problem = "the connection ended"
        link = None
        try:
            link = Link(self._settings, host, self._name)
            Listening(link, self._queue, self._probe, self._handler, self._board, self._stop,
                      prefetch=self._options.prefetch, heartbeat=self._settings.heartbeat).run()
        except errors.BrokerUnavailable as e:
            problem = str(e)
        except Exception as e:  # noqa: BLE001 - the thread's main: it must go on hearing
            LOG.error("tap: not foreseen: %s", described(e))
            problem = type(e).__name__
        finally:
            if not self._stop.is_set():
                self._board.show(TapState.CONNECTING, problem)
            if link is not None:
                link.close()
        return self._probe.last_seen != seen, problem

    def _pause(self, failures: int) -> float:
        """Seconds; none while another host of this round is untried, random to spread a crowd."""
        rounds, untried = divmod(failures, len(self._settings.hosts))
        if untried:
            return 0.0
        seconds = self._settings.retry_start + self._settings.retry_step * (rounds - 1)
        return random.uniform(0.5, 1) * min(self._settings.retry_max, seconds)
