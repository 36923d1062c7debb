# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import shutil
import time
import typing as ty
import zlib

import pytest

from devstack.lab import processes
from rbd_worker import errors
from tests.unit.host.entries import digests, pulled
from tests.unit.host.test_digest import plainly
from tests.unit.host.trees import UUID, Host, meanwhile, needs_root, open_descriptors


def test_every_file_is_told_with_content_mode_owner_and_time(host: Host) -> None:
    directory = host.make(console_log=b"boot\n", disk_info=b"{}")
    (directory / "sub").mkdir(mode=0o750)
    (directory / "sub" / "kernel").write_bytes(b"k" * 100_000)
    (directory / "disk.info").chmod(0o640)
    os.utime(directory / "disk.info", ns=(1, 1_700_000_000_123_456_789))
    with host.pinned() as files:
        entries = {entry.path: entry for entry in files.entries}
    assert list(entries) == ["console.log", "disk.info", "sub", "sub/kernel"]
    assert entries["sub/kernel"].digest == plainly(b"k" * 100_000)
    assert (entries["sub"].kind, entries["sub"].mode, entries["sub"].digest) == (
        "directory", 0o750, "")
    info = entries["disk.info"]
    assert (info.size, info.mode, info.mtime_ns) == (2, 0o640, 1_700_000_000_123_456_789)
    assert (info.uid, info.gid) == (os.geteuid(), os.getegid())
    assert files.root.path == "." and files.root.mode == directory.stat().st_mode & 0o7777


def _rename(directory: pathlib.Path) -> None:
    (directory / "disk.info").rename(directory / "renamed")
    (directory / "sub").rename(directory / "under")


@pytest.mark.parametrize("change", [
    lambda d: (d / "disk.info").chmod(0o600), lambda d: (d / "sub").chmod(0o700),
    lambda d: os.utime(d / "disk.info", ns=(1, 2_000_000_000)),
    lambda d: os.utime(d / "sub", ns=(1, 2_000_000_000)), _rename,
    pytest.param(lambda d: os.chown(d / "disk.info", 3, 4), marks=needs_root),
    pytest.param(lambda d: os.chown(d / "sub", 3, 4), marks=needs_root)])
def test_another_look_tells_each_change_as_a_first_one_does(
        host: Host, change: ty.Callable[[pathlib.Path], None]) -> None:
    directory = host.make(disk_info=b"{}")
    (directory / "sub").mkdir()
    with host.pinned() as files:
        before = files.entries
        files.refresh()
        assert files.entries == before
        change(directory)
        files.refresh()
        with host.pinned() as afresh:
            assert files.entries == afresh.entries != before


def test_parents_come_before_what_is_in_them(host: Host) -> None:
    directory = host.make()
    (directory / "a" / "b").mkdir(parents=True)
    for name in ("a-file", "a/z", "a/b/c", "a.b"):
        (directory / name).write_bytes(b"")
    with host.pinned() as files:
        paths = [entry.path for entry in files.entries]
    for path in paths:
        parent = path.rpartition("/")[0]
        assert not parent or paths.index(parent) < paths.index(path)


def test_names_that_are_swapped_for_links_are_never_followed(
        host: Host, tmp_path: pathlib.Path) -> None:
    directory = host.make(file=b"ours")
    (directory / "sub").mkdir()
    (directory / "sub" / "inner").write_bytes(b"ours")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "inner").write_bytes(b"SECRET")
    (tmp_path / "link").symlink_to(outside / "inner")
    (tmp_path / "dirlink").symlink_to(outside)

    def swap() -> None:
        for name, link in (("file", "link"), ("sub", "dirlink")):
            os.rename(directory / name, tmp_path / "aside")
            os.rename(tmp_path / link, directory / name)
            os.rename(directory / name, tmp_path / link)
            os.rename(tmp_path / "aside", directory / name)

    ends = set()
    began, refused = time.monotonic(), {"UnsafeDirectory", "DirectoryChanged"}
    with meanwhile(swap):
        while (took := time.monotonic() - began) < 2 or (
                not ends & refused and took < processes.patience(20)):
            try:
                with host.pinned() as files:
                    for entry in files.entries:
                        if entry.kind == "file":
                            assert pulled(files, entry) == b"ours"
                ends.add("pinned")
            except errors.Error as e:
                ends.add(type(e).__name__)
    assert ends & refused


def test_a_log_that_grows_while_it_is_read_is_told_as_it_was_when_looked_at(host: Host) -> None:
    log = host.make(console_log=b"") / "console.log"

    def grow() -> None:
        with log.open("ab") as file:
            file.write(b"line\n" * 100)
        time.sleep(0.0002)

    with meanwhile(grow):
        for _ in range(20):
            with host.pinned() as files:
                (entry,) = files.entries
                content = pulled(files, entry)
            assert len(content) == entry.size
            assert plainly(content) == entry.digest
            assert content == (b"line\n" * (len(content) // 5 + 1))[:len(content)]


def test_files_stay_readable_when_nova_renames_and_deletes_the_directory(host: Host) -> None:
    directory = host.make(console_log=b"the history", disk_info=b"{}")
    (directory / "sub").mkdir()
    (directory / "sub" / "file").write_bytes(b"inner")
    with host.pinned() as files:
        before, root = files.entries, files.root
        os.rename(directory, host.path / f"{UUID}_del")
        files.refresh()
        assert files.entries == before
        shutil.rmtree(host.path / f"{UUID}_del")
        files.refresh()
        assert files.entries == before and files.root == root
        assert pulled(files, before[0]) == b"the history"
        assert [zlib.decompress(e.inline) for e in files.entries_inline({}) if e.inline] == [
            b"the history", b"{}", b"inner"]


def test_what_was_written_just_before_the_deletion_is_not_lost(host: Host) -> None:
    directory = host.make(console_log=b"begin\n")
    with host.pinned() as files, (directory / "console.log").open("ab") as writer:
        os.rename(directory, host.path / f"{UUID}_del")
        writer.write(b"last words\n")
        writer.flush()
        files.refresh()
        (entry,) = files.entries
        assert pulled(files, entry) == b"begin\nlast words\n"


def test_refresh_finds_what_grew_what_is_new_and_what_changed_its_mode(host: Host) -> None:
    directory = host.make(console_log=b"one\n", disk_info=b"{}")
    with host.pinned() as files:
        with (directory / "console.log").open("ab") as log:
            log.write(b"two\n")
        (directory / "new").write_bytes(b"new")
        (directory / "disk.info").chmod(0o600)
        files.refresh()
        assert digests(files) == {"console.log": plainly(b"one\ntwo\n"), "new": plainly(b"new"),
                                  "disk.info": plainly(b"{}")}
        assert {e.path: e.mode for e in files.entries}["disk.info"] == 0o600


def test_refresh_follows_a_log_that_was_rotated(host: Host) -> None:
    directory = host.make(console_log=b"old", console_log_0=b"older")
    with host.pinned() as files:
        os.rename(directory / "console.log.0", directory / "console.log.1")
        os.rename(directory / "console.log", directory / "console.log.0")
        (directory / "console.log").write_bytes(b"new")
        files.refresh()
        assert digests(files) == {"console.log": plainly(b"new"), "console.log.0": plainly(b"old"),
                                  "console.log.1": plainly(b"older")}


def test_a_log_is_not_lost_while_it_is_rotated_all_the_time(host: Host) -> None:
    directory = host.make(console_log=b"kept", other=b"x")

    def rotate() -> None:
        os.rename(directory / "console.log", directory / "console.log.0")
        (directory / "console.log").write_bytes(b"new")
        os.rename(directory / "console.log.0", directory / "console.log")

    with host.pinned() as files, meanwhile(rotate):
        for _ in range(50):
            try:
                files.refresh()
            except errors.DirectoryChanged:
                continue
            assert plainly(b"kept") in digests(files).values()


def test_what_came_later_is_held_and_the_rest_stays_as_it_was_told(host: Host) -> None:
    directory = host.make(console_log=b"told", disk_info=b"{}")
    (directory / "keys").mkdir()
    with host.pinned() as files:
        told = {entry.path: entry for entry in files.entries}
        with (directory / "console.log").open("ab") as log:
            log.write(b", and more")
        (directory / "new").write_bytes(b"new")
        (directory / "keys" / "secret").write_bytes(b"secret")
        files.extend()
        shutil.rmtree(directory)
        held = {entry.path: entry for entry in files.entries}
        assert list(held) == ["console.log", "disk.info", "keys", "keys/secret", "new"]
        assert {path: held[path] for path in told} == told
        assert pulled(files, told["console.log"]) == b"told"
        assert [pulled(files, held[path]) for path in ("keys/secret", "new")] == [
            b"secret", b"new"]
        files.refresh()
        assert digests(files)["console.log"] == plainly(b"told, and more")
        assert digests(files)["new"] == plainly(b"new")


def test_another_file_under_a_told_name_cannot_be_held_beside_it(host: Host) -> None:
    directory = host.make(x=b"told")
    with host.pinned() as files:
        (directory / "new").write_bytes(b"another")
        os.rename(directory / "new", directory / "x")
        with pytest.raises(errors.DirectoryChanged, match="another file than the one told of"):
            files.extend()
        assert digests(files) == {"x": plainly(b"told")}
        files.refresh()
        files.extend()
        assert digests(files) == {"x": plainly(b"another")}


def test_no_descriptor_is_left_by_a_look_for_what_came_later(host: Host) -> None:
    directory = host.make(disk_info=b"{}")
    before = open_descriptors()
    with host.pinned() as files:
        held = open_descriptors()
        (directory / "new").write_bytes(b"new")
        files.extend()
        files.extend()
        assert open_descriptors() == held + 1
        (directory / "link").symlink_to("/etc/passwd")
        with pytest.raises(errors.UnsafeDirectory):
            files.extend()
        assert open_descriptors() == held + 1
    assert open_descriptors() == before


def test_a_file_that_vanished_stays_and_one_that_was_replaced_does_not(host: Host) -> None:
    directory = host.make(gone=b"gone", replaced=b"before")
    with host.pinned() as files:
        (directory / "gone").unlink()
        (directory / "fresh").write_bytes(b"after")
        os.rename(directory / "fresh", directory / "replaced")
        files.refresh()
        assert digests(files) == {"gone": plainly(b"gone"), "replaced": plainly(b"after")}


def test_a_file_that_vanished_keeps_the_directory_it_was_in(host: Host) -> None:
    (host.make() / "x").mkdir()
    (host.path / UUID / "x" / "gone").write_bytes(b"gone")
    with host.pinned() as files:
        (host.path / UUID / "x" / "gone").unlink()
        os.rename(host.path / UUID / "x", host.path / UUID / "y")
        files.refresh()
        assert [entry.path for entry in files.entries] == ["x", "x/gone", "y"]


def test_a_file_that_was_moved_out_of_the_directory_is_not_held_on_to(
        host: Host, tmp_path: pathlib.Path) -> None:
    directory = host.make(console_log=b"moved away")
    with host.pinned() as files:
        os.rename(directory / "console.log", tmp_path / "elsewhere")
        (directory / "console.log").write_bytes(b"new")
        files.refresh()
        assert digests(files) == {"console.log": plainly(b"new")}


def test_a_directory_that_became_a_file_takes_its_old_files_along(host: Host) -> None:
    directory = host.make()
    (directory / "x").mkdir()
    (directory / "x" / "inner").write_bytes(b"inner")
    with host.pinned() as files:
        shutil.rmtree(directory / "x")
        (directory / "x").write_bytes(b"file")
        files.refresh()
        assert digests(files) == {"x": plainly(b"file")}


def test_a_refused_refresh_leaves_what_was_pinned(host: Host) -> None:
    directory = host.make(console_log=b"log")
    with host.pinned() as files:
        (directory / "link").symlink_to("console.log")
        with pytest.raises(errors.UnsafeDirectory):
            files.refresh()
        assert digests(files) == {"console.log": plainly(b"log")}
        assert pulled(files, files.entries[0]) == b"log"


def test_many_looks_leave_no_descriptor_behind(host: Host) -> None:
    directory = host.make(a=b"a", b=b"b")
    before = open_descriptors()
    with host.pinned() as files:
        for number in range(20):
            (directory / "a").write_bytes(b"%d" % number)
            os.rename(directory / "a", directory / "b")
            (directory / "a").write_bytes(b"again")
            files.refresh()
    assert open_descriptors() == before


