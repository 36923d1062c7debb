# SPDX-License-Identifier: Apache-2.0
"""Owners that may not be given, full disks and missing permissions."""

import os
import pathlib

import msgspec
import pytest

from rbd_worker import errors
from rbd_worker.host import console, staging
from tests.unit.host.entries import ROOT, Pull, directory_of, entry_of, staged
from tests.unit.host.trees import (
    NOBODY,
    UUID,
    Host,
    as_nobody,
    needs_root,
    never,
    small_disk,
    world_readable,
)


@needs_root
def test_an_owner_is_given_by_name_where_the_name_is_known(
        destination: Host, area: staging.Staging) -> None:
    entries = (entry_of("known", b"x", uid=12345, gid=12345, owner="nobody", group="nogroup"),
               entry_of("strange", b"x", uid=12345, gid=12346, owner="no such user"))
    area.ensure(ROOT, entries, never)
    tree = staged(destination) / "tree"
    assert ((tree / "known").stat().st_uid, (tree / "known").stat().st_gid) == (NOBODY, NOBODY)
    assert ((tree / "strange").stat().st_uid, (tree / "strange").stat().st_gid) == (12345, 12346)


@needs_root
def test_an_owner_that_may_not_be_given_is_replaced_by_this_worker_with_a_warning() -> None:
    with world_readable() as path:
        host = Host(path / "instances")
        os.chown(host.path, NOBODY, NOBODY)

        def stage() -> int:
            area = staging.Staging(host.directories, UUID)
            area.ensure(ROOT, (entry_of("a", b"x", uid=0, owner="root", mode=0o640),), never)
            area.promote()
            return (host.path / UUID / "a").stat().st_uid

        assert as_nobody(stage) == NOBODY
        assert oct((host.path / UUID / "a").stat().st_mode) == "0o100640"


@needs_root
def test_a_full_disk_is_told_and_this_attempt_leaves_nothing(tmp_path: pathlib.Path) -> None:
    with small_disk(tmp_path / "disk", "2m"):
        host = Host(tmp_path / "disk" / "instances")
        area = staging.Staging(host.directories, UUID)
        source = Host(tmp_path / "source")
        source.make(first=b"x" * 1000, second=os.urandom(3 << 20))
        with source.pinned() as files, pytest.raises(errors.NoSpace) as caught:
            pull = Pull(files)
            unknown = tuple(msgspec.structs.replace(e, data=0) for e in files.entries)
            area.ensure(files.root, unknown, pull)  # as an older worker tells it
        assert pull.asked[0] == ("first", 0)
        assert "Free space" in caught.value.sentence
        assert [p.name for p in host.path.rglob("*") if p.is_file()] == []


@needs_root
def test_what_was_announced_is_compared_with_the_free_space_first(tmp_path: pathlib.Path) -> None:
    with small_disk(tmp_path / "disk", "2m"):
        host = Host(tmp_path / "disk" / "instances")
        area = staging.Staging(host.directories, UUID)
        entries = (entry_of("a", b"x" * 1000, inline=None), entry_of("b", b"y" * (3 << 20)))
        with pytest.raises(errors.NoSpace):
            area.ensure(ROOT, entries, never)


@needs_root
def test_files_that_cannot_fit_are_refused_with_the_numbers_before_any_is_pulled(
        tmp_path: pathlib.Path) -> None:
    with small_disk(tmp_path / "disk", "2m"):
        host = Host(tmp_path / "disk" / "instances")
        area = staging.Staging(host.directories, UUID)
        source = Host(tmp_path / "source")
        source.make(first=os.urandom(1 << 20), second=os.urandom(3 << 20))
        with source.pinned() as files, pytest.raises(errors.NoRoom) as caught:
            area.ensure(files.root, files.entries, never)
        assert f"{4 << 20} bytes are to come" in caught.value.sentence
        assert "are free" in caught.value.sentence


@needs_root
def test_holes_zeros_and_what_is_staged_need_no_room(tmp_path: pathlib.Path) -> None:
    with small_disk(tmp_path / "disk", "6m"):
        host = Host(tmp_path / "disk" / "instances")
        area = staging.Staging(host.directories, UUID)
        source = Host(tmp_path / "source")
        directory = source.make(zeros=b"\0" * (8 << 20), data=os.urandom(4 << 20))
        with (directory / "holes").open("wb") as file:
            file.truncate(1 << 30)
        with source.pinned() as files:
            for _ in range(2):  # the second time what is staged leaves less than the data's size
                area.ensure(files.root, files.entries, Pull(files))
        assert (staged(host) / "tree" / "holes").stat().st_size == 1 << 30


@needs_root
def test_no_permission_is_told(tmp_path: pathlib.Path) -> None:
    with world_readable() as path:
        host = Host(path / "instances")
        host.path.chmod(0o755)
        area = staging.Staging(host.directories, UUID)
        with pytest.raises(RuntimeError, match="AccessDenied"):
            as_nobody(lambda: area.ensure(ROOT, (entry_of("a", b"x"),), never))


@needs_root
def test_directories_that_cannot_be_entered_are_staged_all_the_same() -> None:
    with world_readable() as path:
        host = Host(path / "instances")
        os.chown(host.path, NOBODY, NOBODY)
        entries = (directory_of("a", mode=0o600, uid=NOBODY, gid=NOBODY),
                   directory_of("a/b", mode=0o500, uid=NOBODY, gid=NOBODY),
                   entry_of("a/b/c", b"x", uid=NOBODY, gid=NOBODY))

        def stage_twice() -> None:
            for _ in range(2):
                staging.Staging(host.directories, UUID).ensure(ROOT, entries, never)

        as_nobody(stage_twice)
        inner = host.path / ".rbd-worker" / "staging" / UUID / "tree" / "a" / "b"
        assert (oct(inner.parent.stat().st_mode), oct(inner.stat().st_mode)) == (
            "0o40600", "0o40500")


@needs_root
def test_copies_leave_room_for_the_guests_that_are_here(tmp_path: pathlib.Path) -> None:
    with small_disk(tmp_path / "disk", "64m"):
        host = Host(tmp_path / "disk" / "instances")
        area = staging.Staging(host.directories, UUID)
        source = Host(tmp_path / "source")
        source.make(first=b"x" * 1000, second=os.urandom(62 << 20))
        with source.pinned() as files, pytest.raises(errors.NoSpace):
            area.ensure(files.root, files.entries, Pull(files))
        assert not [p for p in staged(host).rglob("*") if p.is_file()]
        (source.path / UUID / "second").write_bytes(os.urandom(50 << 20))
        with source.pinned() as files:
            area.ensure(files.root, files.entries, Pull(files))


@pytest.mark.parametrize("name", ["manifest.json", "promoted.json", "history.json"])
@pytest.mark.parametrize("content", [
    b"", b"{", b"[" * 10_000, b'"\xff"', b"null", b"\0" * 4096,
    b'{"first": 1, "pieces": ["tree"], "sources": {}}',
    b'{"first": 1, "pieces": ["history.\\u0000"], "sources": {}}'])
def test_a_record_that_a_power_failure_cut_counts_as_missing(
        destination: Host, area: staging.Staging, name: str, content: bytes) -> None:
    area.ensure(ROOT, (entry_of("a", b"x"), entry_of("console.log", b"old\n")), never)
    (staged(destination) / name).write_bytes(content)
    assert name != "manifest.json" or area.entries() == ()
    destination.make(disk_info=b"{}")
    with destination.pin() as directory:
        placed = area.place(directory, (entry_of("a", b"x"),), {})
        console.place_history(directory, area, keep=4, max_bytes=1 << 20)
    assert placed.placed.keys() == {"a"}
    assert (destination.path / UUID / "console.log.0").read_bytes() == b"old\n"
