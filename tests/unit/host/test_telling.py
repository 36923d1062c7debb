# SPDX-License-Identifier: Apache-2.0
"""What of pinned files travels to a peer: inline, as a tail, in chunks."""

import dataclasses
import os
import pathlib
import threading
import time
import zlib

import pytest

from devstack.lab import processes
from rbd_worker import errors
from rpcapi import fields
from tests.unit.host.entries import pulled
from tests.unit.host.test_digest import plainly
from tests.unit.host.trees import (
    LIMITS,
    Host,
    open_descriptors,
)


def limited(tmp_path: pathlib.Path, **changes: int) -> Host:
    return Host(tmp_path / "instances", dataclasses.replace(LIMITS, **changes))


def test_what_the_peer_has_is_not_sent_again(host: Host) -> None:
    host.make(console_log=b"log", disk_info=b"{}")
    with host.pinned() as files:
        known = {"console.log": plainly(b"log"), "disk.info": plainly(b"something else")}
        inline = {e.path: e.inline for e in files.entries_inline(known)}
    assert inline["console.log"] is None
    assert inline["disk.info"] is not None and zlib.decompress(inline["disk.info"]) == b"{}"


def test_of_a_log_that_grew_only_the_tail_is_sent(host: Host) -> None:
    directory = host.make(console_log=b"a" * 1000)
    with host.pinned() as files:
        (told,) = files.entries_inline({})
        with (directory / "console.log").open("ab") as log:
            log.write(b"tail")
        files.refresh()
        (entry,) = files.entries_inline({"console.log": told.digest})
        assert (entry.inline_from, entry.size) == (1000, 1004)
        assert entry.inline is not None and zlib.decompress(entry.inline) == b"tail"


def test_of_a_file_that_was_rewritten_the_whole_is_sent(host: Host) -> None:
    directory = host.make(console_log=b"a" * 1000)
    with host.pinned() as files:
        (told,) = files.entries_inline({})
        (directory / "console.log").write_bytes(b"b" * 2000)
        files.refresh()
        (entry,) = files.entries_inline({"console.log": told.digest})
        assert entry.inline_from == 0
        assert entry.inline is not None and zlib.decompress(entry.inline) == b"b" * 2000


def test_the_smallest_files_travel_inline_as_far_as_there_is_room(tmp_path: pathlib.Path) -> None:
    host = limited(tmp_path, inline_bytes=1000)
    host.make(large=b"l" * 900, small=b"s" * 300, middle=b"m" * 600)
    with host.pinned() as files:
        inline = {e.path for e in files.entries_inline({}) if e.inline is not None}
    assert inline == {"small", "middle"}


def test_a_large_file_is_pulled_in_chunks_that_are_bounded(host: Host) -> None:
    content = os.urandom(3_500_000)
    host.make(disk=content)
    with host.pinned() as files:
        (entry,) = files.entries
        first = files.read_chunk("disk", 0)
        assert len(zlib.decompress(first.data)) == fields.CHUNK_BYTES
        assert pulled(files, entry) == content


def test_holes_are_not_sent(host: Host) -> None:
    path = host.make(disk=b"") / "disk"
    with path.open("r+b") as file:
        file.truncate(1 << 40)
        for offset in (0, 1 << 35, (1 << 40) - 5):
            file.seek(offset)
            file.write(b"data!")
    with host.pinned() as files:
        offset, found, count = 0, [], 0
        while offset < 1 << 40:
            chunk = files.read_chunk("disk", offset)
            data = zlib.decompress(chunk.data)
            if b"data!" in data:
                found.append(chunk.offset + data.index(b"data!"))
            offset, count = chunk.next, count + 1
    assert found == [0, 1 << 35, (1 << 40) - 5]
    assert count <= 6


def test_a_file_that_begins_with_a_hole_can_be_pulled(host: Host) -> None:
    path = host.make(disk=b"") / "disk"
    with path.open("r+b") as file:
        file.seek(3 << 20)
        file.write(b"end")
    with host.pinned() as files:
        first = files.read_chunk("disk", 0)
        assert (zlib.decompress(first.data), first.next) == (b"", 3 << 20)
        assert pulled(files, files.entries[0]) == path.read_bytes()


@pytest.mark.parametrize(("path", "offset"), [
    ("nothing", 0), ("disk", 4), ("disk", -1), ("disk", 1 << 50), ("sub", 0), ("../x", 0),
    ("/etc/passwd", 0), ("empty", 0)])
def test_other_paths_and_offsets_are_refused(host: Host, path: str, offset: int) -> None:
    (host.make(disk=b"data", empty=b"") / "sub").mkdir()
    with host.pinned() as files, pytest.raises(errors.BadInput):
        files.read_chunk(path, offset)


def test_after_close_nothing_is_read(host: Host) -> None:
    host.make(disk=b"data")
    files = host.pinned()
    files.close()
    files.close()
    with pytest.raises(errors.BadInput, match="not pinned any more"):
        files.read_chunk("disk", 0)


def test_reading_refreshing_and_closing_get_along_in_threads(host: Host) -> None:
    directory = host.make(disk=b"0" * 200_000)
    before = open_descriptors()
    files = host.pinned()
    wrong: list[str] = []

    def read() -> None:
        try:
            while True:
                data = zlib.decompress(files.read_chunk("disk", 0).data)
                if len(set(data)) != 1:
                    wrong.append("mixed content")
        except errors.BadInput:
            pass
        except Exception as e:
            wrong.append(repr(e))

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(40):
        (directory / "new").write_bytes(b"%d" % (number % 10) * 200_000)
        os.rename(directory / "new", directory / "disk")
        files.refresh()
    files.close()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert open_descriptors() == before


def test_pinning_an_ordinary_directory_takes_less_than_10_ms(host: Host) -> None:
    host.make(console_log=b"a line of a kernel's log\n" * 42_000, disk_config=os.urandom(65536))
    times = []
    for _ in range(5):
        began = time.thread_time()
        host.pinned().close()
        times.append(time.thread_time() - began)
    assert min(times) < processes.patience(0.01)
