# SPDX-License-Identifier: Apache-2.0
"""Plays one schedule to its end, and makes a failing one small."""

import dataclasses
import itertools
import logging
import pathlib
import traceback
import typing as ty

from rbd_worker.model import Executor, Role
from tests.simulation import invariants, schedule, seams
from tests.simulation.schedule import Schedule
from tests.simulation.world import Breach, World

#: Virtual seconds for everything to come to rest: longer than prepare_timeout
#: and the longest pauses between two looks; and then for the audits.
REST_SECONDS = 2700.0
AUDIT_SECONDS = 4500.0
#: After the last kill: longer than a worker is away, and then as long as two looks.
AFTER_KILL_SECONDS = 1200.0
#: After which a task that still does the same counts as hanging.
HANG_SECONDS = 2000.0

_numbers = itertools.count()


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of it.

    :ivar killed_after: records after which a worker was killed.
    :ivar counts: for each host how often its workers did what, by the words of
        ``schedule.Kill``.
    """

    schedule: Schedule
    breaches: tuple[Breach, ...]
    killed_after: frozenset[tuple[Executor, Role, str, str]]
    counts: tuple[ty.Mapping[str, int], ...]
    story: tuple[str, ...] = ()

    @property
    def broken(self) -> frozenset[str]:
        return frozenset(breach.invariant for breach in self.breaches)


def play(played: Schedule, root: pathlib.Path, *, tells: bool = False) -> Result:
    """One schedule, from its beginning until nothing happens any more.

    :param root: a directory in memory; the world lives in one below it, and stays there:
        removing many at once is cheaper.
    """
    place = root / f"w{next(_numbers)}"
    place.mkdir()
    story: list[str] | None = [] if tells else None
    watch = _Unforeseen()
    logging.getLogger("rbd_worker").addHandler(watch)
    try:
        world = World(played, place, story)
        with seams.watched(world, world.randomness):
            found = _played(world, watch)
            _end(world)
        return Result(played, tuple(found), frozenset(world.killed_after),
                      tuple(host.counts for host in world.hosts), tuple(story or ()))
    finally:
        logging.getLogger("rbd_worker").removeHandler(watch)


def _played(world: World, watch: "_Unforeseen") -> list[Breach]:
    hanging: list[str] = []
    try:
        world.start()
        world.scheduler.run(schedule.SPAN + REST_SECONDS, lambda: invariants.is_quiet(world))
        if invariants.has_strays(world) or not invariants.is_quiet(world):
            world.scheduler.run(world.scheduler.now + AUDIT_SECONDS, lambda: (
                invariants.is_quiet(world) and not invariants.has_strays(world)))
        hanging = _hanging(world)
        while world.scheduler.now < world.last_kill + AFTER_KILL_SECONDS and not (
                invariants.is_quiet(world)):  # it may have come at the very end
            world.scheduler.run(world.last_kill + AFTER_KILL_SECONDS,
                                lambda: invariants.is_quiet(world))
    except Exception as e:
        return [*world.breaches, Breach("rest", "".join(traceback.format_exception(e)))]
    world.forget_refused()
    found = [*world.breaches, *(Breach("rest", text) for text in watch.seen)]
    return [*found, *invariants.breaches(world, hanging)]


def _hanging(world: World) -> list[str]:
    """Tasks that still do the same after a long time."""
    def busy() -> dict[ty.Any, int]:
        return {task: task.waits for life in world.workers if life.is_alive for task in life.tasks
                if task.name not in invariants.DAEMONS}
    before = busy()
    if not before:
        return []
    world.scheduler.run(world.scheduler.now + HANG_SECONDS, lambda: not busy())
    return [f"{task.life.name}'s {task.name}" for task in busy() if task in before]


def _end(world: World) -> None:
    """Take every thread and descriptor back."""
    world.scheduler.failures.clear()
    world.scheduler.turns = 0
    for host in world.hosts:
        host.kill(None)
    world.life.end()
    world.scheduler.run(world.scheduler.now + 0.001)
    world.scheduler.run(world.scheduler.now + 0.001)
    for host in world.hosts:
        host.database.end()


class _Unforeseen(logging.Handler):
    """Takes the worker's log lines about errors that nobody had thought of."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            trace = "".join(traceback.format_exception(record.exc_info[1]))
            self.seen.append(f"{record.getMessage()}\n{trace}")


def minimised(result: Result, root: pathlib.Path) -> Result:
    """The same breach with as few happenings as possible, played again with its story."""
    best = result
    again = True
    while again:
        again = False
        for number in best.schedule.kept:
            smaller = best.schedule.only(n for n in best.schedule.kept if n != number)
            tried = play(smaller, root)
            if tried.broken & result.broken:
                best, again = tried, True
                break
    return play(best.schedule, root, tells=True)


def of(seed: int, kept: ty.Sequence[int] | None = None) -> Schedule:
    """A seed's schedule, or what was kept of it."""
    whole = schedule.of(seed)
    return whole if kept is None else whole.only(kept)
