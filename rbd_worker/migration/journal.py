# SPDX-License-Identifier: Apache-2.0
"""The journal: what was meant, written before it is done.

One SQLite file under ``state_directory``, in WAL mode with ``synchronous =
FULL``: when a method returns, its record survives a power loss.  An *entry*
is one migration in one role; its *records* say, in order, which step was
about to be done (``doing``), was done (``done``), was about to be undone
(``undoing``) or was undone (``undone``).  The last record of a step is its
state.  *Messages* remembers the ids of heard casts so that a repeated one is
not acted upon twice; *refusals* holds what was bad input, for the operator.

One process owns the file (an exclusive lock beside it); the operator's
command opens it read-only.  No message body, token or key is ever stored.
"""

import contextlib
import dataclasses
import enum
import fcntl
import json
import os
import pathlib
import sqlite3
import threading
import time
import typing as ty

from rbd_worker import errors
from rbd_worker.model import Executor, Migration, Outcome, Phase, Role

#: Layout of the file; raised with every change of the tables.
SCHEMA_VERSION = 1
#: How long ids of heard messages are remembered, in seconds: longer than the
#: time to live of the tap's queue, after which no repetition can arrive.
MESSAGE_MEMORY = 7 * 86400
#: How long a closed entry is kept for the operator, in seconds.
HISTORY_SECONDS = 90 * 86400
#: Newest refusals that are kept.
MAX_REFUSALS = 1000

_TABLES = """
CREATE TABLE entry (
    key TEXT NOT NULL, role TEXT NOT NULL, instance TEXT NOT NULL,
    source TEXT NOT NULL, destination TEXT NOT NULL, executor TEXT NOT NULL,
    request_id TEXT NOT NULL, number INTEGER, opened REAL NOT NULL, phase TEXT NOT NULL,
    outcome TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '', closed REAL,
    PRIMARY KEY (key, role)) STRICT;
CREATE INDEX entry_instance ON entry (instance);
CREATE INDEX entry_open ON entry (closed) WHERE closed IS NULL;
CREATE TABLE record (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, role TEXT NOT NULL, at REAL NOT NULL,
    step TEXT NOT NULL, state TEXT NOT NULL, data TEXT NOT NULL) STRICT;
CREATE INDEX record_entry ON record (key, role);
CREATE TABLE message (unique_id TEXT PRIMARY KEY, at REAL NOT NULL) STRICT;
CREATE TABLE refusal (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, origin TEXT NOT NULL, reason TEXT NOT NULL) STRICT;
"""


class StepState(enum.StrEnum):
    DOING = "doing"
    DONE = "done"
    UNDOING = "undoing"
    UNDONE = "undone"
    #: Not a step's state: something worth a line in the timeline.
    NOTE = "note"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row: a migration in one role, as it stands.

    :ivar opened, closed: seconds since the epoch; ``closed`` None while open.
    :ivar outcome: None while nothing is settled; UNRESOLVED while open and in doubt.
    """

    migration: Migration
    opened: float
    phase: Phase
    outcome: Outcome | None
    reason: str
    closed: float | None

    @property
    def is_open(self) -> bool:
        return self.closed is None


@dataclasses.dataclass(frozen=True)
class Record:
    at: float
    step: str
    state: StepState
    data: dict[str, ty.Any]


@dataclasses.dataclass(frozen=True)
class Refusal:
    at: float
    origin: str
    reason: str


class Journal:
    """Thread-safe; every writing method returns when the write is durable.

    :raises errors.AnotherWorker: another process owns the file.
    :raises errors.JournalUnusable: newer layout, torn file, no permission, full disk.
    """

    def __init__(self, directory: str | os.PathLike[str],
                 clock: ty.Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.path = pathlib.Path(directory) / "journal.sqlite"
        self._owner = _own(pathlib.Path(directory))
        with self._translated():
            self._db = _open(self.path)
        self._forget_old()

    def close(self) -> None:
        with self._lock:
            self._db.close()
            os.close(self._owner)

    # -- writing -------------------------------------------------------------

    def open(self, migration: Migration, unique_id: str = "") -> bool:
        """Begin an entry. False where it is known already, or its message was heard before."""
        row = (migration.key, migration.role, migration.instance, migration.source,
               migration.destination, migration.executor, migration.request_id, migration.number,
               self._clock(), Phase.PRE)
        with self._transaction() as db:
            if unique_id and not self._remember(db, unique_id):
                return False
            done = db.execute(
                "INSERT INTO entry (key, role, instance, source, destination, executor,"
                " request_id, number, opened, phase) VALUES (?,?,?,?,?,?,?,?,?,?)"
                " ON CONFLICT DO NOTHING", row)
            return done.rowcount == 1

    def heard(self, unique_id: str) -> bool:
        """Remember a message; False where it had been heard before."""
        with self._transaction() as db:
            return self._remember(db, unique_id)

    def record(self, migration: Migration, *records: tuple[str, StepState, dict[str, ty.Any]],
               phase: Phase | None = None) -> None:
        """Append records in one durable write, and set the entry's phase where given."""
        now = self._clock()
        with self._transaction() as db:
            db.executemany(
                "INSERT INTO record (key, role, at, step, state, data) VALUES (?,?,?,?,?,?)",
                [(migration.key, migration.role, now, step, state, json.dumps(data))
                 for step, state, data in records])
            if phase is not None:
                db.execute("UPDATE entry SET phase=? WHERE key=? AND role=?",
                           (phase, migration.key, migration.role))

    def mark(self, migration: Migration, outcome: Outcome | None, reason: str = "") -> None:
        """Set the outcome so far of an open entry (UNRESOLVED and why, or None again)."""
        with self._transaction() as db:
            db.execute("UPDATE entry SET outcome=?, reason=? WHERE key=? AND role=?",
                       (outcome or "", reason, migration.key, migration.role))

    def close_entry(self, migration: Migration, outcome: Outcome, reason: str = "") -> None:
        with self._transaction() as db:
            db.execute("UPDATE entry SET outcome=?, reason=?, closed=? WHERE key=? AND role=?"
                       " AND closed IS NULL",
                       (outcome, reason, self._clock(), migration.key, migration.role))

    def refuse(self, origin: str, reason: str) -> None:
        """Keep bad input for the operator: its origin and what is wrong, never its body."""
        with self._transaction() as db:
            db.execute("INSERT INTO refusal (at, origin, reason) VALUES (?,?,?)",
                       (self._clock(), origin[:256], reason[:1024]))
            db.execute("DELETE FROM refusal WHERE id <= (SELECT max(id) FROM refusal) - ?",
                       (MAX_REFUSALS,))

    # -- reading -------------------------------------------------------------

    def entry(self, key: str, role: Role) -> Entry | None:
        return next(iter(self._entries("WHERE key=? AND role=?", key, role)), None)

    def open_entries(self) -> list[Entry]:
        return self._entries("WHERE closed IS NULL ORDER BY opened")

    def entries_of(self, instance: str, limit: int = 16) -> list[Entry]:
        """Open entries of an instance first, then the newest closed ones."""
        return self._entries("WHERE instance=? ORDER BY closed IS NOT NULL, opened DESC LIMIT ?",
                             instance, limit)

    def newest_entries(self, limit: int = 100) -> list[Entry]:
        return self._entries("ORDER BY opened DESC LIMIT ?", limit)

    def records(self, migration: Migration) -> list[Record]:
        rows = self._read("SELECT at, step, state, data FROM record WHERE key=? AND role=?"
                          " ORDER BY id", migration.key, migration.role)
        return [Record(at, step, StepState(state), json.loads(data))
                for at, step, state, data in rows]

    def refusals(self, limit: int = 100) -> list[Refusal]:
        return [Refusal(*row) for row in self._read(
            "SELECT at, origin, reason FROM refusal ORDER BY id DESC LIMIT ?", limit)]

    # -- inside --------------------------------------------------------------

    def _entries(self, where: str, *values: ty.Any) -> list[Entry]:
        return [_entry(row) for row in self._read(
            "SELECT key, instance, role, source, destination, executor, request_id, number,"
            f" opened, phase, outcome, reason, closed FROM entry {where}", *values)]

    def _read(self, sql: str, *values: ty.Any) -> list[tuple[ty.Any, ...]]:
        with self._lock, self._translated():
            return self._db.execute(sql, values).fetchall()

    def _remember(self, db: sqlite3.Connection, unique_id: str) -> bool:
        done = db.execute("INSERT INTO message VALUES (?,?) ON CONFLICT DO NOTHING",
                          (unique_id, self._clock()))
        return done.rowcount == 1

    def _forget_old(self) -> None:
        now = self._clock()
        with self._transaction() as db:
            db.execute("DELETE FROM message WHERE at < ?", (now - MESSAGE_MEMORY,))
            db.execute("DELETE FROM record WHERE (key, role) IN"
                       " (SELECT key, role FROM entry WHERE closed < ?)",
                       (now - HISTORY_SECONDS,))
            db.execute("DELETE FROM entry WHERE closed < ?", (now - HISTORY_SECONDS,))

    @contextlib.contextmanager
    def _transaction(self) -> ty.Iterator[sqlite3.Connection]:
        with self._lock, self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite may have rolled back by itself
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _translated(self) -> ty.Iterator[None]:
        try:
            yield
        except sqlite3.Error as e:
            raise errors.JournalUnusable(path=self.path, reason=e, fix=_fix(e)) from e


class JournalReader(Journal):
    """The same file, read-only and beside a running worker; for the operator's command."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._lock = threading.Lock()
        self.path = pathlib.Path(directory) / "journal.sqlite"
        with self._translated():
            self._db = sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True,
                                       check_same_thread=False)
            _check_version(self._db, self.path)

    def close(self) -> None:
        self._db.close()


def _own(directory: pathlib.Path) -> int:
    """Take the lock that makes this process the only worker of this host."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise errors.JournalUnusable(
            path=directory, reason=e.strerror,
            fix="Make [rbd_worker] state_directory writable for the worker's user") from e
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        os.close(descriptor)
        raise errors.AnotherWorker(path=directory) from e
    return descriptor


def _open(path: pathlib.Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    path.chmod(0o600)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA cache_size=-512")
    if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        db.executescript(f"BEGIN; {_TABLES} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
    _check_version(db, path)
    if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("the file is damaged")
    return db


def _check_version(db: sqlite3.Connection, path: pathlib.Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise errors.JournalUnusable(
            path=path, reason=f"it has layout {version}, this worker knows {SCHEMA_VERSION}",
            fix="Start the newer rbd-worker that wrote it")


def _fix(error: sqlite3.Error) -> str:
    text = str(error)
    if "full" in text:
        return "Free space on its file system"
    if "readonly" in text or "unable to open" in text:
        return "Make [rbd_worker] state_directory writable for the worker's user"
    return ("Nothing was removed. Move the file away and start again: open migrations "
            "are then found by the directories they left")


def _entry(row: tuple[ty.Any, ...]) -> Entry:
    (key, instance, role, source, destination, executor, request_id, number, opened,
     phase, outcome, reason, closed) = row
    migration = Migration(key, instance, Role(role), source, destination,
                          Executor(executor), request_id, number)
    return Entry(migration, opened, Phase(phase), Outcome(outcome) if outcome else None,
                 reason, closed)
