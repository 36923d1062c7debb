# SPDX-License-Identifier: Apache-2.0
"""The journal on a real disk: durable, owned by one worker, and honest when it cannot be used."""

import dataclasses
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import typing as ty

import pytest

from rbd_worker import errors
from rbd_worker.migration import journal, journal_file
from rbd_worker.migration.journal import Journal, JournalReader, StepState
from rbd_worker.model import Executor, Migration, Outcome, Phase, Role

ROOT = pathlib.Path(__file__).resolve().parents[3]
MIGRATION = Migration("0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10",
                      "a05482ec-d71a-48c7-bf99-94d829b20aef", Role.SOURCE, "node01", "node02",
                      Executor.LIBVIRT, "req-1", 7)
DAY = 86400

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts a file system")


class Clock:
    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(tmp_path: pathlib.Path, clock: Clock) -> ty.Iterator[Journal]:
    opened = Journal(tmp_path, clock)
    yield opened
    opened.close()


def _other(key: str, **changes: ty.Any) -> Migration:
    return dataclasses.replace(MIGRATION, key=key, **changes)


# -- what is kept ------------------------------------------------------------


def test_an_entry_is_read_back_as_it_was_written(opened: Journal, clock: Clock) -> None:
    assert opened.open(MIGRATION, "message-1")
    entry = opened.entry(MIGRATION.key, Role.SOURCE)
    assert entry == journal.Entry(MIGRATION, clock.now, Phase.PRE, None, "", None)


def test_a_migration_without_a_number_has_none(opened: Journal) -> None:
    opened.open(_other("m", number=None))
    entry = opened.entry("m", Role.SOURCE)
    assert entry is not None and entry.migration.number is None


def test_records_keep_their_order_and_their_data(opened: Journal, clock: Clock) -> None:
    opened.open(MIGRATION)
    opened.record(MIGRATION, ("a", StepState.DOING, {}))
    clock.now += 1.5
    opened.record(MIGRATION, ("a", StepState.DONE, {"files": 3, "names": ["x"]}),
                  ("b", StepState.DOING, {}), phase=Phase.LIVE)
    records = opened.records(MIGRATION)
    assert [(r.step, r.state, r.data) for r in records] == [
        ("a", StepState.DOING, {}), ("a", StepState.DONE, {"files": 3, "names": ["x"]}),
        ("b", StepState.DOING, {})]
    assert records[1].at - records[0].at == 1.5
    entry = opened.entry(MIGRATION.key, Role.SOURCE)
    assert entry is not None and entry.phase is Phase.LIVE


def test_one_migration_has_an_entry_for_each_role(opened: Journal) -> None:
    other = dataclasses.replace(MIGRATION, role=Role.DESTINATION)
    assert opened.open(MIGRATION)
    assert opened.open(other)
    opened.record(other, ("x", StepState.DONE, {}))
    assert opened.records(MIGRATION) == []


def test_a_closed_entry_has_its_outcome_and_is_not_open(opened: Journal, clock: Clock) -> None:
    opened.open(MIGRATION)
    opened.close_entry(MIGRATION, Outcome.FAILED, "because")
    entry = opened.entry(MIGRATION.key, Role.SOURCE)
    assert entry is not None
    assert (entry.outcome, entry.reason, entry.closed) == (Outcome.FAILED, "because", clock.now)
    assert opened.open_entries() == []


def test_what_is_closed_is_not_closed_again(opened: Journal, clock: Clock) -> None:
    opened.open(MIGRATION)
    opened.close_entry(MIGRATION, Outcome.COMPLETED)
    clock.now += 10
    opened.close_entry(MIGRATION, Outcome.FAILED, "later")
    entry = opened.entry(MIGRATION.key, Role.SOURCE)
    assert entry is not None
    assert (entry.outcome, entry.closed) == (Outcome.COMPLETED, clock.now - 10)


def test_an_unresolved_entry_stays_open_and_may_be_resolved(opened: Journal) -> None:
    opened.open(MIGRATION)
    opened.mark(MIGRATION, Outcome.UNRESOLVED, "no answer")
    (entry,) = opened.open_entries()
    assert (entry.outcome, entry.reason) == (Outcome.UNRESOLVED, "no answer")
    opened.mark(MIGRATION, None)
    (entry,) = opened.open_entries()
    assert (entry.outcome, entry.reason) == (None, "")


def test_open_entries_of_an_instance_come_before_closed_ones(opened: Journal,
                                                             clock: Clock) -> None:
    for key in ("first", "second", "third"):
        opened.open(_other(key))
        clock.now += 1
    opened.open(_other("elsewhere", instance="b05482ec-d71a-48c7-bf99-94d829b20aef"))
    opened.close_entry(_other("second"), Outcome.COMPLETED)
    opened.close_entry(_other("third"), Outcome.COMPLETED)
    keys = [entry.migration.key for entry in opened.entries_of(MIGRATION.instance)]
    assert keys == ["first", "third", "second"]


def test_no_flood_of_entries_hides_an_open_one(opened: Journal, clock: Clock) -> None:
    opened.open(_other("open"))
    for number in range(50):
        clock.now += 1
        opened.open(_other(f"closed-{number}"))
        opened.close_entry(_other(f"closed-{number}"), Outcome.COMPLETED)
    assert opened.entries_of(MIGRATION.instance)[0].migration.key == "open"


# -- what is heard twice -----------------------------------------------------


def test_a_repeated_message_begins_nothing(opened: Journal) -> None:
    assert opened.open(MIGRATION, "message-1")
    assert not opened.open(_other("another"), "message-1")
    assert opened.entry("another", Role.SOURCE) is None


def test_a_repeated_migration_begins_nothing(opened: Journal) -> None:
    assert opened.open(MIGRATION, "message-1")
    opened.close_entry(MIGRATION, Outcome.COMPLETED)
    assert not opened.open(MIGRATION, "message-2")
    assert opened.open_entries() == []


def test_a_message_is_heard_once(opened: Journal) -> None:
    assert opened.heard("message-1")
    assert not opened.heard("message-1")


def test_what_was_heard_is_known_after_a_restart(tmp_path: pathlib.Path) -> None:
    first = Journal(tmp_path)
    first.open(MIGRATION, "message-1")
    first.heard("message-2")
    first.close()
    second = Journal(tmp_path)
    assert not second.open(_other("another"), "message-1")
    assert not second.heard("message-2")
    second.close()


# -- durability --------------------------------------------------------------


def test_the_file_is_in_wal_mode_and_every_commit_is_forced_to_disk(opened: Journal) -> None:
    with opened._lock:
        mode = opened._db.execute("PRAGMA journal_mode").fetchone()[0]
        synchronous = opened._db.execute("PRAGMA synchronous").fetchone()[0]
    assert mode == "wal"
    assert synchronous == 2  # FULL, as SQLite counts


def test_a_write_is_forced_to_disk_before_it_returns(tmp_path: pathlib.Path) -> None:
    """Seen from outside: the system calls of the process, in their order."""
    script = textwrap.dedent(f"""
        import os, sys
        sys.path.insert(0, {str(ROOT)!r})
        from rbd_worker.migration.journal import Journal, StepState
        from tests.unit.migration.test_journal import MIGRATION
        opened = Journal({str(tmp_path)!r})
        os.write(1, b"BEGIN-MARK")
        opened.open(MIGRATION, "message")
        os.write(1, b"END-MARK")
    """)
    trace = tmp_path / "trace"
    try:
        subprocess.run(["strace", "-f", "-o", trace, "-e", "trace=write,pwrite64,fdatasync,fsync",
                        sys.executable, "-c", script], check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("strace is not installed")
    between = trace.read_text().split("BEGIN-MARK")[1].split("END-MARK")[0]
    assert "pwrite64(" in between
    assert between.rfind("sync(") > between.rfind("pwrite64("), "synced after the last write"


def test_what_was_recorded_survives_a_kill(tmp_path: pathlib.Path) -> None:
    script = textwrap.dedent(f"""
        import os, signal, sys
        sys.path.insert(0, {str(ROOT)!r})
        from rbd_worker.migration.journal import Journal, StepState
        from tests.unit.migration.test_journal import MIGRATION
        opened = Journal({str(tmp_path)!r})
        opened.open(MIGRATION, "message")
        opened.record(MIGRATION, ("a", StepState.DOING, {{}}))
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    killed = subprocess.run([sys.executable, "-c", script], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    opened = Journal(tmp_path)  # the lock died with the process
    (entry,) = opened.open_entries()
    assert [r.step for r in opened.records(entry.migration)] == ["a"]
    opened.close()


def test_records_and_phase_are_one_write(opened: Journal) -> None:
    """A value that cannot be written leaves neither the record nor the phase."""
    opened.open(MIGRATION)
    with pytest.raises(TypeError):
        opened.record(MIGRATION, ("a", StepState.DONE, {}), ("b", StepState.DONE, {"x": object()}),
                      phase=Phase.POST)
    assert opened.records(MIGRATION) == []
    entry = opened.entry(MIGRATION.key, Role.SOURCE)
    assert entry is not None and entry.phase is Phase.PRE


def test_a_write_that_could_not_be_rolled_back_does_not_block_the_next(opened: Journal) -> None:
    """The disk may fail in the middle of SQLite's own rollback, too."""
    opened.open(MIGRATION)
    opened._db.execute("BEGIN IMMEDIATE")
    opened._db.execute("DELETE FROM entry")
    opened.record(MIGRATION, ("a", StepState.DONE, {}))
    assert [entry.migration for entry in opened.open_entries()] == [MIGRATION]


def test_a_write_that_could_not_be_rolled_back_is_told_to_nobody(opened: Journal) -> None:
    opened.open(MIGRATION)
    opened._db.execute("BEGIN IMMEDIATE")
    opened._db.execute("UPDATE entry SET phase='post_live_migration'")
    (entry,) = opened.open_entries()
    assert entry.phase is Phase.PRE


def test_many_threads_may_write_at_once(opened: Journal) -> None:
    opened.open(MIGRATION)

    def write(number: int) -> None:
        for turn in range(20):
            opened.record(MIGRATION, (f"step-{number}", StepState.NOTE, {"turn": turn}))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = opened.records(MIGRATION)
    assert len(records) == 160
    for number in range(8):
        assert [r.data["turn"] for r in records if r.step == f"step-{number}"] == list(range(20))


# -- who may use it ----------------------------------------------------------


def test_a_second_worker_is_refused(opened: Journal) -> None:
    with pytest.raises(errors.AnotherWorker):
        Journal(opened.path.parent)


def test_after_a_close_the_next_worker_may_begin(tmp_path: pathlib.Path) -> None:
    Journal(tmp_path).close()
    Journal(tmp_path).close()


def test_nobody_else_may_read_it(opened: Journal) -> None:
    opened.open(MIGRATION)
    for path in opened.path.parent.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_the_operators_command_reads_beside_a_running_worker(opened: Journal) -> None:
    opened.open(MIGRATION)
    reader = JournalReader(opened.path.parent)
    assert [e.migration for e in reader.open_entries()] == [MIGRATION]
    opened.close_entry(MIGRATION, Outcome.COMPLETED)
    assert reader.open_entries() == []
    reader.close()


def test_the_operators_command_reads_where_no_worker_runs(tmp_path: pathlib.Path) -> None:
    first = Journal(tmp_path)
    first.open(MIGRATION)
    first.close()
    reader = JournalReader(tmp_path)
    assert [e.migration for e in reader.open_entries()] == [MIGRATION]
    reader.close()


def test_the_operators_command_cannot_write(opened: Journal) -> None:
    reader = JournalReader(opened.path.parent)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._db.execute("DELETE FROM entry")
    reader.close()


def test_a_reader_without_a_journal_says_so(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.JournalUnusable) as caught:
        JournalReader(tmp_path)
    assert str(tmp_path / "journal.sqlite") in str(caught.value)
    assert "has never run" in caught.value.sentence
    assert not (tmp_path / "journal.sqlite").exists()


# -- what cannot be used -----------------------------------------------------


def test_a_file_of_a_newer_worker_is_left_alone(tmp_path: pathlib.Path) -> None:
    Journal(tmp_path).close()
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        db.execute(f"PRAGMA user_version={journal_file.SCHEMA_VERSION + 1}")
    before = (tmp_path / "journal.sqlite").read_bytes()
    with pytest.raises(errors.JournalUnusable) as caught:
        Journal(tmp_path)
    assert "newer rbd-worker" in caught.value.sentence
    assert (tmp_path / "journal.sqlite").read_bytes() == before


@pytest.mark.parametrize("content", [b"no database at all" * 100,
                                     b"SQLite format 3\x00" + b"x" * 5000])
def test_a_torn_file_is_not_used_and_not_touched(tmp_path: pathlib.Path, content: bytes) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(content)
    with pytest.raises(errors.JournalUnusable) as caught:
        Journal(tmp_path)
    assert "Move the file away" in caught.value.sentence
    assert path.read_bytes() == content


def test_a_file_with_a_torn_page_is_not_used(tmp_path: pathlib.Path) -> None:
    first = Journal(tmp_path)
    for number in range(200):
        first.open(_other(f"m{number}"), f"message-{number}")
    first.close()
    path = tmp_path / "journal.sqlite"
    content = bytearray(path.read_bytes())
    middle = len(content) // 8192 * 4096
    content[middle:middle + 4096] = b"\xff" * 4096
    path.write_bytes(content)
    with pytest.raises(errors.JournalUnusable):
        Journal(tmp_path)


def test_after_a_refusal_the_lock_is_free_again(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(errors.JournalUnusable):
        Journal(tmp_path)
    path.unlink()
    Journal(tmp_path).close()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.JournalUnusable) as caught:
        Journal(tmp_path / "file" / "rbd-worker")
    assert "state_directory" in caught.value.sentence


@pytest.fixture
def mounted(tmp_path: pathlib.Path) -> ty.Iterator[pathlib.Path]:
    """A small file system of its own."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "small", str(place)])
    if done.returncode:
        pytest.skip("mounting is not possible here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@needs_root
def test_a_full_disk_is_told_and_nothing_is_lost(mounted: pathlib.Path) -> None:
    opened = Journal(mounted)
    assert opened.open(MIGRATION)
    with pytest.raises(errors.JournalUnusable) as caught:
        for number in range(10_000):
            opened.record(MIGRATION, (f"s{number}", StepState.NOTE, {"text": "x" * 500}))
    assert "Free space" in caught.value.sentence
    kept = len(opened.records(MIGRATION))
    assert kept == number, "all that was acknowledged, and nothing of the last"
    assert opened.open_entries()[0].migration == MIGRATION
    opened.close()


@needs_root
def test_the_same_worker_writes_again_when_there_is_space_again(
        mounted: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    opened = Journal(mounted)
    opened.open(MIGRATION)
    assert opened.trouble == ""
    with (mounted / "ballast").open("ab", buffering=0) as file:
        with pytest.raises(OSError, match="No space"):
            while True:
                file.write(b"x" * 4096)
    for _ in range(3):
        with pytest.raises(errors.JournalUnusable):
            for number in range(100):
                opened.record(MIGRATION, (f"s{number}", StepState.NOTE, {"text": "x" * 5000}))
        assert "Free space" in opened.trouble
    assert len([r for r in caplog.records if "Free space" in r.getMessage()]) == 1
    before = len(opened.records(MIGRATION))
    (mounted / "ballast").unlink()
    opened.record(MIGRATION, ("afterwards", StepState.DONE, {}))
    assert opened.trouble == ""
    assert [r.step for r in opened.records(MIGRATION)][before:] == ["afterwards"]
    assert "can be written again" in caplog.text
    opened.close()


@needs_root
def test_a_file_system_that_became_read_only_is_told(mounted: pathlib.Path) -> None:
    Journal(mounted).close()
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    with pytest.raises(errors.JournalUnusable) as caught:
        Journal(mounted)
    assert "writable" in caught.value.sentence


# -- for the operator, and what is forgotten ---------------------------------


def test_refusals_come_newest_first_and_are_cut(opened: Journal, clock: Clock) -> None:
    opened.refuse("cast", "first")
    clock.now += 1
    opened.refuse("o" * 1000, "r" * 5000)
    newest, oldest = opened.refusals()
    assert (oldest.origin, oldest.reason) == ("cast", "first")
    assert (len(newest.origin), len(newest.reason)) == (256, 1024)


def test_a_flood_of_bad_input_does_not_fill_the_disk(opened: Journal) -> None:
    with opened._lock:
        opened._db.execute("PRAGMA synchronous=OFF")  # 1,100 writes, only for their number
    for number in range(journal.MAX_REFUSALS + 100):
        opened.refuse("cast", str(number))
    kept = opened.refusals(limit=10_000)
    assert len(kept) == journal.MAX_REFUSALS
    assert kept[0].reason == str(journal.MAX_REFUSALS + 99)


def test_old_messages_and_closed_entries_are_forgotten_open_ones_never(
        tmp_path: pathlib.Path, clock: Clock) -> None:
    first = Journal(tmp_path, clock)
    first.open(_other("closed"), "old-message")
    first.record(_other("closed"), ("a", StepState.DONE, {}))
    first.close_entry(_other("closed"), Outcome.COMPLETED)
    first.open(_other("open"))
    first.record(_other("open"), ("a", StepState.DONE, {}))
    first.close()
    clock.now += 91 * DAY
    second = Journal(tmp_path, clock)
    second.prune()
    assert second.entry("closed", Role.SOURCE) is None
    assert second.records(_other("closed")) == []
    assert [e.migration.key for e in second.open_entries()] == ["open"]
    assert len(second.records(_other("open"))) == 1
    assert second.heard("old-message")
    second.close()


def test_a_flood_of_migrations_does_not_fill_the_disk(
        opened: Journal, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_CLOSED", 10)
    opened.open(_other("open"))
    for number in range(30):
        clock.now += 1
        opened.open(_other(f"m{number}"))
        opened.record(_other(f"m{number}"), ("a", StepState.DONE, {}))
        opened.close_entry(_other(f"m{number}"), Outcome.COMPLETED)
    opened.prune()
    kept = {entry.migration.key for entry in opened.newest_entries()}
    assert kept == {"open", *(f"m{number}" for number in range(20, 30))}
    assert opened.records(_other("m19")) == [] and len(opened.records(_other("m20"))) == 1


def test_what_is_recent_is_remembered(tmp_path: pathlib.Path, clock: Clock) -> None:
    first = Journal(tmp_path, clock)
    first.open(MIGRATION, "message")
    first.close_entry(MIGRATION, Outcome.COMPLETED)
    first.close()
    clock.now += 6 * DAY
    second = Journal(tmp_path, clock)
    second.prune()
    assert not second.heard("message")
    assert second.entry(MIGRATION.key, Role.SOURCE) is not None
    second.close()


@pytest.mark.parametrize(("table", "column", "value"), [
    ("entry", "role", "nobody"), ("entry", "executor", ""), ("entry", "phase", "elsewhere"),
    ("entry", "outcome", "lost"), ("record", "state", "half"), ("record", "data", "{"),
    ("record", "data", "[1]"), ("record", "data", "[" * 100_000)])
def test_a_row_that_no_worker_wrote_is_told_with_the_remedy(
        tmp_path: pathlib.Path, table: str, column: str, value: str) -> None:
    first = Journal(tmp_path)
    first.open(MIGRATION)
    first.record(MIGRATION, ("a", StepState.DONE, {}))
    first.close()
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        db.execute(f"UPDATE {table} SET {column}=?", (value,))
    db.close()
    with pytest.raises(errors.JournalUnusable) as caught:
        Journal(tmp_path).close()
    assert "a row makes no sense" in caught.value.sentence
    assert "Nothing was removed" in caught.value.sentence
