# SPDX-License-Identifier: Apache-2.0
"""Rollbacks that Nova ordered before anybody here waits for them.

Nova may give a migration up faster than the source's worker asks this host for
the first time.  The hint is then kept for the task that is about to be opened.
"""

import threading
import typing as ty

#: How long, in seconds: longer than the source's worker may take to ask.
_SECONDS = 60
#: So many of them; whoever floods this host with rollbacks gains no more memory than that.
_MOST = 1000


class RollbackHints:
    """Of each instance the last one; thread-safe.

    :param clock: gives the time in seconds.
    """

    def __init__(self, clock: ty.Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._at: dict[str, float] = {}

    def keep(self, instance: str) -> None:
        with self._lock:
            self._at.pop(instance, None)
            self._at[instance] = self._clock()
            if len(self._at) > _MOST:
                del self._at[next(iter(self._at))]  # the oldest

    def take(self, instance: str) -> bool:
        """Whether there is one that is not too old; there is none afterwards."""
        with self._lock:
            at = self._at.pop(instance, None)
        return at is not None and self._clock() - at < _SECONDS
