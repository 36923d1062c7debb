# SPDX-License-Identifier: Apache-2.0
"""A journal that somebody else wrote, or a disk that lost a part of it."""

import contextlib
import json
import logging
import sqlite3

from rbd_worker import errors
from rbd_worker.migration import journal
from rbd_worker.model import Executor, Migration, Outcome, Role
from tests.fuzz import oracle
from tests.fuzz.targets import Target
from tests.fuzz.targets.shapes import decoded

_GUEST = "a05482ec-d71a-48c7-bf99-94d829b20aef"
_ORDER = Migration("m", _GUEST, Role.SOURCE, "node01", "node02", Executor.NOVA)
_COLUMNS = {"entry": ("key", "role", "instance", "source", "destination", "executor",
                      "request_id", "number", "opened", "phase", "outcome", "reason", "closed"),
            "record": ("key", "role", "at", "step", "state", "data"),
            "refusal": ("at", "origin", "reason")}
_WORDS = (b"entry", b"record", b"refusal", b"role", b"phase", b"outcome", b"state", b"data",
          b"source", b"destination", b"closed", b"unresolved", b"note", b"null", b"{}", b"[]")


def rows() -> Target:
    """Single values in rows: JSON, ``[table, column, value]``."""
    box = oracle.Sandbox()
    logging.disable(logging.CRITICAL)
    path = box.inside
    _written(path)
    fresh = (path / "journal.sqlite").read_bytes()
    seeds = [["entry", "role", "nobody"], ["entry", "phase", ""], ["entry", "outcome", "lost"],
             ["record", "data", "{"], ["record", "data", "[]"], ["record", "state", "x"],
             ["entry", "instance", "../../etc"], ["refusal", "at", 1e308], ["entry", "number", 7]]

    def one(data: bytes) -> None:
        match decoded(data):
            case [str(table), str(column), str() | int() | float() | None as value] \
                    if column in _COLUMNS.get(table, ()):
                _change(path, table, column, value)
                _read(path)
                (path / "journal.sqlite").write_bytes(fresh)
                box.check()
    return Target(one, tuple(json.dumps(each).encode() for each in seeds), _WORDS, 256,
                  is_json=True)


def file() -> Target:
    """The file itself: an input begins with the place (two bytes) at which its rest is written."""
    box = oracle.Sandbox()
    logging.disable(logging.CRITICAL)
    _written(box.inside)
    path = box.inside / "journal.sqlite"
    fresh = path.read_bytes()
    seeds = [b"", b"\0\0SQLite format 4", b"\0\x3c\x7f\xff\xff\xff", b"\0\x10\0\0",
             b"\x10\0\0\0\0"]

    def one(data: bytes) -> None:
        place = int.from_bytes(data[:2], "big") % len(fresh)
        changed = fresh[:place] + data[2:] + fresh[place + len(data[2:]):]
        path.write_bytes(changed)
        _read(box.inside)
        oracle.require(path.read_bytes() == changed, "a damaged journal was changed by reading")
        box.check()
    return Target(one, tuple(seeds), (b"SQLite format 3\0", b"CREATE TABLE", b"entry"), 256)


def _written(path: "object") -> None:
    written = journal.Journal(str(path))
    written.open(_ORDER)
    written.record(_ORDER, ("ensure_pinned", journal.StepState.DONE, {"a": 1}))
    written.refuse("cast", "it is bad")
    written.close_entry(_ORDER, Outcome.COMPLETED)
    written.close()
    with contextlib.closing(sqlite3.connect(f"{path}/journal.sqlite")) as db:
        db.execute("PRAGMA journal_mode=DELETE")
        db.execute("PRAGMA synchronous=OFF")


def _change(path: object, table: str, column: str, value: object) -> None:
    with (contextlib.closing(sqlite3.connect(f"{path}/journal.sqlite")) as db,
          contextlib.suppress(sqlite3.Error, OverflowError, UnicodeError)):
        db.execute("PRAGMA synchronous=OFF")
        db.execute("PRAGMA journal_mode=MEMORY")
        db.execute(f"UPDATE {table} SET {column}=?", (value,))
        db.commit()


def _read(path: object) -> None:
    """Everything that the operator's command and the recovery read."""
    reader = oracle.outcome_of(lambda: journal.JournalReader(str(path)), errors.JournalUnusable)
    if isinstance(reader, Exception):
        return
    with contextlib.closing(reader):
        for read in (reader.open_entries, reader.newest_entries, reader.refusals,
                     lambda: reader.records(_ORDER), lambda: reader.entries_of(_GUEST)):
            oracle.outcome_of(read, errors.JournalUnusable)
