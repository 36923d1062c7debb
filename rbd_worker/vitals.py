# SPDX-License-Identifier: Apache-2.0
"""Do the worker's main parts live?  Asked by the watchdog.

A thread lives or it has ended; nobody restarts one here.  A pool is harder:
busy is not stuck.  Migrations that wait for a slow peer may fill every thread
for minutes, and that is no reason to kill the worker.  What counts is that
work waits in the queue and no thread has come back for any of it for a long
time.
"""

import collections.abc
import concurrent.futures
import functools
import threading
import time
import typing as ty

#: Seconds; longer than any step takes that is not stuck (the largest pulls a
#: directory of some GiB over the network).
STUCK_SECONDS = 900.0

P = ty.ParamSpec("P")
T = ty.TypeVar("T")


class WatchedPool(concurrent.futures.ThreadPoolExecutor):
    """A pool of threads that knows when it last got anywhere.

    :param clock: monotonic seconds.
    """

    def __init__(self, threads: int, name: str,
                 clock: ty.Callable[[], float] = time.monotonic) -> None:
        super().__init__(threads, thread_name_prefix=name)
        self._clock = clock
        self._counting = threading.Lock()
        self._waiting: set[object] = set()
        self._moved = clock()

    def submit(self, fn: ty.Callable[P, T], /, *args: P.args,
               **kwargs: P.kwargs) -> concurrent.futures.Future[T]:
        with self._counting:
            if not self._waiting:
                self._moved = self._clock()  # an idle pool had nothing to move
            self._waiting.add(one := object())
        try:
            return super().submit(self._counted, one, functools.partial(fn, *args, **kwargs))
        except RuntimeError:  # shut down; or it waits, but no thread could be started for it
            with self._counting:
                self._waiting.discard(one)
            raise

    def stuck_for(self) -> float:
        """Seconds since work was last taken up while some waits; 0 where none waits."""
        with self._counting:
            return self._clock() - self._moved if self._waiting else 0.0

    def _counted(self, one: object, call: ty.Callable[[], T]) -> T:
        with self._counting:
            self._waiting.discard(one)
            self._moved = self._clock()
        return call()


def missing_threads(names: collections.abc.Iterable[str]) -> list[str]:
    """Those of the names that no living thread of this process has."""
    living = {thread.name for thread in threading.enumerate()}
    return [name for name in names if name not in living]
