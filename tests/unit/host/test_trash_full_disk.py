# SPDX-License-Identifier: Apache-2.0
"""The trash on a disk without a free block: a tmpfs that is filled to the last byte."""

import os
import pathlib
import typing as ty

import pytest

from rbd_worker import errors
from rbd_worker.host import staging, trash, trash_reserve
from tests.unit.host.trees import (
    DAY,
    UUID,
    Clock,
    Host,
    evidence,
    in_trash,
    needs_root,
    small_disk,
    snapshot,
    take,
)

pytestmark = needs_root


@pytest.fixture
def host(tmp_path: pathlib.Path) -> ty.Iterator[Host]:
    with small_disk(tmp_path / "disk", "2m"):
        yield Host(tmp_path / "disk" / "instances")


def _fill(host: Host) -> None:
    """Not a byte is left for a file's content."""
    with (host.path / "ballast").open("ab", buffering=0) as file:
        block = b"x" * 4096
        with pytest.raises(OSError, match="No space"):
            while True:
                file.write(block)


def _instance(number: int) -> str:
    return f"{UUID[:-2]}{number:02}"


def test_a_directory_leaves_with_its_record_although_the_disk_is_full(
        host: Host, bin_: trash.Trash) -> None:
    bin_.tidy()
    before = snapshot(host.make(console_log=b"log"))
    _fill(host)
    item = take(host, bin_)
    assert not (host.path / UUID).exists()
    (found,) = bin_.list()
    assert (found.id, found.doubt, found.migration) == (item.id, "", "migration-1")
    assert found.reason == "libvirt here agrees; holder agrees; watchers agrees; path speaks"
    bin_.restore(item.id)
    assert snapshot(host.path / UUID) == before
    assert in_trash(host) == []


def test_without_a_reserve_the_directory_stays_as_it_was(host: Host, bin_: trash.Trash) -> None:
    before = snapshot(host.make(console_log=b"log"))
    _fill(host)
    with host.pin() as pinned, pytest.raises(errors.NoSpace):
        bin_.take(pinned, evidence(), "m")
    assert snapshot(host.path / UUID) == before
    assert in_trash(host) == []


def test_the_reserve_lasts_for_some_and_is_filled_again_with_space(
        host: Host, bin_: trash.Trash) -> None:
    bin_.tidy()
    for number in range(trash_reserve.PLACES + 1):
        host.make(_instance(number))
    _fill(host)
    for number in range(trash_reserve.PLACES):
        take(host, bin_, _instance(number))
    last = _instance(trash_reserve.PLACES)
    with host.pin(last) as pinned, pytest.raises(errors.NoSpace):
        bin_.take(pinned, evidence(last), "m")
    assert (host.path / last).exists()
    (host.path / "ballast").unlink()
    bin_.tidy()
    _fill(host)
    take(host, bin_, last)
    assert len(bin_.list()) == trash_reserve.PLACES + 1
    assert all(not item.doubt for item in bin_.list())


def test_a_purge_makes_space_on_a_full_disk(host: Host, bin_: trash.Trash, clock: Clock) -> None:
    host.make(console_log=os.urandom(600 << 10))
    take(host, bin_)
    _fill(host)
    clock.now += 8 * DAY
    assert bin_.purge() == 1
    assert in_trash(host) == []
    free = os.statvfs(host.path)
    assert free.f_bavail * free.f_frsize >= 500 << 10


def test_a_kill_after_the_reserve_was_drawn_leaves_nothing_behind(
        host: Host, bin_: trash.Trash, clock: Clock) -> None:
    """The place is in the trash, its record still blank, and the directory where it was."""
    bin_.tidy()
    host.make(console_log=b"log")
    trash_area = host.path / ".rbd-worker" / "trash"
    (host.path / ".rbd-worker" / "reserve" / "0").rename(
        trash_area / f"{UUID}.20231114T221320.abcdef")
    assert bin_.list() == []
    clock.now += 3600
    assert bin_.purge() == 0
    assert in_trash(host) == []
    assert (host.path / UUID / "console.log").exists()


def test_nothing_has_to_be_made_on_a_full_disk_to_drop_what_never_came(host: Host) -> None:
    area = staging.Staging(host.directories, UUID)
    _fill(host)
    area.drop()
    assert area.pinned() is None
    assert not (host.path / ".rbd-worker").exists()
