# SPDX-License-Identifier: Apache-2.0
"""Blocking calls of a C library, each with a time limit.

libvirtd may be stopped, a Ceph monitor silent, and neither library gives up
by itself in time.  Such a call cannot be ended from outside, so it runs in a
daemon thread and the asker leaves when its time is over.  A call that was
left behind keeps its thread: it is *stuck* until it returns.  Once every
thread is stuck, further questions are refused at once instead of piling up;
as soon as one returns, questions are answered again.
"""

import collections
import dataclasses
import threading
import time
import typing as ty

from rbd_worker import errors

T = ty.TypeVar("T")

#: Enough for the plans that ask at the same moment; each question takes milliseconds.
THREADS = 8


@dataclasses.dataclass
class _Job:
    call: ty.Callable[[], ty.Any]
    done: threading.Event = dataclasses.field(default_factory=threading.Event)
    result: ty.Any = None
    error: BaseException | None = None
    is_stuck: bool = False

    def run(self) -> None:
        try:
            self.result = self.call()
        except BaseException as e:  # noqa: BLE001 -- raised again in the asker's thread
            self.error = e
        finally:
            self.done.set()


class Bounded:
    """A pool of at most ``threads`` daemon threads; thread-safe.

    :param name: of the threads.
    :param seconds: what one call may take, waiting for a thread included.
    :param refusal: builds the error for a call that was not answered in time,
        from a sentence that says why.
    """

    def __init__(self, name: str, seconds: float, refusal: ty.Callable[[str], errors.Error],
                 threads: int = THREADS) -> None:
        self._name = name
        self._seconds = seconds
        self._refusal = refusal
        self._limit = threads
        self._changed = threading.Condition()
        self._waiting: collections.deque[_Job] = collections.deque()
        self._threads = 0
        self._idle = 0
        self._stuck = 0

    @property
    def stuck(self) -> int:
        """Calls that were left behind and have not returned yet."""
        return self._stuck

    def run(self, call: ty.Callable[[], T], seconds: float | None = None) -> T:
        """Return what ``call`` returns, or raise what it raises.

        :param seconds: another limit than the pool's.
        :raises errors.Error: the refusal, where the limit was reached or no
            thread is left.  The call may still happen later.
        """
        limit = self._seconds if seconds is None else seconds
        job = _Job(call)
        deadline = time.monotonic() + limit
        self._hand_over(job)
        if not job.done.wait(max(0.0, deadline - time.monotonic())):
            self._leave(job, limit)
        if job.error is not None:
            raise job.error
        return ty.cast(T, job.result)

    def _hand_over(self, job: _Job) -> None:
        with self._changed:
            if self._stuck >= self._limit:
                raise self._refusal(f"{self._stuck} earlier calls have not returned")
            self._waiting.append(job)
            self._changed.notify()
            # an idle thread that has yet to wake is meant for one question only
            if self._idle < len(self._waiting) and self._threads < self._limit:
                self._start_thread(job)

    def _start_thread(self, job: _Job) -> None:
        """One more thread; where the system has none left, those that are there have to do."""
        try:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        except RuntimeError as e:
            if not self._threads:
                self._waiting.remove(job)
                raise self._refusal(str(e)) from e
        else:
            self._threads += 1

    def _leave(self, job: _Job, limit: float) -> None:
        """Give ``job`` up, unless it ended at this very moment."""
        with self._changed:
            if job.done.is_set():
                return
            if job in self._waiting:  # never began, so it never will
                self._waiting.remove(job)
            else:
                job.is_stuck = True
                self._stuck += 1
        raise self._refusal(f"no answer within {limit:g} s")

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self._waiting:
                    self._changed.wait()
                self._idle -= 1
                job = self._waiting.popleft()
            job.run()
            with self._changed:
                if job.is_stuck:
                    self._stuck -= 1
            del job  # its result may hold a connection
