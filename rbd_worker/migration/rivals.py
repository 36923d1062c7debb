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

import itertools
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
             and task.phase is not Phase.ROLLBACK and not _is_settled(task)]
    return {_BESIDE: {"migrations": first[:_MAX_BESIDE]}} if first else {}


def is_second(task: Task) -> bool:
    """Whether an order that was there first is still open."""
    return any(entry.is_open for entry in _first(task))


def winner(task: Task) -> Task | None:
    """The order with which the guest has left: both hosts have said so."""
    return next((rival for rival in _rivals(task) if _is_settled(rival)), None)


def first_of_both(task: Task) -> Task | None:
    """An open order that was there first, to the same host, and may yet be settled there.

    It will be: what both hosts say of the one is true of the other.
    """
    return next((rival for rival in _rivals(task)
                 if rival.migration.key in _beside(task) and not rival.is_closed
                 and rival.phase is not Phase.ROLLBACK
                 and rival.migration.destination == task.migration.destination), None)


def has_carried(task: Task) -> bool:
    """Whether a rival has handed over the files that this task holds, by digest."""
    return any(_is_settled(rival) and rival.outcome is Outcome.COMPLETED
               and "skipped" not in rival.notes.get("ensure_files_handed_over", {"skipped": 1})
               for rival in _rivals(task))


def _rivals(task: Task) -> ty.Iterator[Task]:
    """As the journal has them."""
    mine = _directory(task)
    newer = (rival for rival in _read(task, _others(task)) if task.migration.key in _beside(rival))
    for rival in itertools.chain(_read(task, _first(task)), newer):
        if mine in (None, _directory(rival)):  # who holds no files has none to lose
            yield rival


def _read(task: Task, entries: ty.Iterable[Entry]) -> ty.Iterator[Task]:
    return (Task(entry, task.ports) for entry in entries)


def _first(task: Task) -> ty.Iterator[Entry]:
    entries = (task.ports.journal.entry(key, Role.SOURCE) for key in _beside(task))
    return (entry for entry in entries if entry is not None)


def _others(task: Task) -> list[Entry]:
    migration = task.migration
    if not task.is_nova or migration.role is not Role.SOURCE:
        return []
    return [e for e in task.ports.journal.entries_of(migration.instance)
            if e.migration.role is Role.SOURCE and e.migration.key != migration.key]


def _beside(task: Task) -> list[str]:
    return list(task.notes.get(_BESIDE, {}).get("migrations", ()))


def _directory(task: Task) -> ty.Any:
    return task.notes.get("ensure_files_pinned", {}).get("identity")


def _is_settled(task: Task) -> bool:
    return "settled" in task.notes
