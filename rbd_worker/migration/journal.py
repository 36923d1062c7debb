# SPDX-License-Identifier: Apache-2.0
"""The journal: what was meant, written before it is done.

One SQLite file under ``state_directory``, in WAL mode with ``synchronous =
FULL``: when a method returns, its record survives a power loss.  An *entry*
is one migration in one role; its *records* say, in order, which step was
about to be done (``doing``), was done (``done``), was about to be undone
(``undoing``) or was undone (``undone``).  The last record of a step is its
state.  *Work* is what else has to survive, one row each.  *Messages* remembers
the ids of heard casts so that a repeated one is not acted upon twice;
*refusals* holds what was bad input, for the operator.

One process owns the file (an exclusive lock beside it); the operator's
command opens it read-only.  No message body, token or key is ever stored.
"""

import contextlib
import json
import logging
import os
import pathlib
import sqlite3
import time
import types
import typing as ty

from rbd_worker import errors, news
from rbd_worker.migration import journal_file
from rbd_worker.migration.journal_reader import JournalReader
from rbd_worker.migration.journal_rows import Entry, Record, Refusal, StepState, Work
from rbd_worker.model import Migration, Outcome, Phase

__all__ = ["Entry", "Journal", "JournalReader", "Record", "Refusal", "StepState", "Work"]

LOG = logging.getLogger(__name__)

#: How long ids of heard messages are remembered, in seconds: longer than the
#: time to live of the tap's queue, after which no repetition can arrive.
MESSAGE_MEMORY = 7 * 86400
#: How long a closed entry is kept for the operator, in seconds.
HISTORY_SECONDS = 90 * 86400
#: Newest closed entries, ids of messages and refusals that are kept, however many come.
MAX_CLOSED = 10_000
MAX_MESSAGES = 100_000
MAX_REFUSALS = 1000
#: New rows between two looks for more than that: a flood does not wait for the next pruning.
_FORGET_EVERY = 1000


class Journal(JournalReader):
    """Thread-safe; every writing method returns when the write is durable.

    A disk that is full or read-only ends no worker: each write raises until
    there is space again, and whoever wanted it asks again.

    :param host: whose journal it is; empty where that does not matter.
    :param told: hears of every write, once it is durable.
    :ivar trouble: why the last write failed, as a sentence; empty where it did not.
    :raises errors.AnotherWorker: another process owns the file.
    :raises errors.HostRenamed: it is the journal of a host with another name.
    :raises errors.JournalUnusable: newer layout, torn file, no permission, full disk.
    """

    def __init__(self, directory: str | os.PathLike[str],
                 clock: ty.Callable[[], float] = time.time, host: str = "",
                 told: news.Listener | None = None) -> None:
        self._clock = clock
        self._told = told or news.Listener()
        self.trouble = ""
        self._added = 0
        self._owner = journal_file.own(pathlib.Path(directory))
        try:
            _check(directory, host)
            super().__init__(directory)
            try:
                if host and not self.host():
                    self._keep("host", host)
            except BaseException:
                super().close()  # nobody else will
                raise
        except BaseException:
            os.close(self._owner)
            raise

    def close(self) -> None:
        super().close()
        os.close(self._owner)

    def open(self, migration: Migration, unique_id: str = "",
             notes: ty.Mapping[str, dict[str, ty.Any]] = types.MappingProxyType({})) -> bool:
        """Begin an entry. False where it is known already, or its message was heard before.

        :param notes: name to data of the notes that it begins with, in the same write.
        """
        now = self._clock()
        row = (migration.key, migration.role, migration.instance, migration.source,
               migration.destination, migration.executor, migration.request_id, migration.number,
               now, Phase.PRE)
        self._forget_now_and_then()
        with self._transaction() as db:
            if unique_id and not self._remember(db, unique_id):
                return False
            done = db.execute(
                "INSERT INTO entry (key, role, instance, source, destination, executor,"
                " request_id, number, opened, phase) VALUES (?,?,?,?,?,?,?,?,?,?)"
                " ON CONFLICT DO NOTHING", row)
            if done.rowcount == 1:
                _add(db, migration, now, [(name, StepState.NOTE, data)
                                          for name, data in notes.items()])
        if done.rowcount == 1:
            self._told.begun(migration, now)
        return done.rowcount == 1

    def heard(self, unique_id: str) -> bool:
        """Remember a message; False where it had been heard before."""
        self._forget_now_and_then()
        with self._transaction() as db:
            return self._remember(db, unique_id)

    def record(self, migration: Migration, *records: tuple[str, StepState, dict[str, ty.Any]],
               phase: Phase | None = None) -> None:
        """Append records in one durable write, and set the entry's phase where given."""
        now = self._clock()
        with self._transaction() as db:
            _add(db, migration, now, records)
            if phase is not None:
                db.execute("UPDATE entry SET phase=? WHERE key=? AND role=?",
                           (phase, migration.key, migration.role))
        self._told.recorded(migration, records, phase, now)

    def mark(self, migration: Migration, outcome: Outcome | None, reason: str = "") -> None:
        """Set the outcome so far of an open entry (UNRESOLVED and why, or None again)."""
        with self._transaction() as db:
            db.execute("UPDATE entry SET outcome=?, reason=? WHERE key=? AND role=?",
                       (outcome or "", reason, migration.key, migration.role))
        self._told.marked(migration, outcome, reason)

    def close_entry(self, migration: Migration, outcome: Outcome, reason: str = "") -> None:
        now = self._clock()
        with self._transaction() as db:
            done = db.execute(
                "UPDATE entry SET outcome=?, reason=?, closed=? WHERE key=? AND role=?"
                " AND closed IS NULL", (outcome, reason, now, migration.key, migration.role))
        if done.rowcount == 1:
            self._told.ended(migration, outcome, reason, now)

    def refuse(self, origin: str, reason: str, unique_id: str = "") -> None:
        """Keep bad input for the operator: its origin and what is wrong, never its body.

        :param unique_id: of the message, which is remembered with it in one write: a kill leaves
            none that counts as heard and that nothing is known of.
        """
        with self._transaction() as db:
            if unique_id and not self._remember(db, unique_id):
                return
            db.execute("INSERT INTO refusal (at, origin, reason) VALUES (?,?,?)",
                       (self._clock(), origin[:256], reason[:1024]))
            db.execute("DELETE FROM refusal WHERE id <= (SELECT max(id) FROM refusal) - ?",
                       (MAX_REFUSALS,))

    def keep_path_id(self, path_id: str) -> None:
        """Remember which instances_path is this host's."""
        self._keep("path", path_id)

    def keep_work(self, work: Work) -> None:
        """Write one row of work, or rewrite it."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO work VALUES (?,?,?,?,?,?)",
                       (work.id, work.kind, work.instance, work.state, work.at,
                        json.dumps(work.data)))

    def forget_work(self, id_: str) -> None:
        """Drop one row of work; harmless where there is none."""
        with self._transaction() as db:
            db.execute("DELETE FROM work WHERE id=?", (id_,))

    def prune(self) -> None:
        """Forget old messages and closed entries; open ones never.

        Called from time to time, while the clock can be trusted.
        """
        now = self._clock()
        old = "SELECT key, role FROM entry WHERE closed < ?"
        with self._transaction() as db:
            db.execute("DELETE FROM message WHERE at < ?", (now - MESSAGE_MEMORY,))
            db.execute(f"DELETE FROM record WHERE (key, role) IN ({old})",
                       (now - HISTORY_SECONDS,))
            db.execute("DELETE FROM entry WHERE closed < ?", (now - HISTORY_SECONDS,))
            self._forget_surplus(db)

    # -- inside --------------------------------------------------------------

    def _opened(self) -> sqlite3.Connection:
        return journal_file.opened(self.path)

    def _has_table(self, name: str) -> bool:
        return True  # opened for writing, it has them all

    def _remember(self, db: sqlite3.Connection, unique_id: str) -> bool:
        done = db.execute("INSERT INTO message VALUES (?,?) ON CONFLICT DO NOTHING",
                          (unique_id, self._clock()))
        return done.rowcount == 1

    def _keep(self, name: str, value: str) -> None:
        with self._transaction() as db:
            db.execute("INSERT INTO about VALUES (?,?) ON CONFLICT (name)"
                       " DO UPDATE SET value=excluded.value", (name, value))

    def _forget_now_and_then(self) -> None:
        self._added += 1
        if self._added % _FORGET_EVERY == 0:
            with self._transaction() as db:
                self._forget_surplus(db)

    def _forget_surplus(self, db: sqlite3.Connection) -> None:
        """What is more than the numbers allow, whatever the clock says."""
        db.execute("DELETE FROM message WHERE rowid <= (SELECT max(rowid) FROM message) - ?",
                   (MAX_MESSAGES,))
        surplus = ("SELECT key, role FROM (SELECT key, role FROM entry WHERE closed IS NOT NULL"
                   " ORDER BY closed DESC, rowid DESC LIMIT -1 OFFSET ?)")
        db.execute(f"DELETE FROM record WHERE (key, role) IN ({surplus})", (MAX_CLOSED,))
        db.execute(f"DELETE FROM entry WHERE (key, role) IN ({surplus})", (MAX_CLOSED,))

    @contextlib.contextmanager
    def _transaction(self) -> ty.Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                with journal_file.translated(self.path):
                    self._end_failed_write()
                    began = time.monotonic()
                    self._db.execute("BEGIN IMMEDIATE")
                    try:
                        yield self._db
                        self._db.execute("COMMIT")
                    except BaseException:
                        if self._db.in_transaction:  # SQLite may have rolled back by itself
                            self._db.execute("ROLLBACK")
                        raise
            except errors.JournalUnusable as e:
                self._fails(e)
                raise
            if self.trouble:
                self.trouble = ""
                LOG.warning("the journal %s can be written again", self.path)
        self._told.wrote(time.monotonic() - began)

    def _fails(self, why: errors.JournalUnusable) -> None:
        """Say once that writing fails."""
        if not self.trouble:
            LOG.error("%s", why.sentence)
        self.trouble = why.sentence


def _add(db: sqlite3.Connection, migration: Migration, now: float,
         records: ty.Iterable[tuple[str, StepState, dict[str, ty.Any]]]) -> None:
    db.executemany(
        "INSERT INTO record (key, role, at, step, state, data) VALUES (?,?,?,?,?,?)",
        [(migration.key, migration.role, now, step, state, json.dumps(data))
         for step, state, data in records])


def _check(directory: str | os.PathLike[str], host: str) -> None:
    """What is wrong is found now, not in the middle of a migration, and before any write.

    :raises errors.HostRenamed, errors.JournalUnusable: the file is as it was.
    """
    if not (pathlib.Path(directory) / journal_file.NAME).exists():
        return
    with contextlib.closing(JournalReader(directory)) as reader:
        reader.check()
        known = reader.host()
        if host and known and known != host:
            raise errors.HostRenamed(path=reader.path, known=known, host=host)
