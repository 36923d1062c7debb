# SPDX-License-Identifier: Apache-2.0
"""A guest is migrated, one worker is killed once, and everything comes to rest.

The scenario is played once without a crash to learn where one may strike:
before and after each journal write of each host, and around each call of a
peer.  Each of these points is then a test of its own.
"""

import dataclasses
import functools
import pathlib
import tempfile
import typing as ty

from devstack import conductor
from rbd_worker.model import GuestState
from tests import world as worlds
from tests.fakes import Call, Fate
from tests.world import Host, World

INSTANCE = "a05482ec-d71a-48c7-bf99-94d829b20aef"
#: Seconds from a kill to the next start.  The first is shorter than any step of
#: Nova, the second longer than all of a worker's retries.
OUTAGES = {"short": 0.01, "long": 90.0}
#: Seconds that each migration has to come to rest.
REST = 3600.0
#: What happens: the guest goes there and back; or its move fails in the middle;
#: or it goes there, back and there again, and may keep one rotated log only.
STORIES = ("back", "fails", "joined")


@dataclasses.dataclass(frozen=True)
class Point:
    """Where the crash strikes; its text is the test's id and leads back to it."""

    story: str
    executor: str
    outage: str
    #: A host for a journal write; empty for a call.
    host: str
    number: int
    how: str

    def __str__(self) -> str:
        where = f"{self.host}-write-{self.number}" if self.host else f"call-{self.number}"
        return "-".join((self.story, self.executor, self.outage, where,
                         self.how.replace(" ", "_")))


class Scenario:
    """The world after the story."""

    def __init__(self, root: pathlib.Path, story: str, executor: str,
                 point: Point | None = None) -> None:
        self.story = story
        self.point = point
        self.world = World(root, executor, console_history_files=1 if story == "joined" else 8)
        self.here, self.there = self.world.hosts
        self.struck = False
        self.writes: dict[str, int] = {}
        if point is not None:
            self._arm(point)
        self.world.boot(self.here, INSTANCE)
        self.orders = [self._migrate(self.here, self.there, 1)]
        if story != "fails":
            self.orders.append(self._migrate(self.there, self.here, 2))
        if story == "joined":
            self.orders.append(self._migrate(self.here, self.there, 3))
        self.writes = {host.name: host.alive.life.writes for host in self.world.hosts}

    def _migrate(self, source: Host, destination: Host, number: int) -> conductor.LiveMigration:
        how = "fail" if self.story == "fails" else "succeed"
        return self.world.migrate(INSTANCE, source, destination, how=how, seconds=REST,
                                  number=number)

    def _arm(self, point: Point) -> None:
        for host in self.world.hosts:
            host.restarts_after = OUTAGES[point.outage]
        if not point.host:
            self.world.bus.fate = functools.partial(self._fate, point)
            return
        host = self.world.host(point.host)
        host.kills_at = functools.partial(self._kills, point)
        host.alive.life.kills_at = host.kills_at

    def _kills(self, point: Point, number: int, side: str) -> bool:
        if self.struck or (number, side) != (point.number, point.how):
            return False
        self.struck = True
        return True

    def _fate(self, point: Point, call: Call) -> Fate:
        if call.number != point.number:
            return None
        self.struck = True
        return point.how

    # -- what must hold at rest ----------------------------------------------

    @property
    def holder(self) -> Host:
        (found,) = [host for host in self.world.hosts
                    if host.libvirt.states.get(INSTANCE) is GuestState.RUNNING]
        return found

    def problems(self) -> list[str]:
        """Each broken promise as a sentence."""
        return [*self._guest(), *self._entries(), *self._directories(), *self._bytes(),
                *self._secrets()]

    def _guest(self) -> ty.Iterator[str]:
        if not self.struck and self.point is not None:
            yield "the crash point was never reached"
        states = [state for host in self.world.hosts for state in host.libvirt.states.values()]
        if states != [GuestState.RUNNING]:
            yield f"the guest is not simply running on one host: {states}"
        orders = [order for host in self.world.hosts for order in host.libvirt.orders]
        if any(what != "move" for what, _ in orders):
            yield f"the guest was touched beyond its moves: {orders}"
        if self.world.executor == "nova" and orders:
            yield f"Nova moves guests, not the worker: {orders}"
        transfers = sum(len(host.libvirt.transfers) for host in self.world.hosts)
        # a kill hides that an order has failed already: it is then given once more
        if transfers > len(self.orders) + (self.story == "fails" and self.struck):
            yield f"the guest was moved {transfers} times for {len(self.orders)} orders"

    def _entries(self) -> ty.Iterator[str]:
        for host in self.world.hosts:
            for entry in host.entries():
                if entry.is_open:
                    yield (f"{entry.migration} is still open on {host.name}, {entry.phase}: "
                           f"{entry.outcome} {entry.reason or 'without a reason'}")

    def _directories(self) -> ty.Iterator[str]:
        for host in self.world.hosts:
            if host.staged(INSTANCE):
                yield f"{host.name} still has staged files: {host.staged(INSTANCE)}"
            if host.has_directory(INSTANCE) != (host is self.holder):
                yield f"{host.name} has_directory={host.has_directory(INSTANCE)}"

    def _bytes(self) -> ty.Iterator[str]:
        if self.world.unwatched_removals:
            return  # Nova alone loses what is in a directory, as it does without a worker
        kept = self._kept()
        for name, content in worlds.FILES.items():
            if content not in kept.values():
                yield f"{name} is lost"
        everything = b"".join(kept.values()).decode(errors="replace")
        for host in self.world.hosts:
            for line in host.libvirt.said:
                if line not in everything:
                    yield f"a line of the console is lost: {line}"
        holder = self.holder.files(INSTANCE)
        logs = b"".join(c for name, c in holder.items() if name.startswith("console.log"))
        lines = logs.decode(errors="replace").splitlines()
        if len(lines) != len(set(lines)):
            yield f"a line of the console is there twice: {lines}"
        for name, content in worlds.FILES.items():
            if holder.get(name) != content:
                yield f"the holder's {name} is not as it was"

    def _kept(self) -> dict[str, bytes]:
        """Every file that still exists anywhere, in instance directories and the trash."""
        return {f"{host.name}/{path}": content for host in self.world.hosts
                for path, content in worlds.files_below(host.path).items()}

    def _secrets(self) -> ty.Iterator[str]:
        for path in self.world.root.rglob("*"):
            if path.is_file() and conductor.SECRET_TOKEN.encode() in path.read_bytes():
                yield f"{path} has the user's token"


def points(story: str, executor: str, outage: str) -> list[Point]:
    """Every point of the story where a worker may die, in a stable order."""
    writes, calls = _dry_run(story, executor)
    found = [Point(story, executor, outage, host, number, side)
             for host, count in sorted(writes.items()) for number in range(1, count + 1)
             for side in ("before", "after")]
    found += [Point(story, executor, outage, "", number, how) for number in range(1, calls + 1)
              for how in ("kill before", "kill after", "lose reply", "repeat", "unreachable")]
    return found


@functools.lru_cache
def _dry_run(story: str, executor: str) -> tuple[dict[str, int], int]:
    """Journal writes of each host and calls, without a crash."""
    with tempfile.TemporaryDirectory(prefix="rbd-worker-dry-") as root:
        scenario = Scenario(pathlib.Path(root), story, executor)
        scenario.world.close()
        return scenario.writes, len(scenario.world.bus.calls)
