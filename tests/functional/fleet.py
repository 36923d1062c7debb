# SPDX-License-Identifier: Apache-2.0
"""Two hosts of the lab with a worker each, and a conductor that orders migrations."""

import dataclasses
import hashlib
import os
import pathlib
import re
import typing as ty

from devstack import lab as labs
from devstack.conductor import Conductor, LiveMigration
from devstack.lab import processes
from rbd_worker.migration import journal
from rbd_worker.model import Outcome, Role
from tests import waiting

SECONDS = 40.0
#: Where a worker answers Prometheus, by default.
METRICS_PORT = 9642


@dataclasses.dataclass(frozen=True)
class FileState:
    """All of a file that a move has to keep."""

    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    digest: str


class Fleet:
    """``node1`` and ``node2`` with workers; everything asked from outside of them."""

    def __init__(self, lab: labs.Lab, conductor: Conductor) -> None:
        self.lab = lab
        self.conductor = conductor
        self.one, self.two = lab.host("node1"), lab.host("node2")
        self.workers: dict[str, labs.Worker] = {}
        self._numbers = 0

    def start(self, executor: str = "libvirt", **options: ty.Any) -> None:
        """Configure and start both workers; options as ``lab.write_config``'s."""
        for host in (self.one, self.two):
            self.lab.write_config(host, executor=executor, **options)
            self.workers[host.name] = self.lab.start_worker(host)
        for worker in self.workers.values():
            worker.wait_ready()

    def restart(self, host: labs.Host) -> labs.Worker:
        self.workers[host.name] = self.lab.start_worker(host)
        return self.workers[host.name].wait_ready()

    def order(self, guest: labs.Guest, source: labs.Host,
              destination: labs.Host) -> LiveMigration:
        self._numbers += 1
        return LiveMigration(guest.uuid, source.name, destination.name, number=self._numbers)

    def move(self, guest: labs.Guest, source: labs.Host, destination: labs.Host,
             ) -> LiveMigration:
        """Order a live migration; it is not waited for."""
        order = self.order(guest, source, destination)
        self.conductor.live_migrate(order)
        return order

    def moved(self, guest: labs.Guest, source: labs.Host, destination: labs.Host,
              ) -> LiveMigration:
        """Order a live migration and see it completed on both hosts."""
        order = self.move(guest, source, destination)
        entries = self.closed(order)
        assert {e.outcome for e in entries.values()} == {Outcome.COMPLETED}, entries
        return order

    def under_way(self, guest: labs.Guest, source: labs.Host, destination: labs.Host) -> None:
        """Return once memory of a busy guest is sent; over a narrow link that never ends."""
        def is_sent() -> bool:
            said = source.virsh("domjobinfo", guest.uuid, check=False)
            sent = re.search(r"^Memory processed: +([0-9.]+) (\w+)", said, re.MULTILINE)
            return sent is not None and float(sent[1]) > 0

        self.until(is_sent, f"the first of the memory of {guest.name}")
        assert guest.state(destination) == "paused"
        assert guest.running_on() == [source.name], "it moved too fast for this test"

    # -- journals --------------------------------------------------------------

    def entry(self, host: labs.Host, order: LiveMigration) -> journal.Entry | None:
        role = Role.SOURCE if host.name == order.source else Role.DESTINATION
        reader = self.reader(host)
        try:
            return reader.entry(order.uuid, role)
        finally:
            reader.close()

    def reader(self, host: labs.Host) -> journal.JournalReader:
        return journal.JournalReader(host.root / "var/lib/nova/rbd-worker")

    def closed(self, order: LiveMigration, seconds: float = SECONDS,
               ) -> dict[str, journal.Entry]:
        """Both hosts' entries once both are closed."""
        entries: dict[str, journal.Entry] = {}

        def both_closed() -> bool:
            for host in (self.one, self.two):
                entry = self.entry(host, order)
                if entry is not None:
                    entries[host.name] = entry
            return len(entries) == 2 and not any(e.is_open for e in entries.values())

        self.until(both_closed, f"the end of {order.source} -> {order.destination}", seconds,
                   entries)
        return entries

    def notes(self, host: labs.Host, order: LiveMigration) -> dict[str, dict[str, ty.Any]]:
        entry = self.entry(host, order)
        assert entry is not None
        reader = self.reader(host)
        try:
            return {r.step: r.data for r in reader.records(entry.migration) if r.data}
        finally:
            reader.close()

    def refusals(self, host: labs.Host) -> list[str]:
        reader = self.reader(host)
        try:
            return [refusal.reason for refusal in reader.refusals()]
        finally:
            reader.close()

    # -- what is on the disks ----------------------------------------------------

    def trash(self, host: labs.Host) -> list[pathlib.Path]:
        """The removed directories on that host."""
        trash = host.nova_instances / ".rbd-worker/trash"
        return sorted(item / "directory" for item in trash.iterdir()) if trash.is_dir() else []

    def staging(self, host: labs.Host) -> list[str]:
        staging = host.nova_instances / ".rbd-worker/staging"
        return sorted(p.name for p in staging.iterdir()) if staging.is_dir() else []

    # -- waiting -------------------------------------------------------------------

    def until(self, condition: ty.Callable[[], bool], what: str, seconds: float = SECONDS,
              shown: object = "") -> None:
        """Wait for ``condition``; the end of the logs explains a failure."""
        waiting.until(condition, what, seconds, self.workers, lambda: shown)


def answer(host: labs.Host, path: str) -> tuple[int, str]:
    """What the worker on ``host`` answers there, asked by its default address."""
    script = ("import http.client, sys\n"
              "c = http.client.HTTPConnection(\n"
              f"    '127.0.0.1', {METRICS_PORT}, timeout={processes.patience(20)})\n"
              "c.request('GET', sys.argv[1]); r = c.getresponse()\n"
              "print(r.status, r.read().decode())")
    status, _, body = host.run(["python3", "-c", script, path]).stdout.partition(" ")
    return int(status), body


def states(directory: pathlib.Path) -> dict[str, FileState]:
    """Every file below a directory, by relative path."""
    return {str(path.relative_to(directory)): _state(path)
            for path in sorted(directory.rglob("*")) if path.is_file()}


def _state(path: pathlib.Path) -> FileState:
    status = path.stat()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileState(status.st_size, status.st_mode & 0o7777, status.st_uid, status.st_gid,
                     status.st_mtime_ns, digest)


def furnish(directory: pathlib.Path) -> None:
    """Files of every kind that an instance directory may hold, with times and modes."""
    (directory / "disk.config").write_bytes(os.urandom(64 << 10))
    (directory / "kernel").write_bytes(b"\x7fELF" + os.urandom(3 << 20))
    (directory / "libvirt.xml").write_text("<domain/>\n")
    (directory / "empty").touch()
    (directory / "sub").mkdir()
    (directory / "sub" / "nested").write_text("below\n")
    with (directory / "ephemeral").open("wb") as sparse:
        sparse.truncate(256 << 20)
        sparse.seek(100 << 20)
        sparse.write(os.urandom(1 << 20))
    (directory / "disk.config").chmod(0o640)
    (directory / "kernel").chmod(0o444)
    os.chown(directory / "disk.config", 64055, 107)
    for name in ("disk.config", "kernel", "libvirt.xml", "ephemeral"):
        os.utime(directory / name, ns=(1_400_000_000_123_456_789, 1_400_000_000_987_654_321))
