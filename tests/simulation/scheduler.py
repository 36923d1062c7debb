# SPDX-License-Identifier: Apache-2.0
"""Tasks that run one at a time, in virtual time, in an order that a seed decides.

The worker's code blocks as ordinary code does: it sleeps, waits for a peer,
takes a lock.  Each such place gives the turn away.  Greenlets hold the stacks
that wait meanwhile: whoever gives the turn away picks who is next and switches
to it, so that a wait which nobody else uses costs no switch at all, and a
*short* task, one that never waits, is run on whichever stack is at hand.
Nothing else decides about the order, hence a seed plays the same story again.
All is one thread: what the worker locks, it must not hold while it waits,
unless the lock is a :class:`Lock`.

hypothesis' stateful testing does not fit here: its rules run to their end one
after the other, and the interesting moments are inside of them.
"""

import heapq
import itertools
import random
import threading
import typing as ty

import greenlet

Action = ty.Callable[[], ty.Any]

#: Alarms and turns after which a world counts as one that never comes to rest.
MAX_TURNS = 200_000


class Killed(BaseException):
    """What a task of a process meets after that process was killed."""


class Runaway(Exception):
    """Tasks wake each other for ever."""


class Life:
    """One process, from its start to its end; the world itself has one that never ends."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_alive = True
        self.tasks: dict[Task, None] = {}
        #: Called once, when it ends.
        self.on_end: Action = lambda: None

    def check(self) -> None:
        if not self.is_alive:
            raise Killed(self.name)

    def end(self) -> None:
        """As by SIGKILL: what it had in memory is gone, and whatever waited never goes on."""
        if self.is_alive:
            self.is_alive = False
            self.on_end()
            for task in list(self.tasks):
                task.ready()


class Task:
    """A piece of work of one process, and the stack that it has while it waits."""

    def __init__(self, scheduler: "Scheduler", life: Life, action: Action, name: str,
                 *, is_short: bool) -> None:
        self.scheduler = scheduler
        self.life = life
        self.name = name
        self.is_short = is_short
        self.stack: _Stack | None = None
        self.is_waiting = False
        #: Counts its waits, so that an alarm of an earlier one wakes nobody.
        self.waits = 0
        self._action = action

    def ready(self) -> None:
        """Let it have a turn if it waits."""
        if self.is_waiting:
            self.is_waiting = False
            self.scheduler.enqueue(self)

    def run(self) -> None:
        try:
            self.life.check()
            self._action()
        except Killed:
            pass
        except Exception as e:
            self.scheduler.failures.append(e)
        finally:
            self.life.tasks.pop(self, None)


class Scheduler:
    """The time, the order, and whose turn it is.

    :param order: decides who is next among those that are ready; None for
        first come, first served.
    """

    def __init__(self, order: random.Random | None = None) -> None:
        self.now = 0.0
        self.current: Task | None = None
        #: Exceptions that no task may end with.
        self.failures: list[Exception] = []
        #: Called when time has passed, before what happens next.
        self.on_advance: Action = lambda: None
        self.turns = 0
        self._order = order
        self._ready: list[Task] = []
        self._alarms: list[tuple[float, int, Action]] = []
        self._numbers = itertools.count()
        self._until = 0.0
        self._is_enough: ty.Callable[[], bool] = lambda: False
        #: Of who called ``run``.
        self.main = greenlet.getcurrent()

    def __call__(self) -> float:
        return self.now

    # -- for everyone --------------------------------------------------------

    def spawn(self, life: Life, action: Action, name: str, *, is_short: bool = False) -> Task:
        """A new task, which gets a turn later.

        :param is_short: it never waits.
        """
        task = Task(self, life, action, name, is_short=is_short)
        life.tasks[task] = None
        self._ready.append(task)
        return task

    def enqueue(self, task: Task) -> None:
        self._ready.append(task)

    def after(self, seconds: float, action: Action) -> None:
        """Call ``action``, which may not wait, at a later time."""
        heapq.heappush(self._alarms, (self.now + seconds, next(self._numbers), action))

    def pass_time(self, seconds: float) -> None:
        """The current task sleeps."""
        self.wait(seconds)

    def wait(self, seconds: float | None = None) -> None:
        """The current task waits until it is readied, or for some time at the longest.

        :raises Killed: its process has ended meanwhile.
        """
        task = self.current
        assert task is not None and task.stack is not None, "only a task can wait"
        task.life.check()
        task.waits += 1
        task.is_waiting = True
        if seconds is not None:
            number = task.waits
            self.after(seconds, lambda: task.ready() if task.waits == number else None)
        self._give_away(task)
        task.life.check()

    def run(self, until: float, is_enough: ty.Callable[[], bool] = lambda: False) -> None:
        """Let time pass, from outside of any task.

        :param is_enough: looked at whenever everyone waits; ends it earlier.
        """
        self._until, self._is_enough = until, is_enough
        self.main = greenlet.getcurrent()
        task = self._next()
        if task is not None:
            _switch_to(task)
        if self.failures:
            raise self.failures[0]

    # -- inside --------------------------------------------------------------

    def _next(self) -> Task | None:
        """Whose turn it is, once every short task before it has had its own, right here."""
        task = self._pick()
        while task is not None and task.is_short:
            task.run()
            task = self._pick()
        return task

    def _pick(self) -> Task | None:
        """Whose turn it is; None where the world's main function is to go on."""
        while not self.failures:
            self.turns += 1
            if self._ready:
                return self._next_ready()
            self.current = None
            if self._is_enough() or not self._ring():
                return None
            if self.turns > MAX_TURNS:
                self.failures.append(Runaway(f"{self.turns} turns"))
        self.current = None
        return None

    def _next_ready(self) -> Task:
        number = 0
        if self._order is not None and len(self._ready) > 1:
            number = self._order.randrange(len(self._ready))
        task = self.current = self._ready.pop(number)
        return task

    def _ring(self) -> bool:
        """Let time pass to the next alarm; False where none is left."""
        if not self._alarms or self._alarms[0][0] > self._until:
            self.now = max(self.now, self._until)
            self.on_advance()
            return False
        at, _, action = heapq.heappop(self._alarms)
        if at > self.now:
            self.now = at
            self.on_advance()
        action()
        return True

    def _give_away(self, task: Task) -> None:
        """Returns when it is the task's turn again."""
        following = self._next()
        if following is None:
            self.main.switch()
        elif following is not task:
            _switch_to(following)

    def end_of_task(self) -> Task | None:
        """Called on a stack whose task has ended: the next one, if it has no stack yet."""
        following = self._next()
        if following is None:
            self.main.switch()
        elif following.stack is not None:
            _switch_to(following)
        else:
            return following
        return None


class _Stack:
    """Runs tasks, one after the other; idle ones are kept for later."""

    def __init__(self, main: greenlet.greenlet) -> None:
        self.task: Task | None = None
        self._greenlet = greenlet.greenlet(self._run, main)

    def switch(self) -> None:
        self._greenlet.switch()

    def _run(self) -> None:
        while True:
            task = self.task
            while task is not None:
                self.task, task.stack = task, self
                task.run()
                task.stack = None
                _IDLE.append(self)
                task = task.scheduler.end_of_task()
                if task is not None:
                    _IDLE.remove(self)


_IDLE: list[_Stack] = []


def _switch_to(task: Task) -> None:
    """Give a task its turn, with a stack if it has none."""
    if task.stack is None:
        task.stack = _IDLE.pop() if _IDLE else _Stack(task.scheduler.main)
        task.stack.task = task
    task.stack.switch()


class Lock:
    """Reentrant, as ``threading.RLock``; waiting for it passes virtual time."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._owner: Task | None = None
        self._depth = 0
        self._waiting: list[Task] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        me = self._scheduler.current
        deadline = self._scheduler.now + timeout if timeout >= 0 else None
        while self._depth and self._owner is not me:
            left = None if deadline is None else deadline - self._scheduler.now
            if not blocking or me is None or (left is not None and left <= 0):
                return False
            self._waiting.append(me)
            try:
                self._scheduler.wait(left)
            finally:
                if me in self._waiting:
                    self._waiting.remove(me)
        self._owner = me
        self._depth += 1
        return True

    def release(self) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
            waiting, self._waiting = self._waiting, []
            for task in waiting:
                task.ready()

    @property
    def is_held(self) -> bool:
        return self._depth > 0

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Slots:
    """As ``threading.Semaphore``."""

    def __init__(self, scheduler: Scheduler, count: int) -> None:
        self._scheduler = scheduler
        self._left = count

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        if self._left <= 0:
            self._scheduler.wait(timeout)
        if self._left <= 0:
            return False
        self._left -= 1
        return True

    def release(self) -> None:
        self._left += 1


class Shutdown(threading.Event):
    """A worker's shutdown event: waiting for it is how a worker's steps pass their time."""

    def __init__(self, life: Life, scheduler: Scheduler) -> None:
        super().__init__()
        self._life = life
        self._scheduler = scheduler

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            self._scheduler.wait(timeout)
        self._life.check()
        return self.is_set()
