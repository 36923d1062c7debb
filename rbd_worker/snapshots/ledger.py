# SPDX-License-Identifier: Apache-2.0
"""What the journal knows of snapshots: those that this worker took, and guests to be thawed.

A row of a snapshot is written as ``making`` before Ceph or the guest is
touched, as ``made`` when all disks have it, and as ``removing`` before the
first disk loses it; it is dropped when none has it any more.  A debt is
written before a guest is frozen and dropped when it is thawed.
"""

import dataclasses
import enum
import logging
import time
import typing as ty

from rbd_worker import errors
from rbd_worker.migration.journal import Journal, Work
from rbd_worker.snapshots.sets import SnapshotSet

LOG = logging.getLogger(__name__)

_SNAPSHOT, _FROZEN = "snapshot", "frozen"


class State(enum.StrEnum):
    MAKING = "making"
    MADE = "made"
    REMOVING = "removing"


class Row(ty.NamedTuple):
    state: State
    set: SnapshotSet


class Debt(ty.NamedTuple):
    """A guest that was frozen, or may be.

    :ivar at: seconds since the epoch.
    """

    id: str
    instance: str
    at: float


class Ledger:
    """Thread-safe; what it writes is durable when a method returns.

    :raises errors.JournalUnusable: it cannot be written; nothing may be done then.
    """

    def __init__(self, journal: Journal, clock: ty.Callable[[], float] = time.time) -> None:
        self._journal = journal
        self.clock = clock

    def rows(self, instance: str | None = None) -> list[Row]:
        """Snapshots of this worker, of one instance or of all; oldest first."""
        return [row for work in self._journal.works(_SNAPSHOT)
                if instance in (None, work.instance) and (row := _row(work)) is not None]

    def row(self, instance: str, name: str) -> Row | None:
        return next((row for row in self.rows(instance) if row.set.name == name), None)

    def write(self, state: State, one: SnapshotSet) -> None:
        self._journal.keep_work(Work(one.id, _SNAPSHOT, one.instance, state, one.at,
                                     one.to_dict()))

    def release(self, row: Row) -> None:
        """It belongs to no migration any more, and leaves as any other when it expires."""
        self.write(row.state, dataclasses.replace(row.set, migration=""))

    def drop(self, one: SnapshotSet) -> None:
        self._journal.forget_work(one.id)

    def owe_thaw(self, one: SnapshotSet) -> Debt:
        """Before its guest is frozen."""
        debt = Debt(f"{one.id}.frozen", one.instance, self.clock())
        self._journal.keep_work(Work(debt.id, _FROZEN, debt.instance, "frozen", debt.at, {}))
        return debt

    def debts(self) -> list[Debt]:
        return [Debt(work.id, work.instance, work.at) for work in self._journal.works(_FROZEN)]

    def settle(self, debt: Debt) -> None:
        """The guest is thawed."""
        self._journal.forget_work(debt.id)


def _row(work: Work) -> Row | None:
    try:
        return Row(State(work.state), SnapshotSet.from_dict(work.data))
    except (ValueError, errors.BadInput) as e:
        LOG.error("a snapshot's row in the journal makes no sense and is left alone: %s", e)
        return None
