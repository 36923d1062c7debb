# SPDX-License-Identifier: Apache-2.0
"""Proof that the tap still hears: a message that goes out must come back.

When RabbitMQ restarts, it forgets an exchange that is not durable together
with the bindings of queues that are.  The queue stays, the connection comes
back, and nothing arrives any more, without an error.  So a small message is
published to Nova's exchange now and then, under a key that only this queue is
bound with.
"""

import collections.abc
import secrets
import time

#: Seconds that a probe may take where nothing else is in the queue.
RETURN_SECONDS = 5.0
_BEGINNING = b"rbd-worker probe "


class Probe:
    """Times in seconds of ``clock``.

    :param interval: between two probes.
    :ivar last_seen: wall-clock time of the last probe that came back, or None.
    """

    def __init__(self, interval: float,
                 clock: collections.abc.Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._patience = min(interval, RETURN_SECONDS)
        self._clock = clock
        self._body: bytes | None = None
        self._sent = self._due = 0.0
        self.last_seen: float | None = None

    @property
    def deadline(self) -> float:
        """When the next one is to be sent, or the one that is out is overdue."""
        return self._due

    @property
    def is_out(self) -> bool:
        return self._body is not None

    def send(self) -> bytes:
        """The body of a new probe; an older one that is still out no longer counts."""
        self._body = _BEGINNING + secrets.token_hex(8).encode()
        self._sent = self._clock()
        self.extend()
        return self._body

    def extend(self) -> None:
        """Give the probe that is out more time: other messages are before it."""
        self._due = self._clock() + self._patience

    def came_back(self, body: bytes) -> bool:
        """Take a returned probe; False for one of an earlier time."""
        if body != self._body:
            return False
        self._body = None
        self.last_seen = time.time()
        self._due = max(self._clock(), self._sent + self._interval)
        return True

    def hurry(self) -> None:
        """Forget what is out; the next one is due at once."""
        self._body = None
        self._due = self._clock()
