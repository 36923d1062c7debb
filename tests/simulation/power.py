# SPDX-License-Identifier: Apache-2.0
"""What a disk does not have: all that a worker did and did not flush, or that the disk refused.

Harsher than most file systems.  A name that was made or moved is durable once
its directory was flushed (for a move the new one), the content of a file once
the file was.  A commit of the journal is durable where SQLite flushes its log
at each; the log then ends in half a frame that was being written.  A removal
counts as durable.

A flush that fails says so once.  The kernel then takes the content for written,
and the next flush succeeds, although only memory has it: as in Linux since 4.13.
"""

import collections
import dataclasses
import os
import pathlib
import random
import shutil
import stat
import typing as ty

#: ``PRAGMA synchronous``: the log is flushed at each commit.
_FULL = 2
_HALF_A_FRAME = 2000


@dataclasses.dataclass(eq=False)
class Change:
    """A name that has come to be.

    :ivar was: where it was before; empty for something new.
    :ivar pending: inodes of directories that have to be flushed.
    """

    path: str
    inode: int
    was: str
    pending: set[int]


class Unflushed:
    """Of one host's worker, in the order in which it did it."""

    def __init__(self) -> None:
        self._changes: list[Change] = []
        self._contents: set[int] = set()
        self._refused: set[int] = set()

    def refused(self, fd: int) -> None:
        """The disk does not take a file's content, and nothing will write it once more."""
        if stat.S_ISREG(os.fstat(fd).st_mode):
            self._refused.add(_inode(fd))

    def forget_refused(self, root: str) -> None:
        """Memory is needed for something else: what only it had of files is gone."""
        if self._refused:
            _empty(self._refused, root)

    def made(self, name: str, dir_fd: int, *, is_file: bool) -> None:
        """A name is new: a directory about to be made, or a file that was made."""
        path = f"{_path(dir_fd)}/{name}"
        if not is_file:
            if not os.path.lexists(path):
                self._changes.append(Change(path, 0, "", {_inode(dir_fd)}))
            return
        inode = os.lstat(path).st_ino
        self._contents.add(inode)
        self._changes.append(Change(path, inode, "", {_inode(dir_fd)}))

    def about_to_move(self, name: str, new_name: str, dir_fd: int, new_dir_fd: int) -> None:
        was, path = f"{_path(dir_fd)}/{name}", f"{_path(new_dir_fd)}/{new_name}"
        if os.path.lexists(was) and not os.path.lexists(path):
            self._changes.append(Change(path, os.lstat(was).st_ino, was, {_inode(new_dir_fd)}))

    def flushed(self, fd: int) -> None:
        inode = _inode(fd)
        self._contents.discard(inode)
        for change in self._changes:
            change.pending.discard(inode)
        self._changes = [change for change in self._changes if change.pending]

    def take_away(self, rng: random.Random, root: str) -> list[str]:
        """The latest changes are undone, as many as chance has it; what they were."""
        lost = self._changes[-rng.choice((1, 2, 1000)):]
        for change in reversed(lost):
            _undo(change)
        _empty(self._contents | self._refused, root)
        self._changes, self._contents = [], set()
        return [change.path.removeprefix(root) for change in lost]


def _empty(inodes: set[int], root: str) -> None:
    for place, _, names in os.walk(root):
        for name in names:
            path = os.path.join(place, name)
            if os.lstat(path).st_ino in inodes:
                os.truncate(path, 0)


def _undo(change: Change) -> None:
    if not os.path.lexists(change.path) or (
            change.inode and os.lstat(change.path).st_ino != change.inode):
        return
    if change.was:
        if not os.path.lexists(change.was) and os.path.isdir(os.path.dirname(change.was)):
            os.rename(change.path, change.was)
    elif os.path.isdir(change.path):
        shutil.rmtree(change.path)
    else:
        os.unlink(change.path)


class JournalOnDisk:
    """The journal's files as a failure at this moment leaves them."""

    def __init__(self, directory: str, journal: ty.Any, rng: random.Random) -> None:
        self._base = pathlib.Path(directory, "journal.sqlite")
        self._log = self._base.with_name("journal.sqlite-wal")
        self._kept = self._base.read_bytes()
        log = self._log.read_bytes() if self._log.exists() else b""
        is_flushed = journal._db.execute("PRAGMA synchronous").fetchone()[0] >= _FULL
        self._kept_log = log + log[-_HALF_A_FRAME:][:rng.randrange(_HALF_A_FRAME)] \
            if is_flushed else b""

    def lay(self) -> None:
        """After the process let go of them."""
        self._base.write_bytes(self._kept)
        self._log.write_bytes(self._kept_log)
        self._base.with_name("journal.sqlite-shm").unlink(missing_ok=True)


def unflushed() -> collections.defaultdict[str, Unflushed]:
    """By the host's name."""
    return collections.defaultdict(Unflushed)


def _path(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


def _inode(fd: int) -> int:
    return os.fstat(fd).st_ino
