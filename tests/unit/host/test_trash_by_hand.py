# SPDX-License-Identifier: Apache-2.0
"""Items of the trash that somebody made or changed by hand."""

import json
import pathlib
import shutil

import pytest

from rbd_worker import errors
from rbd_worker.host import trash
from tests.unit.host.trees import UUID, Host, in_trash, take

STEERING = "\x1b[2J\nforged line\x07"


@pytest.fixture
def item(host: Host, bin_: trash.Trash) -> trash.Item:
    host.make(console_log=b"log")
    return take(host, bin_)


@pytest.fixture
def place(host: Host, item: trash.Item) -> pathlib.Path:
    return host.path / ".rbd-worker" / "trash" / item.id


def test_what_is_no_directory_is_told_and_never_restored(
        host: Host, bin_: trash.Trash, item: trash.Item, place: pathlib.Path,
        tmp_path: pathlib.Path) -> None:
    shutil.rmtree(place / "directory")
    (place / "directory").symlink_to(tmp_path)
    (found,) = bin_.list()
    assert "no directory" in found.doubt
    with pytest.raises(errors.UnsafeDirectory):
        bin_.restore(item.id)
    assert in_trash(host) == [item.id] and not (host.path / UUID).is_symlink()


def test_no_word_of_a_record_steers_a_terminal(
        bin_: trash.Trash, item: trash.Item, place: pathlib.Path) -> None:
    record = json.loads((place / "record.json").read_bytes())
    for fact in record["facts"]:
        fact["sentence"] += STEERING
    (place / "record.json").write_text(json.dumps(record | {"migration": STEERING}))
    (found,) = bin_.list()
    told = [found.reason, found.doubt, found.migration,
            *(fact.sentence for fact in found.facts)]
    assert all(word.isprintable() for word in told)
    assert not found.doubt and "\\x1b[2J\\nforged line" in found.reason
