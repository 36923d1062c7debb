# SPDX-License-Identifier: Apache-2.0
"""What a peer may not do to this host's disk."""

import dataclasses
import os
import pathlib
import time
import tracemalloc
import typing as ty
import zlib

import pytest

from rbd_worker import errors
from rbd_worker.host import arrivals, read_ahead, staging
from rpcapi.payloads import Chunk, FileEntry
from tests.unit.host.entries import ROOT, directory_of, entry_of, staged
from tests.unit.host.trees import (
    LIMITS,
    UUID,
    Host,
    needs_root,
    never,
)


@pytest.mark.parametrize("path", [
    "../x", "/etc/cron.d/x", "a/../../x", ".", "..", "", "a//b", "a/", "./a", "a/./b", "a\0b",
    "\udcff", "n" * 256, "missing/file"])
def test_a_path_that_is_not_canonical_or_has_no_directory_is_refused(
        destination: Host, area: staging.Staging, path: str) -> None:
    with pytest.raises(errors.BadInput):
        area.ensure(ROOT, (entry_of(path, b"x"),), never)
    assert [p.name for p in destination.path.rglob("*") if p.is_file()] == []


def test_a_path_below_a_file_and_a_path_twice_are_refused(area: staging.Staging) -> None:
    with pytest.raises(errors.BadInput):
        area.ensure(ROOT, (entry_of("a", b"x"), entry_of("a/b", b"x")), never)
    with pytest.raises(errors.BadInput, match="twice"):
        area.ensure(ROOT, (entry_of("a", b"x"), directory_of("a")), never)


def test_a_list_beyond_this_hosts_limits_is_refused(tmp_path: pathlib.Path) -> None:
    limits = dataclasses.replace(LIMITS, max_files=2, max_depth=1, max_file_bytes=1000)
    area = staging.Staging(Host(tmp_path / "small", limits).directories, UUID)
    many = tuple(entry_of(name, b"") for name in "abc")
    deep = (directory_of("a"), directory_of("a/b"))
    for entries, option in ((many, "max_files"), ((*deep, entry_of("a/b/c", b"")), "max_files"),
                            ((entry_of("large", b"x" * 1001),), "max_file_gib")):
        with pytest.raises(errors.DirectoryTooLarge) as caught:
            area.ensure(ROOT, entries, never)
        assert option in caught.value.sentence
    limits = dataclasses.replace(LIMITS, max_depth=1)
    area = staging.Staging(Host(tmp_path / "small", limits).directories, UUID)
    with pytest.raises(errors.DirectoryTooLarge, match="deeper"):
        area.ensure(ROOT, (*deep, directory_of("a/b/c")), never)


def test_content_with_another_digest_is_refused_and_gone(
        destination: Host, area: staging.Staging) -> None:
    forged = entry_of("disk", b"honest", inline=zlib.compress(b"forged"))
    with pytest.raises(errors.DigestMismatch):
        area.ensure(ROOT, (forged,), never)
    assert [p.name for p in staged(destination).rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("inline", [
    b"", b"garbage", zlib.compress(b"12345")[:-3], zlib.compress(b"123456"),
    zlib.compress(b"\0" * (64 << 20))])
def test_inline_content_that_is_damaged_or_too_long_is_refused(
        area: staging.Staging, inline: bytes) -> None:
    with pytest.raises(errors.BadInput):
        area.ensure(ROOT, (entry_of("disk", b"12345", inline=inline),), never)


def test_content_that_would_fill_the_memory_is_never_unpacked_whole() -> None:
    bomb = zlib.compress(b"\0" * (64 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(errors.BadInput, match="longer than announced"):
            arrivals.unzipped(bomb, 1000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_more_inline_content_than_any_peer_may_send_is_refused(area: staging.Staging) -> None:
    entry = entry_of("disk", b"x", size=17 << 20)
    with pytest.raises(errors.BadInput, match="too much content"):
        area.ensure(ROOT, (entry,), never)


CONTENT = b"0123456789" * 100


@pytest.mark.parametrize("lie", [
    lambda offset: Chunk(offset=offset + 1, data=zlib.compress(b"x"), next=offset + 2),
    lambda offset: Chunk(offset=0, data=zlib.compress(CONTENT[:10]), next=10),
    lambda offset: Chunk(offset=offset, data=zlib.compress(b""), next=offset),
    lambda offset: Chunk(offset=offset, data=zlib.compress(b"xxx"), next=offset + 1),
    lambda offset: Chunk(offset=offset, data=zlib.compress(b"x"), next=len(CONTENT) + 1),
    lambda offset: Chunk(offset=offset, data=zlib.compress(b"x" * 2000), next=len(CONTENT)),
    lambda offset: Chunk(offset=offset, data=zlib.compress(b"\0" * (64 << 20)), next=10),
    lambda offset: Chunk(offset=offset, data=b"garbage", next=len(CONTENT)),
])
def test_a_chunk_that_lies_or_never_advances_is_refused(
        destination: Host, area: staging.Staging, lie: ty.Callable[[int], Chunk]) -> None:
    asked: list[int] = []

    def fetch(_: FileEntry, offset: int) -> Chunk:
        asked.append(offset)
        assert len(asked) < 5
        return lie(offset)

    with pytest.raises(errors.BadInput):
        area.ensure(ROOT, (entry_of("disk", CONTENT, inline=None),), fetch)
    assert [p.name for p in staged(destination).rglob("*") if p.is_file()] == []


def test_more_data_than_this_host_takes_is_refused_while_it_arrives(
        tmp_path: pathlib.Path) -> None:
    limits = dataclasses.replace(LIMITS, max_data_bytes=3 << 20)
    area = staging.Staging(Host(tmp_path / "small", limits).directories, UUID)
    piece = os.urandom(1 << 20)

    def endless(_: FileEntry, offset: int) -> Chunk:
        return Chunk(offset=offset, data=zlib.compress(piece, 0), next=offset + (1 << 20))

    with pytest.raises(errors.DirectoryTooLarge) as caught:
        area.ensure(ROOT, (entry_of("disk", b"", size=1 << 40, inline=None),), endless)
    assert "max_data_gib" in caught.value.sentence


@needs_root
def test_a_peer_cannot_plant_a_program_that_runs_as_somebody_else(
        destination: Host, area: staging.Staging) -> None:
    area.ensure(ROOT, (entry_of("su", b"x", mode=0o6755, uid=0, owner="root"),), never)
    assert oct((staged(destination) / "tree" / "su").stat().st_mode) == "0o100755"




def test_a_file_that_comes_in_crumbs_is_given_up(area: staging.Staging) -> None:
    asked: list[int] = []

    def crumb(_: FileEntry, offset: int) -> Chunk:
        asked.append(offset)
        return Chunk(offset=offset, data=zlib.compress(b"x"), next=offset + 1)

    with pytest.raises(errors.BadInput, match="crumbs"):
        area.ensure(ROOT, (entry_of("disk", b"", size=100 << 20, inline=None),), crumb)
    assert len(asked) < 300


def test_a_peer_that_answers_one_piece_a_minute_keeps_a_thread_for_an_hour_only(
        area: staging.Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    piece = zlib.compress(os.urandom(1 << 20), 0)

    def slow(_: FileEntry, offset: int) -> Chunk:
        now[0] += 59
        return Chunk(offset=offset, data=piece, next=offset + (1 << 20))

    with pytest.raises(errors.CopyTooSlow):
        area.ensure(ROOT, (entry_of("disk", b"", size=1 << 40, inline=None),), slow)
    assert now[0] < 1000 + 3600 + 60 * (2 * read_ahead.DEPTH + 1)
