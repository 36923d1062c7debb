# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import time
import zlib

import msgspec
import pytest

from devstack.lab import processes
from rbd_worker import errors
from rbd_worker.host import staging
from rpcapi.payloads import Chunk, FileEntry
from tests.unit.host.entries import ROOT, Pull, directory_of, entry_of, moved, staged
from tests.unit.host.test_digest import plainly
from tests.unit.host.trees import UUID, Host, never, open_descriptors, snapshot


def make_rich(source: Host) -> pathlib.Path:
    """A directory with all that is carried: modes, times, holes, nesting, empty files."""
    directory = source.make(disk_info=b"{}", empty=b"")
    (directory / "sub" / "deep").mkdir(parents=True)
    (directory / "sub" / "deep" / "kernel").write_bytes(os.urandom(150_000))
    with (directory / "sparse").open("wb") as file:
        file.truncate(50 << 20)
        file.seek(20 << 20)
        file.write(b"data" * 3000)
    (directory / "disk.info").chmod(0o600)
    (directory / "sub").chmod(0o711)
    for number, name in enumerate(("sub/deep/kernel", "sparse", "sub/deep", "sub", ".")):
        os.utime(directory / name, ns=(5, 1_500_000_000_123_456_789 + number))
    return directory


def test_a_directory_arrives_as_it_was(
        source: Host, destination: Host, area: staging.Staging) -> None:
    directory = make_rich(source)
    with source.pinned() as files:
        pull = Pull(files)
        area.ensure(files.root, files.entries_inline({}), pull)
        area.promote()
    assert snapshot(destination.path / UUID) == snapshot(directory)
    assert {path for path, _ in pull.asked} == {"sparse"}
    assert (destination.path / UUID / "sparse").stat().st_blocks * 512 < 100_000


def test_ensure_tells_the_digest_of_every_file(source: Host, area: staging.Staging) -> None:
    source.make(disk_info=b"{}", console_log=b"log")
    with source.pinned() as files:
        told = area.ensure(files.root, files.entries_inline({}), never)
    assert told == {"disk.info": plainly(b"{}"), "console.log": plainly(b"log")}


def test_zeros_that_were_written_become_holes(
        source: Host, destination: Host, area: staging.Staging) -> None:
    source.make(disk=b"\0" * (1 << 20) + b"x" + b"\0" * (1 << 20))
    moved(source, area)
    disk = destination.path / UUID / "disk"
    assert disk.read_bytes() == (source.path / UUID / "disk").read_bytes()
    assert disk.stat().st_blocks * 512 <= 8192


def test_a_file_of_1_tib_of_nothing_needs_no_transfer(
        source: Host, destination: Host, area: staging.Staging) -> None:
    os.truncate(source.make(disk=b"") / "disk", 1 << 40)
    moved(source, area)
    assert (destination.path / UUID / "disk").stat().st_size == 1 << 40


def test_a_repeat_transfers_nothing(source: Host, area: staging.Staging) -> None:
    make_rich(source)
    with source.pinned() as files:
        pull = Pull(files)
        area.ensure(files.root, files.entries_inline({}), pull)
        assert pull.asked
        without = tuple(msgspec.structs.replace(e, inline=None, inline_from=0)
                        for e in files.entries)
        area.ensure(files.root, without, never)


def test_what_a_killed_attempt_staged_is_used_and_its_rest_is_not(
        source: Host, destination: Host, area: staging.Staging) -> None:
    first, second = os.urandom(2_000_000), os.urandom(2_000_000)
    source.make(first=first, second=second)
    with source.pinned() as files:
        pull = Pull(files)

        def dies(entry: FileEntry, offset: int) -> Chunk:
            if entry.path == "second" and offset:
                raise errors.PeerUnreachable(host="source", reason="test")
            return pull(entry, offset)

        with pytest.raises(errors.PeerUnreachable):
            area.ensure(files.root, files.entries, dies)
        (staged(destination) / "part").write_bytes(b"as a kill leaves it")
        pull.asked.clear()
        area.ensure(files.root, files.entries, pull)
    assert {path for path, _ in pull.asked} == {"second"}
    assert not (staged(destination) / "part").exists()
    assert (staged(destination) / "tree" / "second").read_bytes() == second


def test_of_a_log_that_grew_only_the_tail_has_to_come(
        source: Host, destination: Host, area: staging.Staging) -> None:
    log = source.make(console_log=b"a" * 100_000) / "console.log"
    with source.pinned() as files:
        told = area.ensure(files.root, files.entries_inline({}), never)
        with log.open("ab") as writer:
            writer.write(b"the end")
        files.refresh()
        area.ensure(files.root, files.entries_inline(told), never)
    assert (staged(destination) / "console" / "console.log").read_bytes() == log.read_bytes()


def test_where_the_beginning_is_lost_the_whole_is_pulled(
        source: Host, destination: Host, area: staging.Staging) -> None:
    log = source.make(console_log=b"a" * 1000) / "console.log"
    with source.pinned() as files:
        told = area.ensure(files.root, files.entries_inline({}), never)
        with log.open("ab") as writer:
            writer.write(b"the end")
        files.refresh()
        (staged(destination) / "console" / "console.log").write_bytes(b"b" * 1000)
        area.ensure(files.root, files.entries_inline(told), Pull(files))
    assert (staged(destination) / "console" / "console.log").read_bytes() == log.read_bytes()


def test_what_stands_at_the_destination_is_not_asked_for(
        source: Host, destination: Host, area: staging.Staging) -> None:
    source.make(disk_info=b"{}", grown=b"begin, end")
    destination.make(disk_info=b"{}", grown=b"begin")
    with source.pinned() as files, destination.pin() as standing:
        tail = {"inline": zlib.compress(b", end"), "inline_from": 5}
        entries = tuple(msgspec.structs.replace(e, **tail) if e.path == "grown" else e
                        for e in files.entries)
        told = area.ensure(files.root, entries, never, standing=standing)
    assert told["grown"] == plainly(b"begin, end")
    assert (staged(destination) / "tree" / "grown").read_bytes() == b"begin, end"
    assert not (staged(destination) / "tree" / "disk.info").exists()


def test_a_console_log_is_staged_although_one_stands_there(
        source: Host, destination: Host, area: staging.Staging) -> None:
    source.make(console_log=b"same")
    destination.make(console_log=b"same")
    with source.pinned() as files, destination.pin() as standing:
        area.ensure(files.root, files.entries_inline({}), never, standing=standing)
    assert (staged(destination) / "console" / "console.log").read_bytes() == b"same"


def test_keep_only_removes_what_is_not_named_any_more(
        destination: Host, area: staging.Staging) -> None:
    area.ensure(ROOT, (directory_of("sub"), entry_of("sub/a", b"a"), entry_of("b", b"b"),
                       entry_of("console.log", b"c"), entry_of("console.log.0", b"d")), never)
    area.keep_only({"b", "console.log"})
    assert sorted(p.name for p in staged(destination).rglob("*") if p.is_file()
                  and p.suffix != ".json") == ["b", "console.log"]
    assert {entry.path for entry in area.entries()} == {"b", "console.log"}


def test_the_list_of_files_survives_a_restart_without_their_content(
        destination: Host, area: staging.Staging) -> None:
    area.ensure(ROOT, (entry_of("a", b"content"),), never)
    (entry,) = staging.Staging(destination.directories, UUID).entries()
    assert (entry.path, entry.digest, entry.inline) == ("a", plainly(b"content"), None)


def test_dropping_leaves_nothing_and_can_be_repeated(
        source: Host, destination: Host, area: staging.Staging) -> None:
    make_rich(source)
    with source.pinned() as files:
        area.ensure(files.root, files.entries_inline({}), Pull(files))
    area.sync()
    area.drop()
    area.drop()
    assert list((destination.path / ".rbd-worker" / "staging").iterdir()) == []


def test_no_descriptor_is_left_open(source: Host, destination: Host) -> None:
    make_rich(source)
    before = open_descriptors()
    area = staging.Staging(destination.directories, UUID)
    with source.pinned() as files:
        area.ensure(files.root, files.entries_inline({}), Pull(files))
        area.sync()
        area.promote()
    with pytest.raises(errors.BadInput):
        area.ensure(ROOT, (entry_of("a", b"x", inline=b"garbage"),), never)
    area.drop()
    assert open_descriptors() == before


def test_staging_an_ordinary_directory_takes_less_than_10_ms(
        source: Host, destination: Host) -> None:
    source.make(console_log=b"a line of a kernel's log\n" * 42_000, disk_config=os.urandom(65536))
    times = []
    with source.pinned() as files:
        entries = files.entries_inline({})
        for _ in range(5):
            area = staging.Staging(destination.directories, UUID)
            area.drop()
            began = time.thread_time()
            area.ensure(files.root, entries, never)
            times.append(time.thread_time() - began)
    assert min(times) < processes.patience(0.01)
