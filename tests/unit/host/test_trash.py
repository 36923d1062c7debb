# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import re
import threading
import time
import typing as ty

import pytest

from rbd_worker import errors
from rbd_worker.host import instances, syscalls, trash
from rbd_worker.model import Evidence, Verdict
from tests.unit.host.trees import (
    DAY,
    NOBODY,
    OTHER,
    UUID,
    Clock,
    Host,
    as_nobody,
    evidence,
    in_trash,
    meanwhile,
    needs_root,
    open_descriptors,
    small_disk,
    snapshot,
    take,
    world_readable,
)

# -- taking ------------------------------------------------------------------


def test_a_proven_directory_is_in_the_trash_as_it_was(host: Host, bin_: trash.Trash) -> None:
    directory = host.make(console_log=b"log", disk_info=b"{}")
    before = snapshot(directory)
    item = take(host, bin_)
    assert not directory.exists()
    assert re.fullmatch(rf"{UUID}\.20231114T221320\.[0-9a-f]{{6}}", item.id)
    moved = host.path / ".rbd-worker" / "trash" / item.id / "directory"
    assert snapshot(moved) == before


@pytest.mark.parametrize("verdict", [Verdict.NO, Verdict.UNKNOWN])
def test_a_doubt_keeps_the_directory(host: Host, bin_: trash.Trash, verdict: Verdict) -> None:
    directory = host.make(console_log=b"log")
    with host.pin() as pinned, pytest.raises(errors.NotProven, match="path speaks"):
        bin_.take(pinned, evidence(verdict=verdict), "m")
    assert directory.exists() and bin_.list() == []


def test_a_missing_witness_keeps_the_directory(host: Host, bin_: trash.Trash) -> None:
    directory = host.make()
    lacking = Evidence(UUID, evidence().facts[1:])
    with host.pin() as pinned, pytest.raises(errors.NotProven, match="libvirt here"):
        bin_.take(pinned, lacking, "m")
    assert directory.exists()


def test_evidence_of_another_instance_proves_nothing(host: Host, bin_: trash.Trash) -> None:
    directory = host.make()
    with host.pin() as pinned, pytest.raises(errors.NotProven):
        bin_.take(pinned, evidence(OTHER), "m")
    assert directory.exists()


def test_a_directory_that_took_the_name_since_it_was_judged_stays(
        host: Host, bin_: trash.Trash) -> None:
    host.make(console_log=b"judged")
    with host.pin() as pinned:
        os.rename(host.path / UUID, host.path / f"{UUID}_del")
        before = host.make(console_log=b"another").stat()
        with pytest.raises(errors.DirectoryChanged):
            bin_.take(pinned, evidence(), "m")
    assert (host.path / UUID).stat().st_ctime_ns == before.st_ctime_ns  # it was never moved
    assert (host.path / UUID / "console.log").read_bytes() == b"another"
    assert in_trash(host) == []


def test_a_name_that_is_gone_or_a_link_is_not_taken(host: Host, bin_: trash.Trash) -> None:
    host.make()
    with host.pin() as pinned:
        os.rename(host.path / UUID, host.path / OTHER)
        with pytest.raises(errors.DirectoryChanged):
            bin_.take(pinned, evidence(), "m")
        (host.path / UUID).symlink_to(OTHER)
        with pytest.raises(errors.DirectoryChanged):
            bin_.take(pinned, evidence(), "m")
    assert os.readlink(host.path / UUID) == OTHER
    assert in_trash(host) == []


def test_a_directory_that_cannot_be_put_back_can_be_restored_by_hand(
        host: Host, bin_: trash.Trash, monkeypatch: pytest.MonkeyPatch) -> None:
    host.make(console_log=b"judged")
    honest = syscalls.rename_noreplace
    calls: list[str] = []

    def swapped_around(name: str, *others: ty.Any) -> None:
        calls.append(name)
        if len(calls) == 1:  # the rename into the trash
            os.rename(host.path / UUID, host.path / "aside")
            host.make(console_log=b"swapped in")
            honest(name, *others)
            host.make(console_log=b"a third one")
        else:
            honest(name, *others)

    monkeypatch.setattr(syscalls, "rename_noreplace", swapped_around)
    with host.pin() as pinned, pytest.raises(errors.DirectoryChanged, match="swapped twice"):
        bin_.take(pinned, evidence(), "m")
    assert (host.path / UUID / "console.log").read_bytes() == b"a third one"
    (item,) = bin_.list()
    assert item.migration == "m"
    os.rename(host.path / UUID, host.path / "third")
    bin_.restore(item.id)
    assert (host.path / UUID / "console.log").read_bytes() == b"swapped in"


def test_whoever_swaps_directories_meanwhile_loses_none(
        host: Host, bin_: trash.Trash, tmp_path: pathlib.Path) -> None:
    another = tmp_path / "another"
    ends = set()

    def swap() -> None:
        base = os.open(host.path, os.O_RDONLY)
        try:
            syscalls.exchange(UUID, base, str(another), base)
        finally:
            os.close(base)

    for turn in range(60):
        host.make(console_log=b"judged")
        another.mkdir()
        (another / "mark").write_bytes(b"never judged")
        with host.pin() as pinned, meanwhile(swap):
            time.sleep(0.001)
            try:
                item = bin_.take(pinned, evidence(), "m")
                where = host.path / ".rbd-worker" / "trash" / item.id / "directory"
                assert [p.name for p in where.iterdir()] == ["console.log"]
                ends.add("taken")
            except errors.DirectoryChanged:
                ends.add("put back or left")
        for path in (host.path / UUID, another):
            if path.exists():
                os.rename(path, tmp_path / f"seen-{turn}-{path.name}")
        found = list(tmp_path.glob(f"seen-{turn}-*/mark"))
        assert len(found) == 1, "the directory that was never judged is lost"
    assert "put back or left" in ends


def test_two_threads_take_a_directory_once(host: Host, bin_: trash.Trash) -> None:
    host.make(console_log=b"log")
    ends: list[str] = []

    def run() -> None:
        try:
            with host.pin() as pinned:
                barrier.wait()
                bin_.take(pinned, evidence(), "m")
            ends.append("taken")
        except errors.DirectoryChanged:
            ends.append("changed")

    barrier = threading.Barrier(2)
    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["changed", "taken"]
    assert len(bin_.list()) == 1 and len(in_trash(host)) == 1


def test_no_descriptor_is_left_open(host: Host, bin_: trash.Trash) -> None:
    host.make()
    before = open_descriptors()
    take(host, bin_)
    bin_.list()
    bin_.purge()
    assert open_descriptors() == before


# -- listing and restoring ---------------------------------------------------


def test_the_list_says_what_when_why_and_how_large(
        host: Host, bin_: trash.Trash, clock: Clock) -> None:
    host.make(disk_info=b"x" * 5000)
    first = take(host, bin_)
    clock.now += 60
    host.make(OTHER)
    take(host, bin_, OTHER)
    again = trash.Trash(host.directories, 7 * DAY, clock)  # as after a restart
    newest, oldest = again.list()
    assert (newest.instance, oldest.instance) == (OTHER, UUID)
    assert (oldest.id, oldest.at, oldest.migration) == (first.id, 1_700_000_000.0, "migration-1")
    assert oldest.reason == "libvirt here agrees; holder agrees; watchers agrees; path speaks"
    assert 5000 <= oldest.bytes <= 8192


def test_an_item_without_a_readable_record_is_listed_all_the_same(
        host: Host, bin_: trash.Trash) -> None:
    host.make()
    item = take(host, bin_)
    (host.path / ".rbd-worker" / "trash" / item.id / "record.json").write_bytes(b"{torn")
    (found,) = bin_.list()
    assert (found.id, found.instance, found.at) == (item.id, UUID, 1_700_000_000.0)


def test_a_restored_directory_is_as_it_was(host: Host, bin_: trash.Trash) -> None:
    before = snapshot(host.make(console_log=b"log"))
    item = take(host, bin_)
    bin_.restore(item.id)
    assert snapshot(host.path / UUID) == before
    assert in_trash(host) == []


def test_restoring_never_overwrites(host: Host, bin_: trash.Trash) -> None:
    host.make(console_log=b"old")
    item = take(host, bin_)
    host.make()  # even an empty one
    with pytest.raises(errors.DirectoryExists):
        bin_.restore(item.id)
    assert list((host.path / UUID).iterdir()) == []
    assert [i.id for i in bin_.list()] == [item.id]


@pytest.mark.parametrize("item_id", ["", "..", "../..", UUID, f"{UUID}.20231114T221320.abcdef",
                                     f"../{UUID}.20231114T221320.abcdef", "a\0b",
                                     f"{UUID}.20231114T221320.abcdef/directory"])
def test_only_an_item_that_is_there_can_be_restored(
        host: Host, bin_: trash.Trash, item_id: str) -> None:
    host.make(OTHER)
    take(host, bin_, OTHER)
    with pytest.raises(errors.BadInput):
        bin_.restore(item_id)


@needs_root
def test_a_directory_that_is_a_mount_of_its_own_stays(
        host: Host, bin_: trash.Trash) -> None:
    with small_disk(host.path / UUID, "1m"):
        (host.path / UUID / "file").write_bytes(b"x")
        with host.pin() as pinned, pytest.raises(errors.Error):
            bin_.take(pinned, evidence(), "m")
        assert (host.path / UUID / "file").read_bytes() == b"x"
        assert in_trash(host) == []


def test_the_record_is_on_disk_before_the_directory_moves(
        host: Host, bin_: trash.Trash, tmp_path: pathlib.Path) -> None:
    """Where the rename cannot be done, the record was written and is taken back."""
    seen: list[bool] = []

    class Watched(instances.PinnedDirectory):
        @property
        def identity(self) -> syscalls.Identity:
            records = list((host.path / ".rbd-worker" / "trash").glob("*/record.json"))
            seen.append(bool(records) and (host.path / UUID).exists())
            return super().identity

    host.make()
    with host.pin() as pinned:
        watched = Watched(str(host.path), UUID, os.dup(pinned.fd))
    with watched:
        bin_.take(watched, evidence(), "m")
    assert seen and seen[0]


@needs_root
def test_an_item_that_cannot_be_read_hides_no_other() -> None:
    with world_readable() as place:
        host = Host(place / "instances")
        bin_ = trash.Trash(host.directories, DAY)
        for instance in (UUID, OTHER):
            host.make(instance, console_log=b"log")
        area = host.path / ".rbd-worker" / "trash"
        legible, closed = take(host, bin_, OTHER).id, take(host, bin_, UUID).id
        for path in (host.path, area.parent, area, area / legible,
                     area / legible / "record.json"):
            os.chown(path, NOBODY, NOBODY)
        seen = as_nobody(lambda: {item.id: item.doubt for item in bin_.list()})
        assert seen == {legible: "", closed: "it cannot be read (Permission denied): nobody can "
                                             "tell what is in it"}
