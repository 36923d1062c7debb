# SPDX-License-Identifier: Apache-2.0
"""Entries as an honest peer sends them, and a fetch that counts."""

import os
import pathlib
import typing as ty
import zlib

import msgspec

from rbd_worker.host import receiving, staging, walk
from rpcapi.payloads import Chunk, FileEntry
from tests.unit.host.test_digest import plainly
from tests.unit.host.trees import UUID, Host, never


class Pull:
    """A fetch from pinned files that counts."""

    def __init__(self, files: walk.PinnedFiles) -> None:
        self.files = files
        self.asked: list[tuple[str, int]] = []

    def __call__(self, entry: FileEntry, offset: int) -> Chunk:
        self.asked.append((entry.path, offset))
        return self.files.read_chunk(entry.path, offset)


def entry_of(path: str, content: bytes, **changes: ty.Any) -> FileEntry:
    """A file's entry as an honest peer sends it, inline."""
    made = FileEntry(path=path, kind="file", size=len(content), mode=0o644, uid=os.geteuid(),
                     gid=os.getegid(), mtime_ns=1_600_000_000_000_000_000,
                     digest=plainly(content), inline=zlib.compress(content))
    return msgspec.structs.replace(made, **changes)


def directory_of(path: str, **changes: ty.Any) -> FileEntry:
    made = FileEntry(path=path, kind="directory", mode=0o755, uid=os.geteuid(),
                     gid=os.getegid(), mtime_ns=1_600_000_000_000_000_000)
    return msgspec.structs.replace(made, **changes)


ROOT = directory_of(".")


def staged(destination: Host) -> pathlib.Path:
    return destination.path / ".rbd-worker" / "staging" / UUID


def digests(files: walk.PinnedFiles) -> dict[str, str]:
    return {entry.path: entry.digest for entry in files.entries}


def pulled(files: walk.PinnedFiles, entry: FileEntry) -> bytes:
    """The whole content, as a peer puts it together."""
    content = bytearray(entry.size)
    offset = 0
    while offset < entry.size:
        chunk = files.read_chunk(entry.path, offset)
        data = zlib.decompress(chunk.data)
        content[chunk.offset:chunk.offset + len(data)] = data
        assert chunk.next > offset
        offset = chunk.next
    return bytes(content)


def moved(source: Host, area: staging.Staging, fetch: receiving.Fetch = never) -> None:
    with source.pinned() as files:
        area.ensure(files.root, files.entries_inline({}), fetch)
        area.promote()
