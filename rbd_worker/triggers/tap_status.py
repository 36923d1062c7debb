# SPDX-License-Identifier: Apache-2.0
"""What the tap says of itself: for the operator, and for whoever waits for it."""

import dataclasses
import enum
import logging
import threading
import time

LOG = logging.getLogger(__name__)


class TapState(enum.StrEnum):
    STOPPED = "stopped"
    CONNECTING = "connecting"
    #: Nova has not made its exchange yet, or RabbitMQ was restarted.
    WAITING = "waiting for the exchange"
    #: Bound, and not yet proven by a probe that came back.
    LISTENING = "listening"
    HEARING = "hearing"
    #: The journal cannot be written; one message is kept and tried again.
    HELD = "held"


@dataclasses.dataclass
class Counters:
    """Since the start; written by the tap's thread only.

    :ivar heard: messages of Nova, each counted again where it came again.
    :ivar dropped: of these, certain to be none of our business.
    :ivar handed_on: given to the handler, which took them.
    :ivar refused: given to the handler, which raised an error.
    :ivar reconnects: connections after the first.
    :ivar rebinds: times that a probe was lost and the queue bound again.
    """

    heard: int = 0
    dropped: int = 0
    handed_on: int = 0
    refused: int = 0
    reconnects: int = 0
    rebinds: int = 0


@dataclasses.dataclass(frozen=True)
class TapStatus:
    """:ivar since, last_probe: wall-clock seconds; ``last_probe`` is None before the first."""

    state: TapState
    since: float
    reason: str
    queue: str
    last_probe: float | None
    counters: Counters


class Board:
    """The present state. Written by the tap's thread, read by any."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._state = TapState.STOPPED
        self._since = time.time()
        self._reason = ""
        self.counters = Counters()

    def show(self, state: TapState, reason: str = "") -> None:
        """Change the state; a line of the log where it is another one."""
        with self._changed:
            is_new = state is not self._state
            if is_new:
                self._since = time.time()
            self._state, self._reason = state, reason
            self._changed.notify_all()
        if is_new:
            LOG.info("tap: %s%s", state, f", {reason}" if reason else "")

    @property
    def state(self) -> TapState:
        with self._changed:
            return self._state

    def wait_for(self, state: TapState, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._state is state, timeout)

    def status(self, queue: str, last_probe: float | None) -> TapStatus:
        with self._changed:
            return TapStatus(self._state, self._since, self._reason, queue, last_probe,
                             dataclasses.replace(self.counters))
