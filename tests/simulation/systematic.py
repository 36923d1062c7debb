# SPDX-License-Identifier: Apache-2.0
"""Schedules that leave nothing to chance: each thing that a worker does, failing in turn.

A story is played once without trouble, to count what the workers of both
hosts do in it.  Then it is played again for each of these: with a kill right
before and after each journal write, with a kill at each file call and each
question, and with each of them failing.
"""

import collections
import dataclasses
import errno
import pathlib
import typing as ty

from rbd_worker.migration.journal import StepState
from rbd_worker.model import Executor, Role
from tests.simulation import play, schedule
from tests.simulation.schedule import (
    CallMishap,
    CastMishap,
    Cloud,
    Failing,
    Forgery,
    Happening,
    Kill,
    KillAfterRecord,
    Move,
    Schedule,
)

#: Seconds from a kill to the next start: shorter than any step of Nova, and
#: longer than all of a worker's retries.
OUTAGES = (0.01, 90.0)

#: What is done to a guest, by name.
STORIES: dict[str, tuple[Move, ...]] = {
    "there": (Move(1, 0, 1),),
    "there and back": (Move(1, 0, 1), Move(150, 0, 1)),
    "there, back and there": (Move(1, 0, 1), Move(150, 0, 1), Move(300, 0, 1)),
    "fails": (Move(1, 0, 1, end="fail"),),
    "aborted": (Move(1, 0, 1, end="abort"),),
    "left to the worker": (Move(1, 0, 1, end="post error"),),
    "left open": (Move(1, 0, 1, end="left open, runs there"),),
    "left open for good": (Move(1, 0, 1, end="left open"),),
}


def story(executor: Executor, name: str, *troubles: Happening, **cloud: ty.Any) -> Schedule:
    """One of the stories on two hosts, with troubles."""
    happenings = (*STORIES[name], *troubles)
    files = ("disk.info", "keys/secret")
    return Schedule(0, Cloud(executor, 2, 1, files=files, **cloud), happenings,
                    tuple(range(len(happenings))))


def calls_that_fail(executor: Executor, name: str, root: pathlib.Path) -> ty.Iterator[Schedule]:
    """Each file call, question, journal write and message of the story fails in turn."""
    counts = play.play(story(executor, name), root).counts
    for host, count in enumerate(counts):
        for number in range(1, count["file"] + 1):
            for code in (errno.EIO, errno.ENOSPC):
                yield story(executor, name, Failing(host, "file", number, 1, code))
        for what in ("flush", "libvirt", "ceph", "journal"):
            for number in range(1, count[what] + 1):
                yield story(executor, name, Failing(host, what, number))
    for number in range(1, sum(count["call"] for count in counts) + 1):
        for how in ("lost", "answer lost", "repeated", "late", "very late"):
            yield story(executor, name, CallMishap(number, how))
    for number in range(1, 7):
        for how in ("lost", "repeated", "late", "very late"):
            yield story(executor, name, CastMishap(number, how))


def kills(executor: Executor, name: str, root: pathlib.Path) -> ty.Iterator[Schedule]:
    """A worker dies before and after each journal write, and at everything else that it does."""
    counts = play.play(story(executor, name), root).counts
    for host, count in enumerate(counts):
        for what in ("write", "written", "file", "libvirt", "ceph", "call", "called"):
            for number in range(1, count[what] + 1):
                for outage in OUTAGES:
                    yield story(executor, name, Kill(host, what, number, outage))


def power_failures(executor: Executor, name: str, root: pathlib.Path) -> ty.Iterator[Schedule]:
    """A host is without power at each journal write, and all along its file calls."""
    counts = play.play(story(executor, name), root).counts
    for host, count in enumerate(counts):
        for what, step in (("write", 1), ("written", 1), ("file", 3)):
            for number in range(1, count[what] + 1, step):
                yield story(executor, name, Kill(host, what, number, OUTAGES[-1], is_power=True))


def kills_after(executor: Executor, role: Role, step: str,
                state: StepState) -> ty.Iterator[Schedule]:
    """Every story with a kill after one record of a plan."""
    for name in ("there", "fails", "aborted", "left to the worker", "left open"):
        for outage in OUTAGES:
            yield story(executor, name, KillAfterRecord(executor, role, step, state, outage))


def forged_orders(root: pathlib.Path) -> ty.Iterator[Schedule]:
    """Somebody orders a guest away that Nova is moving, at each moment: to the same host, to
    another, twice, with a worker killed meanwhile."""
    for hosts in (2, 3):
        move = Move(1, 0, hosts - 1)
        cloud = Cloud(Executor.NOVA, hosts, 1)
        for tenths in range(5, 160, 3):
            forged = Forgery(tenths / 10, 0, 0, "live_migration")
            yield _of(cloud, move, forged)
            yield _of(cloud, move, forged, Forgery(2.3, 0, 0, "live_migration"))
        forged = Forgery(2.1, 0, 0, "live_migration")
        for host, count in enumerate(play.play(_of(cloud, move, forged), root).counts):
            for number in range(1, count["write"] + 1):
                yield _of(cloud, move, forged, Kill(host, "written", number, OUTAGES[0]))


def late_files(root: pathlib.Path) -> ty.Iterator[Schedule]:
    """A guest's files come to it when it is ordered on already, back or to another host: at each
    moment, with each message lost that its new destination waits for, with a worker killed."""
    hand_over = CallMishap(6, "lost")  # it comes again six seconds later
    for hosts in (2, 3):
        cloud = Cloud(Executor.NOVA, hosts, 1, files=("disk.info", "keys/secret"))
        for hundredths in (930, 945):
            for number in range(8, 12):
                yield _of(cloud, Move(1, 0, 1), hand_over, Move(hundredths / 100, 0, 1),
                          CallMishap(number, "lost"))
        troubles = (hand_over, Move(9.3, 0, 1), CallMishap(9, "lost"))
        count = play.play(_of(cloud, Move(1, 0, 1), *troubles), root).counts[1]
        for number in range(1, count["write"] + 1):
            yield _of(cloud, Move(1, 0, 1), *troubles, Kill(1, "written", number, OUTAGES[0]))


def _of(cloud: Cloud, *happenings: Happening) -> Schedule:
    return Schedule(0, cloud, happenings, tuple(range(len(happenings))))


@dataclasses.dataclass
class Tally:
    """What a set of schedules came to."""

    played: int = 0
    failing: list[play.Result] = dataclasses.field(default_factory=list)
    killed_after: collections.Counter[tuple[Executor, Role, str, str]] = dataclasses.field(
        default_factory=collections.Counter)

    def play(self, schedules: ty.Iterable[schedule.Schedule], root: pathlib.Path) -> "Tally":
        for each in schedules:
            result = play.play(each, root)
            self.played += 1
            self.killed_after.update(result.killed_after)
            if result.breaches:
                self.failing.append(result)
        return self

    @property
    def told(self) -> list[str]:
        """The first few failing ones, in a line each."""
        return [f"{[str(h) for h in r.schedule.happenings]}: {r.breaches[0]}"
                for r in self.failing[:5]]
