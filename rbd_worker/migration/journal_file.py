# SPDX-License-Identifier: Apache-2.0
"""The journal's file: its layout, its owner, and what is told when it cannot be used.

WAL mode lets the operator's command read beside the worker; ``synchronous =
FULL`` makes a commit survive a power loss.  A file of another layout, or a
damaged one, is left exactly as it is.
"""

import contextlib
import fcntl
import os
import pathlib
import sqlite3
import typing as ty

from rbd_worker import errors

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

_WRITABLE = "Make [rbd_worker] state_directory writable for the worker's user"


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
    """The file for its owner, made if it is missing."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        _prepare(db, path)
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
        _check_version(db, path)
    except BaseException:
        db.close()
        raise
    return db


@contextlib.contextmanager
def translated(path: pathlib.Path) -> ty.Iterator[None]:
    """SQLite's errors in this worker's terms."""
    try:
        yield
    except sqlite3.Error as e:
        raise errors.JournalUnusable(path=path, reason=e, fix=_fix(e)) from e
    except OSError as e:
        raise errors.JournalUnusable(path=path, reason=e.strerror, fix=_WRITABLE) from e


def _prepare(db: sqlite3.Connection, path: pathlib.Path) -> None:
    path.chmod(0o600)
    _check_version(db, path)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA cache_size=-512")
    if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        db.executescript(f"BEGIN; {_TABLES} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
    if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("the file is damaged")


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
        return _WRITABLE
    return ("Nothing was removed. Move the file away and start again: open migrations "
            "are then found by the directories they left")
