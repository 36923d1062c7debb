# SPDX-License-Identifier: Apache-2.0
"""Writes a sample report of three simulated hosts: ``python -m tests.sample_report FILE``.

The workers, their journals and their trash are real; libvirt, Ceph and the
broker are the tests' own, in virtual time.
"""

import itertools
import pathlib
import random
import sys
import tempfile
import typing as ty

from rbd_worker.cli import report
from rbd_worker.host import instances, trash, trash_pages
from rbd_worker.host.moving import MoveResult
from rbd_worker.migration.history import History
from rbd_worker.report import gather, page
from tests.fakes import Call, Fate
from tests.world import Host, World

DAYS = 3
#: How the moves go, one after the other, again and again.
WAYS = ("succeed", "succeed", "fail", "succeed", "refuse", "succeed", "succeed", "lose answer",
        "succeed", "succeed", "succeed")


class Story:
    """Three days of a small cloud, the same with every seed."""

    def __init__(self, root: pathlib.Path, seed: int = 7) -> None:
        self.random = random.Random(seed)
        self.world = World(root, "libvirt", hosts=3)
        self.world.timeline.set_clock(-DAYS * 86400)
        self._began = self.world.timeline.now
        self._missed = 0
        self.world.bus.fate = self._fate
        for host in self.world.hosts:
            self._measure(host)

    def tell(self) -> None:
        """Guests move about; some moves fail, one is in doubt, one does not end."""
        world, draw = self.world, self.random
        homes: dict[str, Host] = {}
        for host in world.hosts * 3:
            homes[world.boot(host, self._uuid())] = host
        for number, how in zip(range(1, 41), itertools.cycle(WAYS), strict=False):
            guest = draw.choice(list(homes))
            source = homes[guest]
            destination = draw.choice([h for h in world.hosts if h is not source])
            self._missed = draw.choice((0, 0, 0, 0, 2, 5))
            world.migrate(guest, source, destination, how=how, number=number,
                          seconds=draw.uniform(600, 2 * DAYS * 86400 / 42))
            homes[guest] = next(h for h in world.hosts if guest in h.libvirt.states)
        self._end(homes)

    def _end(self, homes: dict[str, Host]) -> None:
        (doubted, source), (stuck, other) = list(homes.items())[:2]
        left = self.world.hosts[(self.world.hosts.index(source) + 1) % 3]
        source.ceph.extra[f"vms/{doubted}_disk"] = source.ceph.own
        self.world.migrate(doubted, source, left, number=41, seconds=900)
        third = next(h for h in self.world.hosts if h is not other)
        self.world.migrate(stuck, other, third, how="hang", number=42, seconds=40)

    def report(self) -> gather.Report:
        now, since = self.world.timeline.now, self._began - 3600
        return gather.Report(since, now, now, tuple(
            gather.part(host.name, asked(host), since, now, 2000) for host in self.world.hosts))

    def _uuid(self) -> str:
        digits = f"{self.random.getrandbits(128):032x}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def _fate(self, call: Call) -> Fate:
        self.world.timeline.now += self.random.uniform(0.01, 0.12)
        if call.method == "pre_live_migration" and self._missed:
            self._missed -= 1
            return "unreachable"
        return None

    def _measure(self, host: Host) -> None:
        plain = host.libvirt.move

        def move(instance: str, order: ty.Any, on_progress: ty.Any) -> MoveResult:
            host.libvirt.TRANSFER = self.random.uniform(1.5, 9)
            plain(instance, order, on_progress)
            return MoveResult(downtime_ms=self.random.randint(18, 240),
                              total_ms=int(host.libvirt.TRANSFER * 1000), memory_bytes=64 << 20)
        host.libvirt.move = move  # type: ignore[method-assign, assignment]


def asked(host: Host) -> gather.Asked:
    """A host of the simulated world, asked as a real one is."""
    return gather.Asked(
        History(host.name, host.alive.journal).page,
        trash_pages.TrashPages(host.name, trash.Trash(instances.of(host.settings), 0)).page)


def write(path: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory(prefix="rbdw-") as folder:
        story = Story(pathlib.Path(folder))
        try:
            story.tell()
            report.write(path, page.render(story.report()))
        finally:
            story.world.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.sample_report FILE")
    write(pathlib.Path(sys.argv[1]))
    print(f"written: {sys.argv[1]}")
