# SPDX-License-Identifier: Apache-2.0
"""A worker's journal: the real one, whose process or disk may fail at any write.

Where no power fails its database is in memory and outlives the worker, as a
file does.  After a world it is emptied for the next one: SQLite then need not
read tables and statements anew, which took a fourth of a schedule.
"""

import contextlib
import os
import pathlib
import sqlite3
import tempfile
import typing as ty

from rbd_worker import errors
from rbd_worker.migration import journal
from rbd_worker.model import Migration

if ty.TYPE_CHECKING:
    from tests.simulation.hosts import Worker

#: Databases with all tables and without rows.
_SPARE: list[sqlite3.Connection] = []


class Journal(journal.Journal):
    """A real journal whose process may be killed, or whose disk may fail, at any write."""

    def __init__(self, worker: "Worker") -> None:
        self._life, self._host = worker.life, worker.host
        super().__init__(worker.host.settings.state_directory, worker.host.clock,
                         worker.host.name)

    def close(self) -> None:
        if self._host.world.may_lose_power:
            super().close()
        else:
            os.close(self._owner)

    def record(self, migration: Migration, *records: ty.Any, phase: ty.Any = None) -> None:
        super().record(migration, *records, phase=phase)
        self._host.world.recorded(self._host, migration, records)

    def _opened(self) -> sqlite3.Connection:
        if not self._host.world.may_lose_power:
            return self._host.database.opened()
        db = super()._opened()
        # nobody else opens it meanwhile: no lock is taken anew for each statement
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        return db

    def _transaction(self) -> ty.Any:
        self._life.check()
        if self._host.strikes("journal") or self._host.disk_is_full:
            raise errors.JournalUnusable(path=self.path, reason="database or disk is full",
                                         fix="Free space on its file system")
        return _Transaction(super()._transaction(), self._host.strikes)


class _Transaction:  # a class, for a schedule enters some sixty of these
    """The real one; the process may be killed right before it is durable and right after."""

    __slots__ = ("_real", "_strikes")

    def __init__(self, real: ty.ContextManager[ty.Any], strikes: ty.Callable[[str], bool]) -> None:
        self._real = real
        self._strikes = strikes

    def __enter__(self) -> ty.Any:
        return self._real.__enter__()

    def __exit__(self, kind: ty.Any, error: ty.Any, trace: ty.Any) -> None:
        if error is None:
            try:
                self._strikes("write")
            except BaseException as e:
                self._real.__exit__(type(e), e, e.__traceback__)
                raise
        self._real.__exit__(kind, error, trace)
        if error is None:
            self._strikes("written")


class Database:
    """What a host keeps of its journal from one worker to the next.

    :param host: its name, which the journal knows from the beginning.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._db: sqlite3.Connection | None = None

    def opened(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = _SPARE.pop() if _SPARE else _without_rows()
            self._db.execute("INSERT INTO about VALUES ('host', ?)", (self._host,))
        return self._db

    def content(self) -> bytes:
        """As a file had it; empty where it is a file."""
        return b"" if self._db is None else self._db.serialize()

    def end(self) -> None:
        """Nobody needs it any more."""
        if self._db is not None:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            for table, in self._db.execute(
                    "SELECT name FROM sqlite_master WHERE type='table'").fetchall():
                self._db.execute(f"DELETE FROM {table}")
            _SPARE.append(self._db)
            self._db = None


def _without_rows() -> sqlite3.Connection:
    made = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    made.execute("PRAGMA secure_delete=ON")  # one world's secret is not to be seen in the next
    with tempfile.TemporaryDirectory() as place:
        journal.Journal(place).close()
        file = sqlite3.connect(pathlib.Path(place, "journal.sqlite"))
        with contextlib.closing(file):
            file.backup(made)
    return made
