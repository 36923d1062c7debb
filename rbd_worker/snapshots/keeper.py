# SPDX-License-Identifier: Apache-2.0
"""What a worker that was killed left undone, and what has had its time.

Every round, the first right after the start: guests are thawed that are to be;
a snapshot that was being taken is removed, one that was being removed is
removed to its end.  Those that expired are removed only where this worker
took them, nothing depends on them, and the clock can be trusted.
"""

import logging
import threading
import typing as ty

from rbd_worker import errors, periodic
from rbd_worker.snapshots.before_migration import BeforeMigration
from rbd_worker.snapshots.complaints import Complaints
from rbd_worker.snapshots.freezer import Freezer
from rbd_worker.snapshots.jobs import Jobs
from rbd_worker.snapshots.ledger import Ledger, Row, State
from rbd_worker.snapshots.quiet import Quiet
from rbd_worker.snapshots.removing import Remover

LOG = logging.getLogger(__name__)

#: Seconds between two looks at guests to be thawed, and between two rounds.
THAW_SECONDS, ROUND_SECONDS = 3, 10
#: Rounds from one look for snapshots that somebody else has removed to the next.
ROUNDS_PER_LOOK = 360
#: Seconds after which nothing of a snapshot can appear any more that was given up.
LATE_SECONDS = 120


class Keeper:
    """Two threads of its own, from ``start`` until the worker's shutdown.

    :param doubt: why ages mean nothing at the moment; empty where they do.
    :ivar troubles: guests that are to be thawed and are not, a sentence each.
    """

    def __init__(self, ledger: Ledger, freezer: Freezer, remover: Remover, quiet: Quiet,
                 jobs: Jobs, before_migrations: BeforeMigration, doubt: ty.Callable[[], str],
                 shutdown: threading.Event) -> None:
        self.troubles: list[str] = []
        self._ledger = ledger
        self._freezer = freezer
        self._remover = remover
        self._quiet = quiet
        self._jobs = jobs
        self._before_migrations = before_migrations
        self._doubt = doubt
        self._complaints = Complaints()
        self._round = 0
        self._thaws = periodic.Periodic("thaw", self.thaw, THAW_SECONDS, shutdown,
                                        "which guests are to be thawed is not known")
        self._rounds = periodic.Periodic("snapshots", self.tidy, ROUND_SECONDS, shutdown,
                                         "snapshots are not looked after")

    def start(self) -> None:
        self._thaws.start()
        self._rounds.start()

    def thaw(self) -> None:
        """No guest is frozen that should not be, as far as its agent answers."""
        before, self.troubles = self.troubles, self._freezer.pay_debts()
        for trouble in self.troubles:
            if trouble not in before:
                LOG.error("%s", trouble)

    def tidy(self) -> None:
        """One round; one snapshot's error keeps no other from its turn.

        :raises errors.JournalUnusable: it cannot be read.
        """
        self._round += 1
        self._before_migrations.settle()
        rows = self._ledger.rows()
        for row in rows:
            try:
                self._look_at(row)
            except errors.Error as e:
                self._complaints.of(row, e)
        self._complaints.forget_all_but(rows)
        if not self._doubt():
            self._jobs.forget_old()

    # -- inside --------------------------------------------------------------

    def _look_at(self, row: Row) -> None:
        if row.state is State.MADE and not self._has_expired(row) and not self._is_gone(row):
            return
        try:
            with self._quiet.alone(row.set.instance):
                if self._ledger.row(row.set.instance, row.set.name) != row:
                    return  # somebody has gone on with it meanwhile
                if row.state is State.MAKING:
                    self._undo(row)
                else:
                    self._quiet.state(row.set.instance)
                    self._remover.remove(row.set)
        except errors.InstanceBusy:
            return  # in another round

    def _undo(self, row: Row) -> None:
        self._remover.clear(row.set)
        if not 0 <= self._ledger.clock() - row.set.at < LATE_SECONDS:
            LOG.warning("%s was not taken to its end and is removed", row.set)
            self._ledger.drop(row.set)

    def _has_expired(self, row: Row) -> bool:
        expires = row.set.expires
        return bool(expires) and not self._doubt() and self._ledger.clock() > expires

    def _is_gone(self, row: Row) -> bool:
        """Removed where the guest is by now, or with its disks; only the journal has it still."""
        if self._round % ROUNDS_PER_LOOK:
            return False
        return not any(self._remover.is_on(row.set, image) for image in row.set.images)
