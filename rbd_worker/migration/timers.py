# SPDX-License-Identifier: Apache-2.0
"""One thread that wakes tasks when their pause is over; asleep otherwise."""

import heapq
import itertools
import logging
import threading
import time
import typing as ty

LOG = logging.getLogger(__name__)


class Timers:
    """At most one timer a key; a new one for the same key replaces the old."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._heap: list[tuple[float, int, ty.Hashable]] = []
        self._current: dict[ty.Hashable, tuple[int, ty.Callable[[], None]]] = {}
        self._numbers = itertools.count()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="timers", daemon=True)
        self._thread.start()

    def after(self, seconds: float, key: ty.Hashable, action: ty.Callable[[], None]) -> None:
        """Call ``action`` (which must be short) ``seconds`` from now."""
        with self._condition:
            number = next(self._numbers)
            self._current[key] = (number, action)
            heapq.heappush(self._heap, (time.monotonic() + seconds, number, key))
            if len(self._heap) > 2 * len(self._current) + 64:
                self._drop_replaced()
            self._condition.notify()

    def cancel(self, key: ty.Hashable) -> None:
        with self._condition:
            self._current.pop(key, None)

    def stop(self) -> None:
        with self._condition:
            self._stopped = True
            self._condition.notify()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while True:
            with self._condition:
                action = self._due()
                if self._stopped:
                    return
            if action is not None:
                self._act(action)

    def _act(self, action: ty.Callable[[], None]) -> None:
        """Whatever comes of it, the other timers are due as well."""
        try:
            action()
        except Exception:  # no thread can be started, say
            LOG.exception("what was due could not be done")

    def _drop_replaced(self) -> None:
        self._heap = [entry for entry in self._heap
                      if self._current.get(entry[2], (None, None))[0] == entry[1]]
        heapq.heapify(self._heap)

    def _due(self) -> ty.Callable[[], None] | None:
        """Wait for the next timer; None where there is nothing to do yet."""
        if not self._heap:
            self._condition.wait()
            return None
        at, number, key = self._heap[0]
        remaining = at - time.monotonic()
        if remaining > 0:
            self._condition.wait(remaining)
            return None
        heapq.heappop(self._heap)
        current = self._current.get(key)
        if current is None or current[0] != number:
            return None
        return self._current.pop(key)[1]
