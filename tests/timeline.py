# SPDX-License-Identifier: Apache-2.0
"""Virtual time, and workers that can be killed in it, all in one order that repeats.

Whoever waits makes time pass, and while one worker waits the others work.  A
worker's end is an exception that no code catches: raised at a write of its
journal, and by whatever it reaches out to afterwards.
"""

import collections
import heapq
import itertools
import pathlib
import threading
import time
import typing as ty

from rbd_worker import news
from rbd_worker.migration import journal, mover
from rbd_worker.model import Migration


class Killed(BaseException):
    """What a worker's thread meets after its process was killed."""


class Life:
    """One process, from its start to its end."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.is_alive = True
        #: Counts a worker's journal writes: ``(number, "before" or "after") -> kill now?``
        self.kills_at: ty.Callable[[int, str], bool] = lambda number, side: False
        self.writes = 0
        #: Called once, when it ends.
        self.on_end: ty.Callable[[], None] = lambda: None

    def check(self) -> None:
        if not self.is_alive:
            raise Killed(self.host)

    def end(self) -> None:
        """As by SIGKILL: what it had in memory is gone."""
        if self.is_alive:
            self.is_alive = False
            self.on_end()


class Mortal:
    """Anything a worker reaches out to; of no use to it after its end."""

    def __init__(self, life: Life, target: ty.Any) -> None:
        self._life = life
        self._target = target

    def __getattr__(self, name: str) -> ty.Any:
        value = getattr(self._target, name)
        if not callable(value):
            return value

        def call(*args: ty.Any, **kwargs: ty.Any) -> ty.Any:
            self._life.check()
            try:
                return value(*args, **kwargs)
            finally:
                self._life.check()
        return call


class Timeline:
    """Seconds since the epoch, and what happens when."""

    def __init__(self) -> None:
        self.now = time.time()
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, ty.Callable[[], None]]] = []
        self._jobs: collections.deque[tuple[Life, ty.Callable[[], ty.Any]]] = collections.deque()
        self._busy: list[Life] = []

    def __call__(self) -> float:
        return self.now

    def set_clock(self, seconds: float) -> None:
        """Somebody sets the clock ahead or back; what is under way takes as long as before."""
        self.now += seconds
        self._events = [(at + seconds, number, action) for at, number, action in self._events]

    def after(self, seconds: float, action: ty.Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), action))

    def submit(self, life: Life, action: ty.Callable[[], ty.Any]) -> None:
        """Have a worker do something soon; nothing else of it is done while that waits."""
        self._jobs.append((life, action))

    def occupied(self, life: Life, action: ty.Callable[[], ty.Any]) -> ty.Any:
        """Do something in a worker's name now."""
        self._busy.append(life)
        try:
            return action()
        finally:
            self._busy.pop()

    def spawn(self, life: Life, action: ty.Callable[[], ty.Any]) -> None:
        """Do something in a thread of its own, which never runs at the same time as others."""
        _Strand(self, life, action).resume()

    def pass_time(self, seconds: float) -> None:
        strand = threading.current_thread()
        if isinstance(strand, _Strand):
            strand.pause(seconds)
            return
        until = self.now + seconds
        self._work()
        while self._events and self._events[0][0] <= until:
            at, _, action = heapq.heappop(self._events)
            self.now = max(self.now, at)
            action()
            self._work()
        self.now = until

    def _work(self) -> None:
        waiting: list[tuple[Life, ty.Callable[[], ty.Any]]] = []
        while self._jobs:
            life, action = self._jobs.popleft()
            if not life.is_alive:
                continue
            if life in self._busy:
                waiting.append((life, action))
                continue
            try:
                self.occupied(life, action)
            except Killed:
                pass
        self._jobs.extend(waiting)


class _Strand(threading.Thread):
    """A thread that runs only while whoever resumed it waits: one of them runs at any time."""

    def __init__(self, timeline: Timeline, life: Life, action: ty.Callable[[], ty.Any]) -> None:
        super().__init__(daemon=True)
        self._timeline = timeline
        self._life = life
        self._action = action
        self._go = threading.Semaphore(0)
        self._paused = threading.Semaphore(0)

    def resume(self) -> None:
        if not self.is_alive():
            self.start()
        self._go.release()
        self._paused.acquire()

    def pause(self, seconds: float) -> None:
        self._timeline.after(seconds, self.resume)
        self._paused.release()
        self._go.acquire()

    def run(self) -> None:
        self._go.acquire()
        try:
            self._life.check()
            self._action()
        except Killed:
            pass
        finally:
            self._paused.release()


class Shutdown(threading.Event):
    """A worker's shutdown event: waiting for it is how a worker's steps pass their time."""

    def __init__(self, life: Life, timeline: Timeline) -> None:
        super().__init__()
        self._life = life
        self._timeline = timeline

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set() and timeout is not None:
            self._timeline.pass_time(timeout)
        self._life.check()
        return self.is_set()


class Pool:
    """Runs a worker's plans in the timeline's order; as much of an executor as is needed."""

    def __init__(self, life: Life, timeline: Timeline) -> None:
        self._life = life
        self._timeline = timeline

    def submit(self, action: ty.Callable[..., ty.Any], *args: ty.Any) -> None:
        self._timeline.submit(self._life, lambda: action(*args))

    def shutdown(self, wait: bool = True, cancel_futures: bool = False) -> None:
        return None


class Alarms:
    """The worker's timers in virtual time."""

    def __init__(self, life: Life, timeline: Timeline) -> None:
        self._life = life
        self._timeline = timeline
        self._current: dict[ty.Hashable, object] = {}

    def after(self, seconds: float, key: ty.Hashable, action: ty.Callable[[], None]) -> None:
        mark = object()
        self._current[key] = mark

        def ring() -> None:
            if self._life.is_alive and self._current.get(key) is mark:
                del self._current[key]
                action()
        self._timeline.after(seconds, ring)

    def cancel(self, key: ty.Hashable) -> None:
        self._current.pop(key, None)

    def stop(self) -> None:
        self._current.clear()


class SteppingMovers(mover.Movers):
    """Moves in the timeline instead of threads."""

    life: Life
    timeline: Timeline

    def _begin(self, migration: Migration, action: ty.Callable[[], None]) -> None:
        with self._lock:
            if migration.key in self._moving:
                return
            self._moving[migration.key] = threading.current_thread()
        self.timeline.submit(self.life, lambda: self.timeline.spawn(self.life, action))


class WatchedJournal(journal.Journal):
    """A real journal whose process may be killed right before or right after any write."""

    def __init__(self, directory: pathlib.Path, timeline: Timeline, life: Life,
                 told: news.Listener | None = None) -> None:
        self._life = life
        super().__init__(directory, timeline, told=told)

    def _transaction(self) -> ty.Any:
        return _Watched(self._life, super()._transaction())


class _Watched:
    def __init__(self, life: Life, transaction: ty.Any) -> None:
        self._life = life
        self._transaction = transaction

    def __enter__(self) -> ty.Any:
        self._life.check()
        self._life.writes += 1
        self._number = self._life.writes
        self._maybe_kill("before")
        return self._transaction.__enter__()

    def __exit__(self, *error: ty.Any) -> ty.Any:
        result = self._transaction.__exit__(*error)
        if error[0] is None:
            self._maybe_kill("after")
        return result

    def _maybe_kill(self, side: str) -> None:
        if self._life.kills_at(self._number, side):
            self._life.end()
            self._life.check()
