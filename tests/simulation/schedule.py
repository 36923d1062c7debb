# SPDX-License-Identifier: Apache-2.0
"""What one seed stands for: a cloud, what is done in it, and what goes wrong.

A schedule is a list of happenings, each of which can be left out by its
number; that is how a failing one is made small.
"""

import dataclasses
import errno
import random
import typing as ty

from rbd_worker.migration import plans
from rbd_worker.migration.journal import StepState
from rbd_worker.model import Executor, Role

#: Seconds in which everything that is planned begins.
SPAN = 400.0
#: Seconds from a kill to the next start: shorter than any step of Nova, and
#: longer than all of a worker's retries.
OUTAGES = (0.01, 5.0, 90.0)


#: The source's libvirtd is restarted in the last part of a move, and keeps a stopped copy: the
#: destination has a stopped one, too, or the guest runs there and somebody ends the copy later.
LEFT_OPEN = ("left open", "left open, runs there")


@dataclasses.dataclass(frozen=True)
class Cloud:
    """:ivar workers, limit: of each host's worker: threads for plans, moves at the same time.
    :ivar files: what a guest's directory has besides its console log.
    :ivar retention: seconds for which the trash is kept."""

    executor: Executor
    hosts: int
    guests: int
    is_shared: bool = False
    has_hook: bool = False
    nova_makes_directory: bool = True
    workers: int = 16
    limit: int = 1
    history_files: int = 8
    files: tuple[str, ...] = ("disk.info",)
    retention: int = 7 * 86400

    def __str__(self) -> str:
        parts = [f"{self.hosts} hosts, {self.guests} guests, executor {self.executor}"]
        if self.is_shared:
            parts.append("instances_path is shared")
        if self.has_hook:
            parts.append("the hook is installed")
        if not self.nova_makes_directory:
            parts.append("Nova makes no directory at the destination")
        return ", ".join(parts)


@dataclasses.dataclass(frozen=True)
class Happening:
    """One thing that is done or goes wrong; ``str`` of it is a sentence."""


@dataclasses.dataclass(frozen=True)
class Move(Happening):
    """A live migration is ordered.

    :ivar hop: how many hosts further.
    :ivar end: "succeed", "fail", "source dies", "post error", "abort", "left alone"
        (libvirt loses the answer), or one of ``LEFT_OPEN``.
    :ivar pace: what Nova's pauses are multiplied with.
    :ivar dead_after: the last thing that nova-compute does; empty for a healthy one.
    """

    at: float
    guest: int
    hop: int
    end: str = "succeed"
    pace: float = 1.0
    dead_after: str = ""

    def __str__(self) -> str:
        nova = f", nova-compute dies after: {self.dead_after}" if self.dead_after else ""
        return (f"at {self.at:.1f} s guest {self.guest} is ordered {self.hop} host(s) further, "
                f"Nova's pace {self.pace:g}, its end: {self.end}{nova}")


@dataclasses.dataclass(frozen=True)
class Kill(Happening):
    """A worker dies at the n-th time that something happens in it.

    :ivar what: "write" (before its journal commits), "written", "file", "libvirt",
        "ceph", "call", "called", or a time in seconds.
    :ivar outage: seconds until it is started again.
    :ivar is_power: what it did not flush is gone, too.
    """

    host: int
    what: str
    number: float
    outage: float
    is_power: bool = False

    def __str__(self) -> str:
        when = f"at {self.number:.1f} s" if self.what == "time" else (
            f"at its {_MOMENTS[self.what]} number {self.number:.0f}")
        what = f"host {self.host} is without power" if self.is_power else (
            f"the worker of host {self.host} is killed")
        return f"{what} {when}, for {self.outage:g} s"


_MOMENTS = {"write": "journal write, before the commit", "written": "journal write, after it",
            "file": "file call", "libvirt": "question to libvirt", "ceph": "question to Ceph",
            "call": "call of a peer", "called": "answered call of a peer"}


@dataclasses.dataclass(frozen=True)
class KillAfterRecord(Happening):
    """Whichever worker writes this record first dies right after it."""

    executor: Executor
    role: Role
    step: str
    state: StepState
    outage: float

    def __str__(self) -> str:
        return (f"the worker that first records {self.step} {self.state} as {self.role} is "
                f"killed right after it, for {self.outage:g} s")


@dataclasses.dataclass(frozen=True)
class Failing(Happening):
    """Some calls of one kind fail on a host: "file", "flush", "libvirt", "ceph" or "journal"."""

    host: int
    what: str
    number: int
    count: int = 1
    code: int = 0

    def __str__(self) -> str:
        how = f" with {errno.errorcode[self.code]}" if self.code else ""
        return (f"on host {self.host} {self.count} {self.what} call(s) fail{how}, from number "
                f"{self.number} on")


@dataclasses.dataclass(frozen=True)
class CallMishap(Happening):
    """What befalls the n-th call between workers: lost, answer lost, repeated, late."""

    number: int
    how: str

    def __str__(self) -> str:
        return f"call {self.number} between workers: {self.how}"


@dataclasses.dataclass(frozen=True)
class CastMishap(Happening):
    """What befalls the n-th message of Nova on its way to a worker."""

    number: int
    how: str

    def __str__(self) -> str:
        return f"Nova's message {self.number} to a worker: {self.how}"


@dataclasses.dataclass(frozen=True)
class Outage(Happening):
    """For some time a host has no "libvirt", no "ceph", no room on its "disk", or no "network"."""

    host: int
    what: str
    at: float
    seconds: float

    def __str__(self) -> str:
        return (f"host {self.host} is without {self.what} from {self.at:.1f} s on, "
                f"for {self.seconds:.0f} s")


@dataclasses.dataclass(frozen=True)
class ClockSetBack(Happening):
    host: int
    at: float
    by: float

    def __str__(self) -> str:
        return f"the clock of host {self.host} is set back by {self.by:.0f} s at {self.at:.1f} s"


@dataclasses.dataclass(frozen=True)
class GuestDies(Happening):
    guest: int
    at: float

    def __str__(self) -> str:
        return f"guest {self.guest} dies at {self.at:.1f} s"


@dataclasses.dataclass(frozen=True)
class Leftover(Happening):
    """A directory with content of its own was left on a host that does not run the guest.

    :ivar is_defined: libvirt there still has the definition, as after an evacuation.
    """

    host: int
    guest: int
    is_defined: bool = False

    def __str__(self) -> str:
        also = ", and libvirt there still defines it" if self.is_defined else ""
        return f"host {self.host} has an old leftover of guest {self.guest}{also}"


@dataclasses.dataclass(frozen=True)
class Forgery(Happening):
    """Somebody with the broker's password sends a message that is not true."""

    at: float
    host: int
    guest: int
    method: str

    def __str__(self) -> str:
        return (f"at {self.at:.1f} s host {self.host} gets a forged {self.method} "
                f"for guest {self.guest}")


@dataclasses.dataclass(frozen=True)
class Audit(Happening):
    """An operator runs ``rbd-workerctl audit --act`` on a host."""

    at: float
    host: int

    def __str__(self) -> str:
        return f"an audit is run on host {self.host} at {self.at:.1f} s"


@dataclasses.dataclass(frozen=True)
class Order(Happening):
    """An operator runs a command of ``rbd-workerctl`` about a guest on a host.

    :ivar what: "abort" or "resolve" an open migration, "restore" or "discard" the newest
        item of the trash.
    """

    at: float
    host: int
    guest: int
    what: str

    def __str__(self) -> str:
        return f"an operator orders {self.what} of guest {self.guest} on host {self.host} " \
               f"at {self.at:.1f} s"


@dataclasses.dataclass(frozen=True)
class Disorder(Happening):
    """Tasks take turns in any order, and messages take their time."""

    def __str__(self) -> str:
        return "tasks take turns in any order, and messages overtake each other"


@dataclasses.dataclass(frozen=True)
class Schedule:
    """:ivar kept: numbers of the happenings that were left in."""

    seed: int
    cloud: Cloud
    happenings: tuple[Happening, ...]
    kept: tuple[int, ...]

    def only(self, kept: ty.Iterable[int]) -> "Schedule":
        """The same without some happenings; ``kept`` are numbers of the whole schedule."""
        numbers = tuple(sorted(kept))
        by_number = dict(zip(self.kept, self.happenings, strict=True))
        return dataclasses.replace(self, kept=numbers,
                                   happenings=tuple(by_number[n] for n in numbers))

    def of(self, kind: type[ty.Any]) -> list[ty.Any]:
        return [happening for happening in self.happenings if isinstance(happening, kind)]


def records(executor: Executor) -> list[tuple[Role, str, StepState]]:
    """Every record of every plan after which a worker can be killed."""
    found = []
    for role in Role:
        for step in plans.plan(role, executor):
            found += [(role, step.name, StepState.DOING), (role, step.name, StepState.DONE)]
            if step.undo is not None:
                found += [(role, step.name, StepState.UNDOING),
                          (role, step.name, StepState.UNDONE)]
    return found


def of(seed: int) -> Schedule:
    """The schedule of a seed."""
    rng = random.Random(seed)
    cloud = _cloud(rng)
    happenings = [*_moves(rng, cloud), *_troubles(rng, cloud)]
    return Schedule(seed, cloud, tuple(happenings), tuple(range(len(happenings))))


def _cloud(rng: random.Random) -> Cloud:
    executor = rng.choice((Executor.NOVA, Executor.LIBVIRT))
    has_hook = rng.random() < 0.3
    return Cloud(
        executor,
        hosts=rng.choice((2, 2, 2, 2, 3, 4)),
        guests=rng.choice((1, 1, 1, 1, 1, 1, 2, 3)),
        is_shared=rng.random() < 0.05, has_hook=has_hook,
        nova_makes_directory=not (has_hook and rng.random() < 0.3),
        workers=rng.choice((16, 16, 2, 1)), limit=rng.choice((0, 1)),
        history_files=rng.choice((8, 8, 1)),
        files=("disk.info", "keys/secret")[:rng.choice((1, 1, 1, 2))],
        retention=rng.choice((7 * 86400, 7 * 86400, SHORT_RETENTION)))


#: Over when a janitor comes to what was taken away in a first move.
SHORT_RETENTION = 20
_ENDS = ("succeed",) * 10 + ("fail", "source dies", "post error", "abort", "left alone",
                             "fail") * 2 + LEFT_OPEN
#: How often the first guest is moved: most of what can go wrong needs one move or two.
_MOVES = (1,) * 12 + (2, 2, 3)
_NOVA_STEPS = ("check", "cast", "mkdir", "move", "transfer", "removal")


def _moves(rng: random.Random, cloud: Cloud) -> ty.Iterator[Happening]:
    for guest in range(cloud.guests):
        at = rng.uniform(0, 20)
        for _ in range(rng.choice(_MOVES) if guest == 0 else rng.choice((0, 1))):
            yield Move(at, guest, rng.randrange(1, cloud.hosts), rng.choice(_ENDS),
                       rng.choice((1, 1, 1, 0.01, 30)),
                       rng.choice(_NOVA_STEPS) if rng.random() < 0.15 else "")
            at += rng.choice((1, 10, 120)) * rng.random()


def _troubles(rng: random.Random, cloud: Cloud) -> ty.Iterator[Happening]:
    if rng.random() < 0.5:
        yield Disorder()
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        yield rng.choice(_TROUBLES)(rng, cloud)


def _outage(rng: random.Random) -> float:
    return rng.choice(OUTAGES)


def _kill(rng: random.Random, cloud: Cloud) -> Happening:
    what = rng.choice(("write", "written", "file", "file", "file", "libvirt", "ceph", "call",
                       "called", "time"))
    number: float = {"file": rng.randrange(1, 700), "libvirt": rng.randrange(1, 25),
                     "ceph": rng.randrange(1, 6), "call": rng.randrange(1, 8),
                     "called": rng.randrange(1, 8),
                     "time": rng.uniform(0, 60)}.get(what, rng.randrange(2, 40))
    is_power = rng.random() < 0.3  # a host takes its time until it is back
    return Kill(rng.randrange(cloud.hosts), what, number,
                OUTAGES[-1] if is_power else _outage(rng), is_power)


def _kill_after_record(rng: random.Random, cloud: Cloud) -> Happening:
    role, step, state = rng.choice(records(cloud.executor))
    return KillAfterRecord(cloud.executor, role, step, state, _outage(rng))


def _failing(rng: random.Random, cloud: Cloud) -> Happening:
    what = rng.choice(("file", "file", "file", "flush", "libvirt", "ceph", "journal"))
    number = {"file": rng.randrange(1, 700), "flush": rng.randrange(1, 60),
              "libvirt": rng.randrange(1, 25), "ceph": rng.randrange(1, 6),
              "journal": rng.randrange(2, 40)}[what]
    code = rng.choice((errno.EIO, errno.ENOSPC, errno.EACCES)) if what == "file" else 0
    return Failing(rng.randrange(cloud.hosts), what, number, rng.choice((1, 1, 1, 3, 40)), code)


def _call_mishap(rng: random.Random, _cloud: Cloud) -> Happening:
    return CallMishap(rng.randrange(1, 25), rng.choice(("lost", "answer lost", "repeated",
                                                        "late", "very late")))


def _cast_mishap(rng: random.Random, _cloud: Cloud) -> Happening:
    return CastMishap(rng.randrange(1, 8), rng.choice(("lost", "repeated", "late", "very late")))


def _outage_of(rng: random.Random, cloud: Cloud) -> Happening:
    return Outage(rng.randrange(cloud.hosts), rng.choice(("libvirt", "ceph", "disk", "network")),
                  rng.uniform(0, 60), rng.choice((1, 10, 100, 1000)))


def _clock(rng: random.Random, cloud: Cloud) -> Happening:
    return ClockSetBack(rng.randrange(cloud.hosts), rng.uniform(0, 60),
                        rng.choice((5, 3600, 86400)))


def _death(rng: random.Random, cloud: Cloud) -> Happening:
    return GuestDies(rng.randrange(cloud.guests), rng.uniform(0, 60))


def _leftover(rng: random.Random, cloud: Cloud) -> Happening:
    guest = rng.randrange(cloud.guests)
    host = (home(guest, cloud) + rng.randrange(1, cloud.hosts)) % cloud.hosts
    return Leftover(host, guest, rng.random() < 0.2)


def _forgery(rng: random.Random, cloud: Cloud) -> Happening:
    return Forgery(rng.uniform(0, 60), rng.randrange(cloud.hosts), rng.randrange(cloud.guests),
                   rng.choice(("live_migration", "check", "post", "rollback", "abort",
                               "rollback call", "finish call", "holding")))


def _audit(rng: random.Random, cloud: Cloud) -> Happening:
    return Audit(rng.uniform(0, SPAN), rng.randrange(cloud.hosts))


def _order(rng: random.Random, cloud: Cloud) -> Happening:
    what = rng.choice(("abort", "resolve", "resolve", "restore", "restore", "discard"))
    at = rng.uniform(0, 60) if what == "abort" else rng.uniform(0, SPAN)
    return Order(at, rng.randrange(cloud.hosts), rng.randrange(cloud.guests), what)


_TROUBLES: tuple[ty.Callable[[random.Random, Cloud], Happening], ...] = (
    _kill, _kill, _kill, _kill, _kill_after_record, _kill_after_record, _kill_after_record,
    _failing, _failing, _failing, _call_mishap, _call_mishap, _cast_mishap, _outage_of,
    _outage_of, _clock, _death, _leftover, _leftover, _forgery, _audit, _order, _order)


def home(guest: int, cloud: Cloud) -> int:
    """The host on which a guest begins."""
    return guest % cloud.hosts
