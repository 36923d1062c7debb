# SPDX-License-Identifier: Apache-2.0
"""A journal that is torn, cut off, of somebody else or of another host: refused, never touched."""

import dataclasses
import os
import pathlib
import random
import shutil
import sqlite3

import pytest

from rbd_worker import errors
from rbd_worker.migration import journal_file
from rbd_worker.migration.journal import Journal, JournalReader, StepState
from rbd_worker.model import Executor, Migration, Outcome, Phase, Role

MIGRATION = Migration("m", "a05482ec-d71a-48c7-bf99-94d829b20aef", Role.SOURCE, "node01", "node02",
                      Executor.NOVA, "req-1", 7)
PAGE = 4096
FLIPS = 150


def _written(directory: pathlib.Path) -> Journal:
    """A journal with some of everything; still open."""
    opened = Journal(directory)
    for number in range(60):
        migration = dataclasses.replace(MIGRATION, key=f"m{number}")
        opened.open(migration, f"message-{number}")
        opened.record(migration, ("a", StepState.DONE, {"text": "x" * 300}), phase=Phase.LIVE)
        if number % 2:
            opened.close_entry(migration, Outcome.COMPLETED)
    opened.refuse("cast", "reason")
    return opened


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The directory of a worker that was stopped."""
    directory = tmp_path_factory.mktemp("closed")
    _written(directory).close()
    return directory


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The directory of a worker that was killed: the last writes are in the WAL only."""
    directory, copy = tmp_path_factory.mktemp("running"), tmp_path_factory.mktemp("killed")
    _written(directory).close()
    opened = Journal(directory)
    opened.open(dataclasses.replace(MIGRATION, key="last"))
    for name in ("journal.sqlite", "journal.sqlite-wal"):
        shutil.copy(directory / name, copy / name)
    opened.close()
    assert PAGE < (copy / "journal.sqlite-wal").stat().st_size < 10 * PAGE
    return copy


@pytest.fixture(params=["closed", "killed"])
def left(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of either, to be damaged."""
    shutil.copytree(request.getfixturevalue(request.param), tmp_path, dirs_exist_ok=True)
    return tmp_path


def _content(directory: pathlib.Path) -> dict[str, bytes]:
    """The files that hold something; a reader may make an empty WAL."""
    return {name: (directory / name).read_bytes()
            for name in ("journal.sqlite", "journal.sqlite-wal")
            if (directory / name).exists() and ((directory / name).stat().st_size
                                                or name == "journal.sqlite")}


def _read_all(reader: JournalReader) -> None:
    for entry in reader.newest_entries(1000):
        reader.records(entry.migration)
    reader.refusals(1000)


def _is_refused(directory: pathlib.Path) -> bool:
    """Whether the worker's start refuses the file; anything but our own error is raised.

    A damage that is not seen at the start may be seen later, by the same error.
    """
    before = _content(directory)
    try:
        opened = Journal(directory)
    except errors.JournalUnusable as e:
        assert _content(directory) == before
        assert str(directory / "journal.sqlite") in e.sentence
        assert "Move the file away" in e.sentence and "Nothing was removed" in e.sentence
        assert "\n" not in e.sentence
        return True
    try:
        _read_all(opened)
        opened.open(dataclasses.replace(MIGRATION, key="new"))
    except errors.JournalUnusable:
        pass
    finally:
        opened.close()
    return False


@pytest.mark.parametrize("seed", range(FLIPS))
def test_flipped_bytes_are_refused_or_do_no_harm(left: pathlib.Path, seed: int) -> None:
    rng = random.Random(seed)
    path = left / rng.choice(sorted(_content(left)))
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 4, 64))):
        content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
    path.write_bytes(content)
    _is_refused(left)


def test_a_page_of_garbage_is_always_refused(closed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    content = (closed / "journal.sqlite").read_bytes()
    for page in range(len(content) // PAGE):
        directory = tmp_path / f"{page}"
        directory.mkdir()
        (directory / "journal.sqlite").write_bytes(
            content[:page * PAGE] + b"\xff" * PAGE + content[(page + 1) * PAGE:])
        assert _is_refused(directory), f"page {page}"


def test_a_file_that_is_cut_off_anywhere_is_always_refused(
        closed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    content = (closed / "journal.sqlite").read_bytes()
    for page in range(len(content) // PAGE):
        for size in (page * PAGE, page * PAGE + 700):
            directory = tmp_path / f"{size}"
            directory.mkdir()
            (directory / "journal.sqlite").write_bytes(content[:size])
            assert _is_refused(directory), f"{size} bytes of {len(content)}"


def test_a_file_cut_off_within_a_last_page_that_is_empty_is_refused(
        tmp_path: pathlib.Path) -> None:
    """SQLite finds nothing wrong with zeros there."""
    Journal(tmp_path).close()
    path = tmp_path / "journal.sqlite"
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(errors.JournalUnusable, match="middle of a page"):
        Journal(tmp_path)


def test_a_torn_end_of_the_wal_costs_only_what_was_not_acknowledged(
        killed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A power loss in the middle of a write: SQLite goes back to the last whole commit."""
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    wal = tmp_path / "journal.sqlite-wal"
    wal.write_bytes(wal.read_bytes()[:-700])
    opened = Journal(tmp_path)
    keys = {entry.migration.key for entry in opened.newest_entries(1000)}
    assert keys == {f"m{number}" for number in range(60)}, "the last write was torn"
    opened.close()


def test_a_damaged_file_keeps_the_wal_that_a_kill_left_beside_it(
        killed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "journal.sqlite"
    content = path.read_bytes()
    path.write_bytes(content[:PAGE] + b"\xff" * (len(content) - PAGE))
    assert _is_refused(tmp_path)
    assert "journal.sqlite-wal" in _content(tmp_path)


@pytest.mark.parametrize(("column", "value"), [
    ("role", "sources"), ("instance", "../../etc"), ("source", "node01;rm"), ("phase", "later"),
    ("executor", ""), ("outcome", "maybe")])
def test_a_value_that_was_never_written_is_refused_at_the_start(
        tmp_path: pathlib.Path, column: str, value: str) -> None:
    _written(tmp_path).close()
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        db.execute(f"UPDATE entry SET {column}=? WHERE key='m0'", (value,))
    db.close()
    assert _is_refused(tmp_path)


@pytest.mark.parametrize("data", ["{", "[1]", "null"])
def test_a_record_that_is_no_object_is_refused_at_the_start(
        tmp_path: pathlib.Path, data: str) -> None:
    _written(tmp_path).close()
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        db.execute("UPDATE record SET data=? WHERE key='m0'", (data,))
    db.close()
    assert _is_refused(tmp_path)


def test_a_database_of_another_program_is_refused(tmp_path: pathlib.Path) -> None:
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
    db.close()
    assert _is_refused(tmp_path)


def test_a_kill_while_the_first_file_is_made_is_no_damage(tmp_path: pathlib.Path) -> None:
    for name in ("journal.sqlite.new", "journal.sqlite.new-journal"):
        (tmp_path / name).write_bytes(b"half")
    Journal(tmp_path).close()
    assert not (tmp_path / "journal.sqlite.new").exists()


def test_a_refused_file_can_be_moved_away(tmp_path: pathlib.Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"")
    assert _is_refused(tmp_path)
    os.rename(tmp_path / "journal.sqlite", tmp_path / "journal.damaged")
    Journal(tmp_path).close()
    assert (tmp_path / "journal.damaged").read_bytes() == b""


# -- whose it is -------------------------------------------------------------


def test_a_host_with_another_name_is_refused_and_may_come_back(tmp_path: pathlib.Path) -> None:
    Journal(tmp_path, host="node01").close()
    before = _content(tmp_path)
    with pytest.raises(errors.HostRenamed) as caught:
        Journal(tmp_path, host="node01.example.org")
    sentence = caught.value.sentence
    assert "that of host node01," in sentence and "Set [DEFAULT] host back to node01" in sentence
    assert _content(tmp_path) == before
    Journal(tmp_path, host="node01").close()


def test_a_journal_of_an_earlier_version_belongs_to_whoever_opens_it_first(
        tmp_path: pathlib.Path) -> None:
    _written(tmp_path).close()
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        db.execute("DROP TABLE about")
    db.close()
    reader = JournalReader(tmp_path)
    assert reader.path_id() == ""
    reader.close()
    Journal(tmp_path, host="node01").close()
    with pytest.raises(errors.HostRenamed):
        Journal(tmp_path, host="node02")


def test_an_index_that_hides_an_open_migration_is_refused(tmp_path: pathlib.Path) -> None:
    _written(tmp_path).close()
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        db.execute("PRAGMA writable_schema=ON")
        db.execute("UPDATE sqlite_master SET sql=replace(sql, 'IS NULL', 'IS NOT NULL')"
                   " WHERE name='entry_open'")
    db.close()
    assert _is_refused(tmp_path)


@pytest.mark.parametrize(("code", "words"), [
    (sqlite3.SQLITE_FULL, "Free space"), (sqlite3.SQLITE_IOERR | 3 << 8, "kernel's log"),
    (sqlite3.SQLITE_READONLY | 4 << 8, "writable"), (sqlite3.SQLITE_CANTOPEN, "writable"),
    (sqlite3.SQLITE_BUSY, "has it locked")])
def test_a_disk_that_fails_is_not_taken_for_a_damaged_file(code: int, words: str) -> None:
    """The remedy of a damaged file, to move it away, would lose the open migrations."""
    failure = sqlite3.OperationalError("as SQLite tells it")
    failure.sqlite_errorcode = code
    with (pytest.raises(errors.JournalUnusable) as caught,
          journal_file.translated(pathlib.Path("/journal"))):
        raise failure
    assert words in caught.value.sentence
    assert "Move the file away" not in caught.value.sentence
