# SPDX-License-Identifier: Apache-2.0
import logging
import os
import pathlib
import shutil
import typing as ty

import pytest

from rbd_worker import errors
from rbd_worker.host import console, staging, syscalls
from tests.unit.host.entries import ROOT, entry_of
from tests.unit.host.test_digest import plainly
from tests.unit.host.trees import UUID, Host, never, open_descriptors, snapshot

MIB = 1 << 20


@pytest.fixture
def area(host: Host) -> staging.Staging:
    return staging.Staging(host.directories, UUID)


def stage(area: staging.Staging, *logs: bytes) -> None:
    """The source's ``console.log``, ``console.log.0``, ..."""
    names = ["console.log", *(f"console.log.{n}" for n in range(len(logs)))]
    area.ensure(ROOT, tuple(map(entry_of, names, logs)), never)


def place(host: Host, area: staging.Staging, keep: int = 8,
          max_bytes: int = MIB, joined: console.Joined | None = None) -> dict[str, str]:
    return history(host, area, keep, max_bytes, joined).placed


def history(host: Host, area: staging.Staging, keep: int, max_bytes: int = MIB,
            joined: console.Joined | None = None) -> console.History:
    with host.pin() as directory:
        return console.place_history(directory, area, keep=keep, max_bytes=max_bytes,
                                     joined=joined or {})


def as_nova_reads(directory: pathlib.Path) -> bytes:
    """Nova's reader: console.log, then .0, .1, ... put in front, until one is missing."""
    content, path, number = b"", directory / "console.log", 0
    while path.exists():
        content = path.read_bytes() + content
        path = directory / f"console.log.{number}"
        number += 1
    return content


def logs_of(host: Host) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (host.path / UUID).iterdir()}


def test_the_sources_logs_become_the_rotated_logs_in_their_order(
        host: Host, area: staging.Staging) -> None:
    host.make(console_log=b"D")
    stage(area, b"C", b"B", b"A")
    placed = place(host, area)
    assert logs_of(host) == {"console.log": b"D", "console.log.0": b"C", "console.log.1": b"B",
                             "console.log.2": b"A"}
    assert as_nova_reads(host.path / UUID) == b"ABCD"
    assert placed == {"console.log": plainly(b"C"), "console.log.0": plainly(b"B"),
                      "console.log.1": plainly(b"A")}


def test_logs_that_the_destination_rotated_itself_stay_in_front(
        host: Host, area: staging.Staging) -> None:
    host.make(console_log=b"D", console_log_0=b"C")
    stage(area, b"B", b"A")
    place(host, area)
    assert as_nova_reads(host.path / UUID) == b"ABCD"
    assert logs_of(host)["console.log.0"] == b"C"


def test_the_destinations_own_log_is_never_touched(host: Host, area: staging.Staging) -> None:
    directory = host.make(console_log=b"own")
    before = (directory / "console.log").stat()
    stage(area, b"history")
    place(host, area)
    after = (directory / "console.log").stat()
    assert (before.st_ino, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_ino, after.st_mtime_ns, after.st_ctime_ns)


def test_a_directory_without_a_log_gets_history_and_no_log(
        host: Host, area: staging.Staging) -> None:
    host.make()
    stage(area, b"history")
    place(host, area)
    assert logs_of(host) == {"console.log.0": b"history"}


def test_empty_logs_are_not_placed(host: Host, area: staging.Staging) -> None:
    host.make(console_log=b"B")
    stage(area, b"", b"A", b"")
    placed = place(host, area)
    assert logs_of(host) == {"console.log": b"B", "console.log.0": b"A"}
    assert set(placed) == {"console.log", "console.log.0", "console.log.1"}


def test_older_logs_are_joined_into_the_oldest(host: Host, area: staging.Staging) -> None:
    host.make(console_log=b"own ")
    stage(area, b"5 ", b"4 ", b"3 ", b"2 ", b"1 ")
    placed = place(host, area, keep=3)
    assert logs_of(host) == {"console.log": b"own ", "console.log.0": b"5 ",
                             "console.log.1": b"4 ", "console.log.2": b"1 2 3 "}
    assert placed["console.log.3"] == plainly(b"1 ")


def test_the_oldest_bytes_leave_first_and_it_is_said(
        host: Host, area: staging.Staging, caplog: pytest.LogCaptureFixture) -> None:
    host.make(console_log=b"x" * 1000)
    stage(area, b"C" * 40, b"B" * 40, b"A" * 40)
    with caplog.at_level(logging.WARNING):
        placed = place(host, area, max_bytes=100)
    assert logs_of(host)["console.log.2"] == b"A" * 20
    assert "console.log.3" not in logs_of(host)
    assert "the oldest 20 bytes" in caplog.text and UUID in caplog.text
    assert placed["console.log.1"] == plainly(b"A" * 40)


def test_what_the_destination_rotated_counts_against_both_limits(
        host: Host, area: staging.Staging) -> None:
    host.make(console_log=b"", console_log_0=b"x" * 50, console_log_1=b"y" * 20)
    stage(area, b"C" * 20, b"B" * 20, b"A" * 20)
    place(host, area, keep=3, max_bytes=100)
    assert logs_of(host)["console.log.2"] == b"B" * 10 + b"C" * 20
    assert "console.log.3" not in logs_of(host)


def test_mode_and_time_of_a_log_are_kept(host: Host, area: staging.Staging) -> None:
    host.make()
    area.ensure(ROOT, (entry_of("console.log", b"log", mode=0o600),), never)
    place(host, area)
    status = (host.path / UUID / "console.log.0").stat()
    assert oct(status.st_mode) == "0o100600"
    assert status.st_mtime_ns == 1_600_000_000_000_000_000


# -- repeated, and after a kill ----------------------------------------------


def test_a_repeat_places_nothing_twice(host: Host, area: staging.Staging) -> None:
    host.make(console_log=b"D")
    stage(area, b"C", b"B", b"A")
    first = place(host, area)
    before = snapshot(host.path / UUID)
    assert place(host, area) == first
    assert snapshot(host.path / UUID) == before


def test_a_repeat_after_staging_was_dropped_places_nothing_twice(
        host: Host, area: staging.Staging) -> None:
    host.make(console_log=b"D")
    stage(area, b"C", b"B", b"A")
    first = place(host, area)
    before = snapshot(host.path / UUID)
    area.drop()
    stage(area, b"C", b"B", b"A")
    assert place(host, area) == first
    assert snapshot(host.path / UUID) == before


def test_logs_that_an_earlier_migration_joined_are_not_placed_twice(
        host: Host, area: staging.Staging) -> None:
    host.make(console_log=b"D")
    stage(area, b"C", b"B", b"A")
    joined = history(host, area, keep=2).joined
    before = snapshot(host.path / UUID)
    area.drop()
    stage(area, b"C", b"B", b"A")
    place(host, area, keep=2, joined=joined)
    assert snapshot(host.path / UUID) == before


def test_logs_that_were_joined_in_a_directory_that_is_gone_are_placed(
        host: Host, area: staging.Staging) -> None:
    host.make(console_log=b"D")
    stage(area, b"C", b"B", b"A")
    joined = history(host, area, keep=1).joined
    area.drop()
    shutil.rmtree(host.path / UUID)
    host.make(console_log=b"D")
    stage(area, b"C", b"B", b"A")
    place(host, area, keep=1, joined=joined)
    assert as_nova_reads(host.path / UUID) == b"ABCD"


class Killed(BaseException):
    """Not an error of ours: nothing catches it."""


@pytest.mark.parametrize("keep", [2, 8])
@pytest.mark.parametrize("renames", [0, 1, 2, 3])
def test_a_kill_between_any_two_renames_is_made_good(
        host: Host, area: staging.Staging, monkeypatch: pytest.MonkeyPatch,
        renames: int, keep: int) -> None:
    host.make(console_log=b"E", console_log_0=b"D")
    stage(area, b"C", b"B", b"A")
    done = 0
    honest = syscalls.rename_noreplace

    def dies(*arguments: ty.Any) -> None:
        nonlocal done
        if done == renames:
            raise Killed
        done += 1
        honest(*arguments)

    monkeypatch.setattr(syscalls, "rename_noreplace", dies)
    try:
        place(host, area, keep=keep)
    except Killed:
        content = as_nova_reads(host.path / UUID)
        assert content and b"ABCDE".endswith(content)  # unbroken, as far as it goes
    monkeypatch.setattr(syscalls, "rename_noreplace", honest)
    again = staging.Staging(host.directories, UUID)
    assert set(place(host, again, keep=keep)) == {"console.log", "console.log.0", "console.log.1"}
    assert as_nova_reads(host.path / UUID) == b"ABCDE"
    assert len(logs_of(host)) == (5 if keep == 8 else 3)


def test_a_log_that_is_rotated_meanwhile_is_gone_around(
        host: Host, area: staging.Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = host.make(console_log=b"D")
    stage(area, b"B", b"A")
    honest = syscalls.rename_noreplace
    rotated = False

    def rotates_first(*arguments: ty.Any) -> None:
        nonlocal rotated
        if not rotated:
            rotated = True
            os.rename(directory / "console.log", directory / "console.log.0")
            (directory / "console.log").write_bytes(b"E")
        honest(*arguments)

    monkeypatch.setattr(syscalls, "rename_noreplace", rotates_first)
    place(host, area)
    assert as_nova_reads(directory) == b"ABDE"


def test_a_log_that_grew_after_it_was_placed_is_placed_as_it_ended(
        host: Host, area: staging.Staging) -> None:
    host.make(console_log=b"own")
    stage(area, b"first")
    place(host, area)
    stage(area, b"first, and the end")
    placed = place(host, area)
    assert placed == {"console.log": plainly(b"first, and the end")}
    assert b"first, and the end" in logs_of(host).values()


def test_links_in_the_directory_are_not_followed(
        host: Host, area: staging.Staging, tmp_path: pathlib.Path) -> None:
    (tmp_path / "outside").write_bytes(b"precious")
    directory = host.make()
    (directory / "console.log").symlink_to(tmp_path / "outside")
    (directory / "console.log.0").symlink_to(tmp_path / "absent")
    stage(area, b"history")
    place(host, area)
    assert (directory / "console.log.1").read_bytes() == b"history"
    assert (tmp_path / "outside").read_bytes() == b"precious"
    assert not (tmp_path / "absent").exists()


def test_there_and_back_and_there_again_keeps_the_whole_history(tmp_path: pathlib.Path) -> None:
    hosts = [Host(tmp_path / "node1"), Host(tmp_path / "node2")]
    hosts[0].make(console_log=b"boot ")
    told = b"boot "
    for turn in range(1, 13):
        here, there = hosts[(turn + 1) % 2], hosts[turn % 2]
        area = staging.Staging(there.directories, UUID)
        there.make(console_log=b"turn%d " % turn)
        told += b"turn%d " % turn
        with here.pinned() as files, there.pin() as directory:
            area.ensure(files.root, files.entries_inline({}), never, standing=directory)
            console.place_history(directory, area, keep=4, max_bytes=MIB)
        area.drop()
        assert as_nova_reads(there.path / UUID) == told
        assert len(logs_of(there)) <= 5
        for path in (here.path / UUID).iterdir():
            path.unlink()
        (here.path / UUID).rmdir()


def test_no_descriptor_is_left_open(host: Host, area: staging.Staging) -> None:
    host.make(console_log=b"own")
    stage(area, b"B", b"A")
    before = open_descriptors()
    place(host, area)
    assert open_descriptors() == before


def test_a_destination_that_rotates_all_the_time_is_told(
        host: Host, area: staging.Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    host.make()
    stage(area, b"A")

    def taken(*_: ty.Any) -> None:
        raise FileExistsError

    monkeypatch.setattr(syscalls, "rename_noreplace", taken)
    with pytest.raises(errors.DirectoryChanged, match="rotated"):
        place(host, area)
