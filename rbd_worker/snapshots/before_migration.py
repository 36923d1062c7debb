# SPDX-License-Identifier: Apache-2.0
"""A snapshot for each migration away from here, where ``snapshot_before_migration`` is on.

It is taken beside the migration by threads of its own, as soon as the cast is
heard, with no guest frozen and no answer waited for: the migration goes on as
if nobody took it, and what cannot be taken is only told.  A guest that moves
already is left alone.
"""

import collections
import logging
import re
import threading
import typing as ty

from rbd_worker import errors
from rbd_worker.migration.journal import Journal
from rbd_worker.model import Outcome, Role
from rbd_worker.snapshots.complaints import Complaints
from rbd_worker.snapshots.ledger import Ledger, Row, State
from rbd_worker.snapshots.making import Maker
from rbd_worker.snapshots.quiet import Quiet
from rbd_worker.snapshots.removing import Remover
from rpcapi import snapshots as contract

LOG = logging.getLogger(__name__)

#: Snapshots that are taken at a time, and that wait for it at most.
_THREADS, _MOST = 2, 200
#: How long one is kept whose migration did not complete, in seconds.
KEPT_SECONDS = 7 * 86400


class Begun(ty.NamedTuple):
    instance: str
    migration: str
    destination: str


class BeforeMigration:
    """Thread-safe.

    :param is_on: ``snapshot_before_migration``.
    """

    def __init__(self, maker: Maker, remover: Remover, ledger: Ledger, quiet: Quiet,
                 journal: Journal, *, is_on: bool) -> None:
        self._maker = maker
        self._remover = remover
        self._ledger = ledger
        self._quiet = quiet
        self._journal = journal
        self._is_on = is_on
        self._lock = threading.Lock()
        self._waiting: collections.deque[Begun] = collections.deque()
        self._threads = 0
        self._complaints = Complaints()

    def begun(self, begun: Begun) -> None:
        """A migration away from here was journaled; returns at once."""
        if not self._is_on:
            return
        with self._lock:
            if len(self._waiting) >= _MOST:
                LOG.warning("[instance: %s] no snapshot before its migration: %d wait already",
                            begun.instance, _MOST)
                return
            self._waiting.append(begun)
            if self._threads < _THREADS:
                self._threads += 1
                threading.Thread(target=self._work, name="before-migration", daemon=True).start()

    def take(self, begun: Begun) -> None:
        """Take it now, unless the guest moves already; never raises our errors."""
        request = contract.CreateRequest(
            instance=begun.instance, name=name_for(begun.migration), by="rbd-worker",
            note=f"before the migration to {begun.destination}", expires_in=KEPT_SECONDS,
            freeze="never")
        try:
            with self._quiet.alone(begun.instance):
                if self._is_open(begun.migration):
                    self._maker.take(request, begun.migration)
        except errors.Error as e:
            LOG.warning("[instance: %s] no snapshot before its migration: %s", begun.instance,
                        e.sentence)

    def settle(self) -> None:
        """Those of completed migrations leave, the others become like any other.

        :raises errors.JournalUnusable: it cannot be read or written.
        """
        rows = self._ledger.rows()
        for row in rows:
            if row.set.migration and row.state is State.MADE and not self._is_open(
                    row.set.migration):
                try:
                    self._settle(row)
                except errors.InstanceBusy:
                    continue  # in another round
                except errors.JournalUnusable:
                    raise
                except errors.Error as e:
                    self._complaints.of(row, e)
        self._complaints.forget_all_but(rows)

    # -- inside --------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    return
                begun = self._waiting.popleft()
            try:
                self.take(begun)
            except Exception:
                LOG.exception("[instance: %s] a snapshot before its migration failed in a way "
                              "that is not foreseen", begun.instance)

    def _is_open(self, migration: str) -> bool:
        entry = self._journal.entry(migration, Role.SOURCE)
        return entry is not None and entry.is_open

    def _settle(self, row: Row) -> None:
        entry = self._journal.entry(row.set.migration, Role.SOURCE)
        outcome = Outcome.UNRESOLVED if entry is None else entry.outcome
        with self._quiet.alone(row.set.instance):
            self._quiet.state(row.set.instance)
            if outcome is Outcome.COMPLETED:
                self._remover.remove(row.set)
                return
            self._ledger.release(row)
        LOG.warning("%s is kept for a week: migration %s has %s", row.set, row.set.migration,
                    outcome)


def name_for(migration: str) -> str:
    """The snapshot's name; a migration's key may be longer, or have odd characters."""
    return f"before-migration-{re.sub('[^A-Za-z0-9._-]', '_', migration)[:40]}"
