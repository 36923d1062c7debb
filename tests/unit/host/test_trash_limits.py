# SPDX-License-Identifier: Apache-2.0
"""What leaves the trash for good before anybody asked, and what never does."""

import json
import logging
import os
import pathlib

import pytest

from rbd_worker import errors
from rbd_worker.host import trash, trash_purge
from tests.unit.host.trees import (
    DAY,
    OTHER,
    UUID,
    Clock,
    Host,
    in_trash,
    needs_root,
    small_disk,
    snapshot,
    take,
)

HOUR = 3600
THIRD = "1d8c7b6a-5f4e-4d3c-8b2a-1f0e9d8c7b6a"


def _item(number: int, at: float, size: int, doubt: str = "") -> trash.Item:
    return trash.Item(f"item-{number}", UUID, at, bytes=size, doubt=doubt)


def _names(leaving: list[trash.Item]) -> list[str]:
    return [item.id for item in leaving]


# -- what is due -------------------------------------------------------------


def test_the_oldest_leave_until_the_rest_is_within_the_limit() -> None:
    items = [_item(3, 300, 40), _item(1, 100, 40), _item(2, 200, 40), _item(4, 400, 40)]
    limits = trash_purge.Limits(retention=7 * DAY, bytes=100)
    assert _names(trash_purge.due(items, 400 + 2 * HOUR, limits)) == ["item-1", "item-2"]


def test_within_the_limit_and_the_retention_nothing_leaves() -> None:
    items = [_item(1, 100, 50), _item(2, 200, 50)]
    limits = trash_purge.Limits(retention=7 * DAY, bytes=100)
    assert trash_purge.due(items, 6 * DAY, limits) == []


def test_without_a_limit_only_age_counts() -> None:
    items = [_item(1, 0, 1 << 50), _item(2, 2 * DAY, 1 << 50)]
    assert _names(trash_purge.due(items, 8 * DAY, trash_purge.Limits(7 * DAY))) == ["item-1"]


def test_what_has_just_come_does_not_leave_on_account_of_the_limit() -> None:
    limits = trash_purge.Limits(retention=7 * DAY, bytes=10)
    assert trash_purge.due([_item(1, 0, 100)], HOUR, limits) == []
    assert _names(trash_purge.due([_item(1, 0, 100)], HOUR + 1, limits)) == ["item-1"]


def test_what_is_not_proven_takes_space_and_never_leaves() -> None:
    items = [_item(1, 0, 80, doubt="its record is lost"), _item(2, 100, 30), _item(3, 200, 30)]
    limits = trash_purge.Limits(retention=7 * DAY, bytes=120)
    assert _names(trash_purge.due(items, 2 * HOUR, limits)) == ["item-2"]
    assert _names(trash_purge.due(items, 900 * DAY, limits)) == ["item-2", "item-3"]


def test_a_clock_set_back_makes_everything_young() -> None:
    limits = trash_purge.Limits(retention=0, bytes=0)
    assert trash_purge.due([_item(1, 10 * HOUR, 100)], 9 * HOUR, limits) == []


# -- on the disk -------------------------------------------------------------


@needs_root
def test_the_limit_is_a_share_of_the_file_system(tmp_path: pathlib.Path, clock: Clock) -> None:
    with small_disk(tmp_path / "disk", "8m"):
        host = Host(tmp_path / "disk" / "instances")
        bin_ = trash.Trash(host.directories, 7 * DAY, clock, max_percent=25)
        for instance in (UUID, OTHER, THIRD):
            host.make(instance, file=os.urandom(900 << 10))
            take(host, bin_, instance)
            clock.now += 60
        usage = bin_.usage()
        assert (usage.items, usage.most) == (3, 2 << 20) and usage.bytes > usage.most
        assert bin_.purge() == 0  # they have just come
        clock.now += HOUR
        assert bin_.purge() == 1
        assert [item.instance for item in bin_.list()] == [THIRD, OTHER]


def _spoilt(host: Host, bin_: trash.Trash, how: str) -> trash.Item:
    host.make(console_log=b"log")
    item = take(host, bin_)
    record = host.path / ".rbd-worker" / "trash" / item.id / "record.json"
    content = json.loads(record.read_bytes())
    if how == "gone":
        record.unlink()
    elif how == "torn":
        record.write_bytes(record.read_bytes()[:-20])
    elif how == "a directory":
        record.unlink()
        record.mkdir()
    elif how == "of another instance":
        record.write_text(json.dumps(content | {"instance": OTHER}))
    elif how == "a witness missing":
        record.write_text(json.dumps(content | {"facts": content["facts"][1:]}))
    elif how == "of another directory":
        record.write_text(json.dumps(content | {"inode": content["inode"] + 1}))
    return item


@pytest.mark.parametrize("how", ["gone", "torn", "a directory", "of another instance",
                                 "a witness missing", "of another directory"])
def test_an_item_whose_record_proves_nothing_stays_and_is_told_once(
        host: Host, bin_: trash.Trash, clock: Clock, how: str,
        caplog: pytest.LogCaptureFixture) -> None:
    item = _spoilt(host, bin_, how)
    clock.now += 1000 * DAY
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert bin_.purge() == 0
    (found,) = bin_.list()
    assert found.id == item.id and found.doubt and found.reason == found.doubt
    told = [r.getMessage() for r in caplog.records if item.id in r.getMessage()]
    assert len(told) == 1 and found.doubt in told[0]


def test_an_unproven_item_can_be_restored_and_leaves_on_request(
        host: Host, bin_: trash.Trash) -> None:
    before = None
    for end in ("restored", "discarded"):
        item = _spoilt(host, bin_, "torn")
        if end == "restored":
            bin_.restore(item.id)
            before = snapshot(host.path / UUID)
        else:
            assert bin_.discard(item.id)
    assert before is not None and in_trash(host) == []


def test_a_record_of_an_earlier_version_proves_as_much(host: Host, bin_: trash.Trash) -> None:
    host.make()
    item = take(host, bin_)
    record = host.path / ".rbd-worker" / "trash" / item.id / "record.json"
    content = json.loads(record.read_bytes())
    del content["inode"]
    record.write_text(json.dumps(content))
    assert bin_.find(item.id).doubt == ""


def test_only_what_is_there_can_be_discarded_or_shown(host: Host, bin_: trash.Trash) -> None:
    host.make()
    take(host, bin_)
    for item_id in ("", "..", UUID, f"{UUID}.20231114T221320.abcdef", "x/../y"):
        for action in (bin_.discard, bin_.find, bin_.files):
            with pytest.raises(errors.BadInput):
                action(item_id)
    assert len(bin_.list()) == 1


def test_the_files_of_an_item_are_told_without_following_links(
        host: Host, bin_: trash.Trash) -> None:
    directory = host.make(disk_info=b"12345")
    (directory / "sub").mkdir()
    (directory / "sub" / "link").symlink_to("/etc")
    (directory / "line\nbreak").touch()
    item = take(host, bin_)
    assert [(f.path, f.size) for f in bin_.files(item.id) if not f.path.startswith("sub")] == [
        ("disk.info", 5), ("line\\nbreak", 0)]
    assert [f.path for f in bin_.files(item.id)][2:] == ["sub", "sub/link"]
