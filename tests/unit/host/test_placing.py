# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import typing as ty

import pytest

from rbd_worker import errors
from rbd_worker.host import staging, syscalls
from rpcapi.payloads import FileEntry
from tests.unit.host.entries import ROOT, directory_of, entry_of
from tests.unit.host.test_digest import plainly
from tests.unit.host.trees import UUID, Host, meanwhile, never, snapshot


def place(destination: Host, area: staging.Staging, entries: tuple[FileEntry, ...],
          known: dict[str, str] | None = None) -> staging.Placed:
    with destination.pin() as directory:
        area.ensure(ROOT, entries, never, standing=directory)
        return area.place(directory, entries, known or {})


def test_missing_files_are_placed_with_their_directories(
        destination: Host, area: staging.Staging) -> None:
    destination.make(console_log=b"the destination's")
    entries = (directory_of("sub", mode=0o711), entry_of("sub/kernel", b"k", mode=0o640),
               entry_of("disk.config", b"c"), entry_of("console.log", b"the source's"))
    result = place(destination, area, entries)
    assert result == staging.Placed({"sub/kernel": plainly(b"k"), "disk.config": plainly(b"c")})
    directory = destination.path / UUID
    assert (directory / "sub" / "kernel").read_bytes() == b"k"
    assert oct((directory / "sub" / "kernel").stat().st_mode) == "0o100640"
    assert oct((directory / "sub").stat().st_mode) == "0o40711"
    assert (directory / "sub").stat().st_mtime_ns == 1_600_000_000_000_000_000
    assert (directory / "console.log").read_bytes() == b"the destination's"


def test_a_file_of_the_destinations_own_stays(destination: Host, area: staging.Staging) -> None:
    directory = destination.make(disk_info=b"nova's", same=b"same")
    before = (directory / "same").stat()
    result = place(destination, area, (entry_of("disk.info", b"source's"),
                                       entry_of("same", b"same")))
    assert result == staging.Placed({"same": plainly(b"same")}, ("disk.info",))
    assert (directory / "disk.info").read_bytes() == b"nova's"
    assert (directory / "same").stat().st_ino == before.st_ino


def test_a_copy_of_ours_that_nobody_changed_gives_way_to_the_newer_content(
        destination: Host, area: staging.Staging) -> None:
    directory = destination.make(ours=b"first", changed=b"changed by the guest")
    known = {"ours": plainly(b"first"), "changed": plainly(b"first")}
    result = place(destination, area, (entry_of("ours", b"second"),
                                       entry_of("changed", b"second")), known)
    assert result == staging.Placed({"ours": plainly(b"second")}, ("changed",))
    assert (directory / "ours").read_bytes() == b"second"
    assert (directory / "changed").read_bytes() == b"changed by the guest"


def test_links_in_the_way_are_the_destinations_own_and_not_followed(
        destination: Host, area: staging.Staging, tmp_path: pathlib.Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    directory = destination.make()
    (directory / "sub").symlink_to(outside)
    (directory / "file").symlink_to(outside / "planted")
    os.mkfifo(directory / "fifo")
    result = place(destination, area, (directory_of("sub"), entry_of("sub/a", b"a"),
                                       entry_of("file", b"f"), entry_of("fifo", b"f")))
    assert result == staging.Placed({}, ("sub/a", "file", "fifo"))
    assert list(outside.iterdir()) == []


def test_placing_again_after_a_kill_gives_the_same_answer(
        destination: Host, area: staging.Staging) -> None:
    destination.make(own=b"own")
    entries = (directory_of("sub"), entry_of("sub/a", b"a"), entry_of("own", b"source's"),
               entry_of("ours", b"new"))
    first = place(destination, area, entries)
    before = snapshot(destination.path / UUID)
    again = staging.Staging(destination.directories, UUID)
    assert place(destination, again, entries) == first
    assert snapshot(destination.path / UUID) == before


def test_placing_needs_no_staged_copy_of_what_stands_there(
        destination: Host, area: staging.Staging) -> None:
    destination.make()
    entries = (directory_of("sub"), entry_of("sub/a", b"a"))
    first = place(destination, area, entries)
    area.drop()
    with destination.pin() as directory:
        assert area.place(directory, entries, {}) == first


def test_a_file_that_the_guest_changes_at_the_last_moment_stays(
        destination: Host, area: staging.Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    file = destination.make(ours=b"first") / "ours"
    honest = syscalls.exchange
    written: list[bytes] = []

    def changes_first(*arguments: ty.Any) -> None:
        if not written:
            written.append(b"the guest's")
            file.write_bytes(written[0])
        honest(*arguments)

    monkeypatch.setattr(syscalls, "exchange", changes_first)
    result = place(destination, area, (entry_of("ours", b"second"),), {"ours": plainly(b"first")})
    assert written and result == staging.Placed({}, ("ours",))
    assert file.read_bytes() == b"the guest's"


def test_what_is_neither_staged_nor_standing_has_to_be_told_again(
        destination: Host, area: staging.Staging) -> None:
    destination.make()
    with destination.pin() as directory, pytest.raises(errors.DirectoryChanged):
        area.place(directory, (entry_of("a", b"x"),), {})


def test_names_that_are_swapped_during_placing_lead_nowhere_else(
        destination: Host, tmp_path: pathlib.Path) -> None:
    directory = destination.make()
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "link").symlink_to(outside)
    (directory / "sub").mkdir()
    entries = (directory_of("sub"), *(entry_of(f"sub/{n}", b"%d" % n) for n in range(20)))

    def swap() -> None:
        os.rename(directory / "sub", tmp_path / "aside")
        os.rename(tmp_path / "link", directory / "sub")
        os.rename(directory / "sub", tmp_path / "link")
        os.rename(tmp_path / "aside", directory / "sub")

    with meanwhile(swap):
        for _ in range(15):
            area = staging.Staging(destination.directories, UUID)
            try:
                place(destination, area, entries)
            except errors.Error:
                pass
            area.drop()
            for name in os.listdir(outside):
                raise AssertionError(f"{name} was written outside")


