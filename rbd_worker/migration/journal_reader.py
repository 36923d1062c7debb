# SPDX-License-Identifier: Apache-2.0
"""What the journal says; ``journal.py`` is what writes it."""

import os
import pathlib
import sqlite3
import threading
import typing as ty

from rbd_worker import errors
from rbd_worker.migration import journal_file, journal_rows
from rbd_worker.migration.journal_rows import Entry, Record, Refusal, Work
from rbd_worker.model import Migration, Role

T = ty.TypeVar("T")


class JournalReader:
    """What the file says, for the operator's command: read-only, also beside a running worker.

    Thread-safe.

    :raises errors.JournalUnusable: no file, newer layout, torn file, no permission.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.path = pathlib.Path(directory) / journal_file.NAME
        self._lock = threading.Lock()
        with journal_file.translated(self.path):
            self._db = self._opened()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def check(self) -> None:
        """Read the file as a whole, and what is open.

        :raises errors.JournalUnusable: some of it is damaged.
        """
        with self._lock, journal_file.translated(self.path):
            journal_file.check(self.path, self._db)
        for entry in self.open_entries():
            self.records(entry.migration)

    def entry(self, key: str, role: Role) -> Entry | None:
        return next(iter(self._entries("WHERE key=? AND role=?", key, role)), None)

    def entries_with(self, key: str) -> list[Entry]:
        """The entries of one migration, the source's first; two where both hosts are this one."""
        return self._entries("WHERE key=? ORDER BY role DESC", key)

    def open_entries(self) -> list[Entry]:
        return self._entries("WHERE closed IS NULL ORDER BY opened")

    def entries_of(self, instance: str, limit: int = 16) -> list[Entry]:
        """Open entries of an instance first, then the newest closed ones."""
        return self._entries("WHERE instance=? ORDER BY closed IS NOT NULL, opened DESC LIMIT ?",
                             instance, limit)

    def newest_entries(self, limit: int = 100) -> list[Entry]:
        return self._entries("ORDER BY opened DESC LIMIT ?", limit)

    def entries_between(self, since: float, until: float, *, open_only: bool, limit: int,
                        skip: int) -> list[Entry]:
        """Entries opened within a time, newest first; some of the newest may be left out."""
        only = "AND closed IS NULL " if open_only else ""
        return self._entries(f"WHERE opened BETWEEN ? AND ? {only}ORDER BY opened DESC, key"
                             " LIMIT ? OFFSET ?", since, until, limit, skip)

    def records(self, migration: Migration) -> list[Record]:
        rows = self._read("SELECT at, step, state, data FROM record WHERE key=? AND role=?"
                          " ORDER BY id", migration.key, migration.role)
        return self._decoded(journal_rows.record, rows)

    def recorded(self, migration: Migration, *steps: str) -> frozenset[str]:
        """Which of the steps and notes have a record."""
        marks = ",".join("?" * len(steps))
        rows = self._read(f"SELECT DISTINCT step FROM record WHERE key=? AND role=?"
                          f" AND step IN ({marks})", migration.key, migration.role, *steps)
        return frozenset(step for step, in rows)

    def refusals(self, limit: int = 100) -> list[Refusal]:
        return [Refusal(*row) for row in self._read(
            "SELECT at, origin, reason FROM refusal ORDER BY id DESC LIMIT ?", limit)]

    def works(self, kind: str) -> list[Work]:
        """All rows of one kind of work beside migrations, oldest first."""
        if not self._has_table("work"):
            return []
        rows = self._read("SELECT id, kind, instance, state, at, data FROM work WHERE kind=?"
                          " ORDER BY at, id", kind)
        return self._decoded(journal_rows.work, rows)

    def has_heard(self, unique_id: str) -> bool:
        return bool(self._read("SELECT 1 FROM message WHERE unique_id=?", unique_id))

    def host(self) -> str:
        """Whose journal it is; empty before a worker with a name has used it."""
        return self._about("host")

    def path_id(self) -> str:
        """The id of the instances_path that this journal belongs to; empty before it is known."""
        return self._about("path")

    def _opened(self) -> sqlite3.Connection:
        return journal_file.opened_read_only(self.path)

    def _entries(self, where: str, *values: ty.Any) -> list[Entry]:
        rows = self._read(
            "SELECT key, instance, role, source, destination, executor, request_id, number,"
            f" opened, phase, outcome, reason, closed FROM entry {where}", *values)
        return self._decoded(journal_rows.entry, rows)

    def _about(self, name: str) -> str:
        if not self._has_table("about"):
            return ""
        rows = self._read("SELECT value FROM about WHERE name=?", name)
        return str(rows[0][0]) if rows else ""

    def _has_table(self, name: str) -> bool:
        """False in a file that only earlier versions have written to."""
        return bool(self._read("SELECT 1 FROM sqlite_master WHERE name=?", name))

    def _read(self, sql: str, *values: ty.Any) -> list[tuple[ty.Any, ...]]:
        with self._lock, journal_file.translated(self.path):
            self._end_failed_write()
            return self._db.execute(sql, values).fetchall()

    def _end_failed_write(self) -> None:
        """Where its rollback failed as it did, this connection still shows what is not durable."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _decoded(self, make: ty.Callable[..., T], rows: list[tuple[ty.Any, ...]]) -> list[T]:
        """SQLite checks pages and types; what the values mean shows only here."""
        try:
            return [make(*row) for row in rows]
        except (ValueError, RecursionError, errors.BadInput) as e:
            raise journal_file.damaged(self.path, "a row makes no sense") from e
