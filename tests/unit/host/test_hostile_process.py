# SPDX-License-Identifier: Apache-2.0
"""Another process swaps names while the real code works: nothing outside is touched or told.

Each operation is run again and again on a fresh tree.  What it may do is fail
with one of this worker's errors; what it may not do is read, write, remove or
give away anything outside, or lose a file that was inside.  The counts at the
end prove that the swaps came in between.  ``RBD_WORKER_RACE_SECONDS`` (for
each operation, default 1) makes it as long as one likes.
"""

import collections
import contextlib
import os
import pathlib
import shutil
import tempfile
import time
import typing as ty
import zlib

import pytest

from rbd_worker import errors
from rbd_worker.host import (
    console,
    instances,
    new_directory,
    probe,
    staging,
    trash,
    trash_items,
    walk,
)
from tests import hostile
from tests.fuzz import oracle
from tests.unit.host.entries import ROOT, directory_of, entry_of
from tests.unit.host.test_digest import plainly
from tests.unit.host.trees import DAY, LIMITS, UUID, Clock, evidence, never

SECONDS = float(os.environ.get("RBD_WORKER_RACE_SECONDS", "1"))
#: Rounds in which a swap came in between, without which the test has shown nothing.
LEAST_HITS = 10

INSIDE = {"console.log": b"boots\n", "disk.info": b"{}", "keys/one": b"a key", "keys/two": b"two"}
OTHERS = b"another guest's"
OUTSIDE = b"what only the host's administrator may read"
#: Whoever can make a hard link to a file could read it before; nobody may write to it.
LINKED = b"what has a second name inside"
ENTRIES = (entry_of("disk.config", b"new"), directory_of("keys"), entry_of("keys/one", b"a key"),
           entry_of("keys/three", b"three"), entry_of("console.log", b"history\n"))
HOME, AREA = f"instances/{UUID}", f"instances/.rbd-worker/staging/{UUID}"
OLD, OLD_TIME = f"{UUID}.20200101T000000.abcdef", 1_577_836_800.0
DECOYS = ("decoys/to-directory", "decoys/to-file", "decoys/fifo", "decoys/other", "decoys/hard")


class Disk:
    """instances_path with one guest's directory, things to swap, and the outside."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.path = root / "instances"
        outside = root / "outside"
        (outside / "keys").mkdir(parents=True)
        for name in ("file", "keys/one", "console.log", "disk.config"):
            (outside / name).write_bytes(OUTSIDE)
        (outside / "hard").write_bytes(LINKED)
        self.directories = instances.Instances(str(self.path), LIMITS)
        self.staging = staging.Staging(self.directories, UUID)
        self.clock = Clock()
        self.trash = trash.Trash(self.directories, 7 * DAY, self.clock)

    def make(self, has_home: bool) -> None:
        """As it is before each round, with the guest's directory or without."""
        for name in ("instances", "decoys"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        for name, content in INSIDE.items():
            path = self.root / HOME / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if not has_home:
            shutil.rmtree(self.root / HOME)
        old = self.path / ".rbd-worker" / "trash" / OLD
        (old / "directory" / "keys").mkdir(parents=True)
        (old / "directory" / "keys" / "one").write_bytes(b"old")
        (old / trash_items.RECORD).write_bytes(trash_items.Record(  # proven: it may be purged
            UUID, "migration-1", OLD_TIME, evidence().facts,
            (old / "directory").stat().st_ino).encoded())
        for own in (old, old.parent, old.parent.parent):
            own.chmod(0o700)
        decoys = self.root / "decoys"
        (decoys / "other").mkdir(parents=True)
        (decoys / "other" / "disk.info").write_bytes(OTHERS)
        (decoys / "to-directory").symlink_to(self.root / "outside")
        (decoys / "to-file").symlink_to(self.root / "outside" / "file")
        os.mkfifo(decoys / "fifo")
        os.link(self.root / "outside" / "hard", decoys / "hard")

    def outside(self) -> dict[str, tuple[object, ...]]:
        """Content, mode and owner; the hard link's count is the attacker's own doing."""
        return {path: (*found[:3], found[-1])
                for path, found in oracle.tree_of(str(self.root / "outside")).items()}

    def contents(self) -> collections.Counter[bytes]:
        """Of the files that were there in the beginning, wherever they are by now."""
        wanted = {*INSIDE.values(), OTHERS}
        found = oracle.tree_of(str(self.root), leave_out="outside").values()
        return collections.Counter(ty.cast(bytes, e[-1]) for e in found if e[-1] in wanted)


def walk_it(disk: Disk) -> None:
    """What a source tells its peer."""
    directory = disk.directories.pin(UUID)
    assert directory is not None
    with directory, walk.pin_files(directory, LIMITS) as files:
        for entry in files.entries_inline({}):
            assert entry.digest != plainly(OUTSIDE), f"{entry.path} is told to the peer"
            if entry.kind == "file" and entry.size:
                data = zlib.decompress(files.read_chunk(entry.path, 0).data)
                assert data != OUTSIDE, f"{entry.path} is sent to the peer"


def stage_and_place_it(disk: Disk) -> None:
    """What a destination does with its peer's files."""
    directory = disk.directories.pin(UUID)
    assert directory is not None
    with directory:
        disk.staging.ensure(ROOT, ENTRIES, never, directory)
        disk.staging.sync()
        disk.staging.place(directory, ENTRIES, {"keys/one": plainly(b"a key")})
        console.place_history(directory, disk.staging, keep=3, max_bytes=1 << 20)


def drop_it(disk: Disk) -> None:
    with contextlib.suppress(errors.Error):
        disk.staging.ensure(ROOT, ENTRIES, never)
    disk.staging.drop()


def promote_it(disk: Disk) -> None:
    disk.staging.ensure(ROOT, ENTRIES, never)
    disk.staging.promote()


def take_and_restore_it(disk: Disk) -> None:
    directory = disk.directories.pin(UUID)
    assert directory is not None
    with directory:
        item = disk.trash.take(directory, evidence(), "migration-1")
    disk.trash.list()
    disk.trash.restore(item.id)


def make_and_probe_it(disk: Disk) -> None:
    new_directory.ensure(disk.directories, UUID)
    with probe.lay(disk.directories, UUID) as laid:
        probe.compare(disk.directories, UUID, laid)


def purge_it(disk: Disk) -> None:
    """The old item, into which the attacker swaps what he likes."""
    disk.trash.purge()


_IN_TRASH = [(f"instances/.rbd-worker/trash/{OLD}{below}", decoy)
             for below in ("", "/directory", "/directory/keys", "/directory/keys/one",
                           ".purging", ".purging/directory", ".purging/directory/keys")
             for decoy in DECOYS]
_AT_HOME = [(f"{HOME}{below}", decoy)
            for below in ("", "/console.log", "/disk.info", "/keys", "/keys/one")
            for decoy in DECOYS]
_IN_STAGING = [(f"{AREA}{below}", decoy)
               for below in ("", "/tree", "/tree/keys", "/tree/keys/one", "/tree/disk.config",
                             "/console", "/console/console.log", "/part", "/manifest.json")
               for decoy in DECOYS]
_OWN = [(f"instances/.rbd-worker{below}", decoy)
        for below in ("", "/staging", "/trash", "/nonce") for decoy in DECOYS[:1]]


#: Whatever is swapped meanwhile, these remove nothing at all.
KEEPING = (walk_it, take_and_restore_it, make_and_probe_it)


@pytest.fixture
def disk() -> ty.Iterator[Disk]:
    """In memory where there is room: as many rounds as possible."""
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="rbd-worker-race-", dir=shared) as name:
        yield Disk(pathlib.Path(name))


@pytest.mark.parametrize(("operation", "pairs", "has_home"), [
    (walk_it, _AT_HOME, True),
    (stage_and_place_it, _AT_HOME + _IN_STAGING, True),
    (promote_it, _IN_STAGING + _OWN, False),
    (drop_it, _IN_STAGING + _OWN, True),
    (take_and_restore_it, _AT_HOME + _OWN, True),
    (make_and_probe_it, _AT_HOME[:5] + _OWN, False),
    (purge_it, _IN_TRASH, True),
], ids=lambda value: getattr(value, "__name__", ""))
def test_nothing_outside_is_touched_while_names_are_swapped(
        disk: Disk, operation: ty.Callable[[Disk], None], pairs: list[tuple[str, str]],
        has_home: bool) -> None:
    """What the attacker swaps into the worker's own area may go with what was there."""
    outside = disk.outside()
    ended: collections.Counter[str] = collections.Counter()
    with hostile.Swapper(disk.root, pairs) as swapper:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline or (SECONDS and ended["hit"] < LEAST_HITS):
            disk.make(has_home)
            before, swaps = disk.contents(), swapper.swaps
            with swapper.loose():
                ended[_ending_of(operation, disk)] += 1
            ended["hit"] += swapper.swaps > swaps
            assert disk.outside() == outside
            assert operation not in KEEPING or not before - disk.contents(), "a file is lost"
    assert ended["hit"] >= LEAST_HITS
    print(f"{operation.__name__}: {dict(ended)}, {swapper.swaps} swaps")


def _ending_of(operation: ty.Callable[[Disk], None], disk: Disk) -> str:
    """Foreign errors pass: nothing but this worker's own may come out."""
    try:
        operation(disk)
    except errors.Error as e:
        return type(e).__name__
    return "done"
