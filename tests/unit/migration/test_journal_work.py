# SPDX-License-Identifier: Apache-2.0
"""Work beside migrations survives in the journal, also in one of an earlier version."""

import contextlib
import dataclasses
import pathlib
import sqlite3

import pytest

from rbd_worker import errors
from rbd_worker.migration.journal import Journal, JournalReader, Work

INSTANCE = "a05482ec-d71a-48c7-bf99-94d829b20aef"
WORK = Work("id-1", "snapshot", INSTANCE, "making", 1000.5, {"name": "ä", "images": [1]})


def test_work_is_read_back_and_rewritten_and_forgotten(tmp_path: pathlib.Path) -> None:
    with contextlib.closing(Journal(tmp_path)) as one:
        one.keep_work(WORK)
        one.keep_work(dataclasses.replace(WORK, id="id-2", kind="copy"))
        one.keep_work(dataclasses.replace(WORK, state="made"))
    with contextlib.closing(Journal(tmp_path)) as one:
        assert one.works("snapshot") == [dataclasses.replace(WORK, state="made")]
        one.forget_work(WORK.id)
        one.forget_work("never there")
        assert (one.works("snapshot"), len(one.works("copy"))) == ([], 1)


def test_a_journal_of_an_earlier_version_has_no_work_and_takes_some(
        tmp_path: pathlib.Path) -> None:
    Journal(tmp_path).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.sqlite")) as db:
        db.execute("DROP TABLE work")
        db.commit()
    with contextlib.closing(JournalReader(tmp_path)) as reader:
        assert reader.works("snapshot") == []
    with contextlib.closing(Journal(tmp_path)) as one:
        one.keep_work(WORK)
        assert one.works("snapshot") == [WORK]


@pytest.mark.parametrize("change", [
    "instance='../../etc'", "data='[]'", "data='{'", "data='" + "[" * 5000 + "'"])
def test_a_row_that_makes_no_sense_is_damage(tmp_path: pathlib.Path, change: str) -> None:
    with contextlib.closing(Journal(tmp_path)) as one:
        one.keep_work(WORK)
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.sqlite")) as db:
        db.execute(f"UPDATE work SET {change}")
        db.commit()
    with (contextlib.closing(JournalReader(tmp_path)) as reader,
          pytest.raises(errors.JournalUnusable, match="damaged")):
        reader.works("snapshot")
