# SPDX-License-Identifier: Apache-2.0
"""The journal's file: its layout, its owner, and what is told when it cannot be used.

WAL mode lets the operator's command read beside the worker; ``synchronous =
FULL`` makes a commit survive a power loss.  A file of another layout, or a
damaged one, is left exactly as it is: it is read as a whole through a
read-only connection before anything may write to it.  A new file gets its name
when it is complete, so that an empty one is a damaged one.
"""

import fcntl
import os
import pathlib
import sqlite3

from rbd_worker import errors

#: In ``[rbd_worker] state_directory``.
NAME = "journal.sqlite"
#: Layout of the file; raised with every change of the tables.
SCHEMA_VERSION = 1

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
#: Whose journal it is, and work beside migrations.  Added where they are missing: earlier
#: workers do not mind them, so that the layout stays the same.
_ADDED = (
    "CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS work (id TEXT PRIMARY KEY, kind TEXT NOT NULL,"
    " instance TEXT NOT NULL, state TEXT NOT NULL, at REAL NOT NULL, data TEXT NOT NULL) STRICT",
)
#: All of a damaged file that must be readable for it to count as a journal.
_NEEDED = {"entry", "record", "message", "refusal"}

_WRITABLE = ("Make [rbd_worker] state_directory writable for the worker's user; rbd-workerctl "
             "runs as that user or as root")
_DAMAGED = ("Nothing was removed. Move the file away and start again: open migrations "
            "are then found by the directories they left")
#: By SQLite's primary result code.
_FIXES = {
    sqlite3.SQLITE_FULL: "Free space on its file system; until then no migration begins or "
                         "ends here and nothing is removed",
    sqlite3.SQLITE_READONLY: _WRITABLE, sqlite3.SQLITE_CANTOPEN: _WRITABLE,
    sqlite3.SQLITE_PERM: _WRITABLE,
    sqlite3.SQLITE_IOERR: "Look into the kernel's log for errors of its disk, and make its file "
                          "system writable again; nothing is removed until then",
    sqlite3.SQLITE_BUSY: "End the program that has it locked",
}


def own(directory: pathlib.Path) -> int:
    """Take the lock that makes this process the only worker of this host; its descriptor.

    :raises errors.AnotherWorker: another process has it.
    :raises errors.JournalUnusable: the directory cannot be made or written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise errors.JournalUnusable(path=directory, reason=e.strerror, fix=_WRITABLE) from e
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        os.close(descriptor)
        raise errors.AnotherWorker(path=directory) from e
    return descriptor


def opened(path: pathlib.Path) -> sqlite3.Connection:
    """The file for its owner, made if it is missing; one that is there was checked before."""
    if not path.exists():
        _make(path)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        path.chmod(0o600)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA cache_size=-512")
        db.execute("PRAGMA journal_size_limit=4194304")
        for table in _ADDED:
            db.execute(table)
    except BaseException:
        db.close()
        raise
    return db


def opened_read_only(path: pathlib.Path) -> sqlite3.Connection:
    """The file for a reader beside its owner, or without one."""
    if not path.exists():
        raise errors.JournalUnusable(
            path=path, reason="there is none", fix="rbd-worker has never run on this host with "
            "this [rbd_worker] state_directory; give the worker's own --config-file")
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
    try:
        _check_layout(db, path)
    except BaseException:
        db.close()
        raise
    return db


def check(path: pathlib.Path, db: sqlite3.Connection) -> None:
    """Every page and index of the file, through a connection that cannot write.

    :raises errors.JournalUnusable: some of it cannot be read.
    """
    verdict = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    page = db.execute("PRAGMA page_size").fetchone()[0]
    if path.stat().st_size % page:  # SQLite takes what is missing for zeros
        raise damaged(path, "it ends in the middle of a page")
    if verdict != "ok":
        raise damaged(path, str(verdict).splitlines()[-1])


class translated:  # a class, for a migration enters some hundred of these
    """SQLite's errors in this worker's terms."""

    __slots__ = ("_path",)

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            translation = _translation(self._path, error)
            if translation is not None:
                raise translation from error


def _translation(path: pathlib.Path, e: Exception) -> errors.JournalUnusable | None:
    if isinstance(e, sqlite3.Error):
        code = getattr(e, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xff
        reason = " ".join(str(e).split())[:160]  # SQLite may repeat a damaged text
        return errors.JournalUnusable(path=path, reason=reason, fix=_FIXES.get(code, _DAMAGED))
    if isinstance(e, UnicodeError):  # in a text, or in SQLite's own message about one
        return damaged(path, "a text is not UTF-8")
    if isinstance(e, MemoryError):  # what SQLite says of an absurd length
        return damaged(path, "a length in it is absurd")
    if isinstance(e, OSError):
        return errors.JournalUnusable(path=path, reason=e.strerror, fix=_WRITABLE)
    return None


def damaged(path: pathlib.Path, what: str) -> errors.JournalUnusable:
    """The error of a file that SQLite can read and that makes no sense."""
    return errors.JournalUnusable(path=path, reason=f"the file is damaged: {what}", fix=_DAMAGED)


def _make(path: pathlib.Path) -> None:
    """A new file with all tables, durable under its name."""
    new = path.with_name(f"{path.name}.new")
    for left in (new, new.with_name(f"{new.name}-journal")):
        left.unlink(missing_ok=True)
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(new, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous=FULL")
        db.executescript(f"BEGIN; {_TABLES} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
    finally:
        db.close()
    new.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _check_layout(db: sqlite3.Connection, path: pathlib.Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise errors.JournalUnusable(
            path=path, reason=f"it has layout {version}, this worker knows {SCHEMA_VERSION}",
            fix="Start the newer rbd-worker that wrote it")
    tables = {name for name, in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    if not tables >= _NEEDED:
        raise damaged(path, f"it has no table {', '.join(sorted(_NEEDED - tables))}")
