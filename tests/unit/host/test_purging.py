# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import subprocess

import pytest

from rbd_worker.host import removal, trash
from tests.unit.host.trees import (
    DAY,
    OTHER,
    UUID,
    Clock,
    Host,
    in_trash,
    needs_root,
    open_descriptors,
    take,
)


def test_an_item_that_a_kill_left_half_made_is_not_listed_and_goes_later(
        host: Host, bin_: trash.Trash, clock: Clock) -> None:
    host.make(OTHER)
    take(host, bin_, OTHER)
    half = host.path / ".rbd-worker" / "trash" / f"{UUID}.20231114T221320.abcdef"
    half.mkdir()
    (half / "record.json").write_bytes(b"{}")
    assert [item.instance for item in bin_.list()] == [OTHER]
    bin_.purge()
    assert half.exists()  # another thread may be about to complete it
    clock.now += 3600
    bin_.purge()
    assert not half.exists()
    assert [item.instance for item in bin_.list()] == [OTHER]


def test_what_is_older_than_the_retention_is_purged(
        host: Host, bin_: trash.Trash, clock: Clock) -> None:
    host.make(console_log=b"log")
    take(host, bin_)
    clock.now += 7 * DAY
    host.make(OTHER)
    take(host, bin_, OTHER)
    assert bin_.purge() == 0
    clock.now += 1
    assert bin_.purge() == 1
    assert [item.instance for item in bin_.list()] == [OTHER]
    assert len(in_trash(host)) == 1


def test_a_purge_that_was_killed_is_continued(host: Host, bin_: trash.Trash) -> None:
    host.make(a=b"a", b=b"b")
    item = take(host, bin_)
    area = host.path / ".rbd-worker" / "trash"
    os.rename(area / item.id, area / f"{item.id}.purging")
    (area / f"{item.id}.purging" / "directory" / "a").unlink()
    assert bin_.list() == []
    bin_.purge()
    assert in_trash(host) == []


def test_names_that_are_not_items_are_never_purged(
        host: Host, bin_: trash.Trash, clock: Clock) -> None:
    take_away = host.path / ".rbd-worker" / "trash"
    host.make()
    take(host, bin_)
    for name in ("notes", f"{UUID}.20231399T999999.abcdef", UUID):
        (take_away / name / "directory").mkdir(parents=True)
    clock.now += 100 * 365 * DAY
    assert bin_.purge() == 1
    assert in_trash(host) == sorted(["notes", f"{UUID}.20231399T999999.abcdef", UUID])


def test_purging_removes_links_and_not_what_they_lead_to(
        host: Host, bin_: trash.Trash, clock: Clock, tmp_path: pathlib.Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_bytes(b"")
    directory = host.make()
    (directory / "link").symlink_to(tmp_path / "outside")
    (directory / "sub").mkdir()
    (directory / "sub" / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(directory / "fifo")
    os.mkdir(os.fsencode(directory) + b"/\xff")
    take(host, bin_)
    clock.now += 8 * DAY
    assert bin_.purge() == 1
    assert (tmp_path / "outside" / "precious").exists()


def test_a_tree_deeper_than_any_stack_is_removed(tmp_path: pathlib.Path) -> None:
    base = os.open(tmp_path, os.O_RDONLY)
    (tmp_path / "tree").mkdir()
    current = os.open(tmp_path / "tree", os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=current)
        inner = os.open("d", os.O_RDONLY, dir_fd=current)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=inner))
        os.close(current)
        current = inner
    os.close(current)
    before = open_descriptors()
    assert removal.remove_tree("tree", base)
    assert not removal.remove_tree("tree", base)
    assert open_descriptors() == before
    os.close(base)
    assert list(tmp_path.iterdir()) == []


def test_directories_without_permission_bits_are_removed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "tree" / "a" / "b").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "b" / "file").write_bytes(b"")
    (tmp_path / "tree" / "a" / "b").chmod(0)
    (tmp_path / "tree" / "a").chmod(0)
    base = os.open(tmp_path, os.O_RDONLY)
    removal.remove_tree("tree", base)
    os.close(base)
    assert list(tmp_path.iterdir()) == []


@needs_root
@pytest.mark.parametrize("place", ["", "directory", "directory/file"])
def test_an_item_that_is_immutable_does_not_keep_the_others(
        host: Host, bin_: trash.Trash, clock: Clock, caplog: pytest.LogCaptureFixture,
        place: str) -> None:
    host.make(file=b"x")
    held = take(host, bin_).id
    clock.now += 1
    host.make(OTHER)
    take(host, bin_, OTHER)
    area = host.path / ".rbd-worker" / "trash"
    _chattr("+i", area / held / place)
    clock.now += 8 * DAY
    try:
        assert bin_.purge() == 1
        (name,) = in_trash(host)
        assert name.removesuffix(".purging") == held
        assert f"{name} in the trash cannot be removed yet" in caplog.text
        assert "chattr" in caplog.text
    finally:
        _chattr("-R", "-i", area)
    bin_.purge()
    assert in_trash(host) == []


def _chattr(*arguments: str | pathlib.Path) -> None:
    subprocess.run(["chattr", *arguments], check=True)
