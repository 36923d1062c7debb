# SPDX-License-Identifier: Apache-2.0
"""Several orders to move one guest away from this host: with which of them has it left?

Nova gives one order at a time, but says nothing when one ends early, and
whoever has the broker's password can send one more.  So the newest is not
believed: each is followed, and the one whose destination has the guest goes on.

Two orders are rivals where one was not settled when the other came, and both
are of the same stay of the guest, that is, of the same directory: a guest that
has left and come back has another one, with other files.  All of it is read
from the journal, so that a restart changes nothing.  Executor nova only; with
executor libvirt a second order is refused.
"""

import typing as ty

from rbd_worker.migration.journal import Entry
from rbd_worker.migration.task import Task
from rbd_worker.model import Outcome, Phase, Role

#: Note of an entry: keys of those that were open and not settled when it began.
_BESIDE = "beside"
#: So many of them; the oldest count, whoever floods this host with orders.
_MAX_BESIDE = 64


def note(others: ty.Iterable[Task]) -> dict[str, dict[str, ty.Any]]:
    """What is journaled with a new order, in one write: which ones were there first.

    :param others: open tasks of the instance, the oldest first.
    """
    first = [task.migration.key for task in others
             if task.migration.role is Role.SOURCE and task.is_nova
             and task.phase is not Phase.ROLLBACK and "settled" not in task.notes]
    return {_BESIDE: {"migrations": first[:_MAX_BESIDE]}} if first else {}


def is_second(task: Task) -> bool:
    """Whether an order that was there first is still open."""
    return any(rival.entry.is_open for rival in _first(task))


def winner(task: Task) -> Entry | None:
    """The order with which the guest has left: both hosts have said so."""
    found = next((rival for rival in _rivals(task) if rival.is_settled), None)
    return None if found is None else found.entry


def first_of_both(task: Task) -> Entry | None:
    """An open order that was there first, to the same host, and may yet be settled there.

    It will be: what both hosts say of the one is true of the other.
    """
    return next((rival.entry for rival in _rivals(task)
                 if rival.is_first and rival.entry.is_open
                 and rival.entry.phase is not Phase.ROLLBACK
                 and rival.entry.migration.destination == task.migration.destination), None)


def has_carried(task: Task) -> bool:
    """Whether a rival has handed over the files that this task holds, by digest."""
    return any(rival.is_settled and rival.entry.outcome is Outcome.COMPLETED
               and "skipped" not in rival.notes.get("ensure_files_handed_over", {"skipped": 1})
               for rival in _rivals(task))


class _Known:
    """What the journal has of another order."""

    def __init__(self, task: Task, entry: Entry) -> None:
        self.entry = entry
        self.notes: dict[str, dict[str, ty.Any]] = {}
        for record in task.ports.journal.records(entry.migration):
            self.notes.setdefault(record.step, {}).update(record.data)
        self.is_first = entry.migration.key in _beside(task.notes)
        self.is_settled = "settled" in self.notes

    @property
    def beside(self) -> list[str]:
        return _beside(self.notes)

    @property
    def directory(self) -> ty.Any:
        return _directory(self.notes)


def _rivals(task: Task) -> ty.Iterator[_Known]:
    mine = _directory(task.notes)
    newest = (_Known(task, e) for e in _others(task))
    for rival in (*_first(task), *(n for n in newest if task.migration.key in n.beside)):
        if mine in (None, rival.directory):  # who holds no files has none to lose
            yield rival


def _first(task: Task) -> ty.Iterator[_Known]:
    for key in _beside(task.notes):
        entry = task.ports.journal.entry(key, Role.SOURCE)
        if entry is not None:
            yield _Known(task, entry)


def _others(task: Task) -> list[Entry]:
    migration = task.migration
    if not task.is_nova or migration.role is not Role.SOURCE:
        return []
    return [e for e in task.ports.journal.entries_of(migration.instance)
            if e.migration.role is Role.SOURCE and e.migration.key != migration.key]


def _beside(notes: dict[str, dict[str, ty.Any]]) -> list[str]:
    return list(notes.get(_BESIDE, {}).get("migrations", ()))


def _directory(notes: dict[str, dict[str, ty.Any]]) -> ty.Any:
    return notes.get("ensure_files_pinned", {}).get("identity")
