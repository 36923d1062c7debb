# SPDX-License-Identifier: Apache-2.0
"""A hostile source's files on a real directory in memory, beside files that must stay.

An input of ``entries`` is the JSON list of entries; of ``chunks`` a file's
size and the answers to the questions for its pieces; of ``records`` the
content of the small files in the worker's own area, as a power failure may
leave them.
"""

import contextlib
import itertools
import json
import logging

import msgspec

from rbd_worker import errors
from rbd_worker.host import console, instances, staging
from rpcapi import fields, payloads
from tests.fuzz import oracle
from tests.fuzz.targets import Target, shapes

_GUEST = "a05482ec-d71a-48c7-bf99-94d829b20aef"
_LIMITS = instances.Limits(max_files=64, max_depth=4, max_data_bytes=1 << 20,
                           max_file_bytes=1 << 24, inline_bytes=1 << 20)
#: What the destination's directory has already; nothing of it may be lost.
_STANDING = {"console.log": b"boots here\n", "console.log.0": b"before\n", "disk.info": b"own",
             "libvirt.xml": b"<domain/>"}
_ROOT = shapes.directory(".")


class _Disk:
    """An instances_path with one guest's directory, made anew for each input."""

    def __init__(self) -> None:
        logging.disable(logging.CRITICAL)
        self.box = oracle.Sandbox()
        self.path = self.box.inside / "instances"
        self.directories = instances.Instances(str(self.path), _LIMITS)
        self.area = staging.Staging(self.directories, _GUEST)

    def prepare(self) -> None:
        self.box.emptied()
        directory = self.path / _GUEST
        directory.mkdir(parents=True)
        for name, content in _STANDING.items():
            (directory / name).write_bytes(content)
        (directory / "link").symlink_to(self.box.root / "outside")
        (directory / "file-link").symlink_to(self.box.root / "outside" / "file")

    def check(self) -> None:
        self.box.check()
        directory = self.path / _GUEST
        lost = [name for name, content in _STANDING.items()
                if (directory / name).read_bytes() != content]
        oracle.require(not lost, f"what stood there is gone: {lost}")
        oracle.require(sorted(p.name for p in self.path.iterdir()) in (
            [_GUEST], [".rbd-worker", _GUEST]), "something else is in instances_path")
        for path in directory.rglob("*"):
            oracle.require(path.is_symlink() or path.is_file() or path.is_dir(),
                           "a special file was made")
            oracle.require(not path.lstat().st_mode & 0o6000 or not path.is_file(),
                           "a program that runs as somebody else was planted")

    def receive(self, root: payloads.FileEntry, entries: tuple[payloads.FileEntry, ...],
                fetch: staging.Fetch) -> None:
        """As ``ensure_files_placed`` does."""
        standing = self.directories.pin(_GUEST)
        assert standing is not None
        with standing:
            self.area.ensure(root, entries, fetch, standing)
            self.area.keep_only({entry.path for entry in entries})
            self.area.sync()
            self.area.place(standing, entries, {})
            console.place_history(standing, self.area, keep=4, max_bytes=1 << 16)
        self.area.drop()


def entries() -> Target:
    """Lists of files: names, kinds, sizes, digests, compressed contents."""
    disk = _Disk()
    links = (shapes.directory("link"), shapes.file("link/file", b"x"))
    seeds = [shapes.HONEST, links, (shapes.file("file-link", b"x"),),
             (shapes.file("console.log.999999", b"x"),), (shapes.file("a\nb", b"x", mode=0o4755),),
             (shapes.file("tail", b"boots here\n", inline_from=5),)]

    def one(data: bytes) -> None:
        made = _entries(data)
        if made is not None:
            disk.prepare()
            oracle.outcome_of(lambda: disk.receive(_ROOT, made, _nothing))
            disk.check()
    return Target(one, tuple(_json(each) for each in seeds), shapes.WORDS, 4096, is_json=True)


def chunks() -> Target:
    """Answers of a source that is asked for a file piece by piece."""
    disk = _Disk()
    honest = [[0, "eJxLBAAAYgBi", 1], [1, "", 3], [0, "eJwDAAAAAAE=", 0], [1 << 50, "AA==", 1]]
    seeds = [[9, [honest[0]]], [3, honest[:2]], [1 << 23, honest]]

    def one(data: bytes) -> None:
        asked = _asked(data)
        if asked is not None:
            entry, pieces = asked
            disk.prepare()
            source = itertools.cycle(pieces)
            oracle.outcome_of(
                lambda: disk.receive(_ROOT, (entry,), lambda _entry, _offset: next(source)))
            disk.check()
    return Target(one, tuple(json.dumps(each).encode() for each in seeds), shapes.WORDS, 1024,
                  is_json=True)


def records() -> Target:
    """The area's own records after a power failure: cut, empty, or another's."""
    disk = _Disk()
    names = ("manifest.json", "promoted.json", "history.json", "tree/disk.info")
    manifest = msgspec.json.encode({"root": _ROOT, "entries": shapes.HONEST})
    seeds = [b"\0" + manifest, b"\1[2049, 7]", b"\2" + msgspec.json.encode(
        {"first": 1, "pieces": ["history.0"], "sources": {}}), b"\0", b"\1{", b"\2[" * 100]

    def one(data: bytes) -> None:
        disk.prepare()
        with disk.area.opened():
            top = disk.path / ".rbd-worker" / "staging" / _GUEST
        (top / names[data[0] % len(names) if data else 0]).write_bytes(data[1:])
        oracle.outcome_of(disk.area.entries)
        oracle.outcome_of(lambda: disk.receive(_ROOT, shapes.HONEST, _nothing))
        oracle.outcome_of(disk.area.promote)
        disk.check()
    return Target(one, tuple(seeds), shapes.WORDS, 1024)


def _asked(data: bytes) -> tuple[payloads.FileEntry, tuple[payloads.Chunk, ...]] | None:
    """One file, as the edge lets it through, and what its source answers, again and again."""
    match shapes.decoded(data):
        case [int(size), list(answers)]:
            wire = {"offset": 0, "data": "", "next": 0}
            with contextlib.suppress(msgspec.ValidationError, UnicodeError, fields.BadPayload):
                entry = shapes.file("big", b"", inline=None, digest="0" * 64).to_wire()
                pieces = msgspec.convert([wire | dict(zip(wire, answer, strict=False))
                                          for answer in answers if isinstance(answer, list)],
                                         tuple[payloads.Chunk, ...])
                return (payloads.FileEntry.from_wire(entry | {"size": size}), pieces) \
                    if pieces else None
    return None


def _entries(data: bytes) -> tuple[payloads.FileEntry, ...] | None:
    """As the edge lets them through."""
    with contextlib.suppress(msgspec.ValidationError, UnicodeError):
        return msgspec.convert(shapes.decoded(data), payloads.Entries)
    return None


def _json(made: tuple[payloads.FileEntry, ...]) -> bytes:
    return json.dumps([entry.to_wire() for entry in made]).encode()


def _nothing(entry: payloads.FileEntry, offset: int) -> payloads.Chunk:
    raise errors.PeerUnreachable(host="node01", reason="it is a fuzzer")
