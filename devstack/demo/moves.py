# SPDX-License-Identifier: Apache-2.0
"""One live migration, ordered as nova-conductor orders it, and watched to its end.

The workers' journals are what is watched: read-only, beside the workers.
"""

import dataclasses
import time
import typing as ty

import libvirt
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from devstack import lab as labs
from devstack.conductor import Conductor, LiveMigration
from devstack.demo import timeline
from devstack.lab import processes
from rbd_worker.migration import journal
from rbd_worker.model import Role

SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Move:
    """A migration that has come to its end, or has not within ``SECONDS``."""

    order: LiveMigration
    rows: tuple[timeline.Row, ...]
    outcomes: ty.Mapping[str, str]
    prepared_ms: float | None
    downtime_ms: int | None

    @property
    def is_completed(self) -> bool:
        return set(self.outcomes.values()) == {"completed"}


def watched(lab: labs.Lab, conductor: Conductor, order: LiveMigration,
            progress: Progress) -> Move:
    """Publish the cast and follow both journals until both entries are closed."""
    watch = _Watch(lab, order)
    bar = progress.add_task(f"{order.source} → {order.destination}", total=1, phase="cast")
    conductor.live_migrate(order)
    deadline = time.monotonic() + processes.patience(SECONDS)
    while time.monotonic() < deadline and not watch.is_over():
        processed, total = watch.memory()
        progress.update(bar, phase=watch.phase(), completed=processed, total=total or 1)
        time.sleep(0.05)
    progress.update(bar, phase="completed" if watch.is_over() else "no end", completed=1, total=1)
    return watch.result()


def bars(console: Console) -> Progress:
    """What ``watched`` draws in."""
    return Progress(TextColumn("{task.description}"), BarColumn(20),
                    TextColumn("{task.fields[phase]}"), TimeElapsedColumn(), console=console)


def _keep_quiet(_context: object, _error: object) -> None:
    """libvirt would print on stderr what it also raises, as for a guest that has left."""


class _Watch:
    def __init__(self, lab: labs.Lab, order: LiveMigration) -> None:
        self._order = order
        self._began = time.time()
        self._readers = {
            role: journal.JournalReader(lab.host(name).root / "var/lib/nova/rbd-worker")
            for role, name in self._roles()}
        libvirt.registerErrorHandler(_keep_quiet, None)
        self._source = libvirt.open(lab.host(order.source).libvirt_uri)
        self._memory = (0, 0)

    def _roles(self) -> tuple[tuple[Role, str], ...]:
        return (Role.SOURCE, self._order.source), (Role.DESTINATION, self._order.destination)

    def _entries(self) -> dict[Role, journal.Entry]:
        found = {role: reader.entry(self._order.uuid, role)
                 for role, reader in self._readers.items()}
        return {role: entry for role, entry in found.items() if entry is not None}

    def is_over(self) -> bool:
        entries = self._entries()
        return len(entries) == len(self._readers) and not any(
            e.is_open for e in entries.values())

    def phase(self) -> str:
        entry = self._entries().get(Role.SOURCE)
        moved = f", {self._memory[0] >> 20} MiB of memory" if self._memory[0] else ""
        return f"{entry.phase if entry else 'cast'}{moved}"

    def memory(self) -> tuple[int, int]:
        """Bytes of memory processed and in all, as libvirt's job on the source says."""
        try:
            stats = self._source.lookupByUUIDString(self._order.instance).jobStats()
        except libvirt.libvirtError:
            return self._memory
        if stats.get("memory_total"):
            self._memory = (stats.get("memory_processed", 0), stats["memory_total"])
        return self._memory

    def result(self) -> Move:
        rows: list[timeline.Row] = []
        outcomes: dict[str, str] = {}
        prepared, downtime = None, None
        for role, host in self._roles():
            entry = self._readers[role].entry(self._order.uuid, role)
            if entry is None:
                continue
            outcomes[host] = entry.outcome.value if entry.outcome else "open"
            records = self._readers[role].records(entry.migration)
            rows += timeline.rows(entry, records, self._began)
            for record in records:
                if (record.step, record.state) == ("ensure_destination_prepared", "done"):
                    prepared = (record.at - self._began) * 1000
                if record.step == "ensure_guest_moved" and record.state == "done":
                    downtime = record.data.get("downtime_ms")
        for reader in self._readers.values():
            reader.close()
        self._source.close()
        return Move(self._order, tuple(rows), outcomes, prepared, downtime)
