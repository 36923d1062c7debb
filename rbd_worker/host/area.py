# SPDX-License-Identifier: Apache-2.0
"""One instance's staging area, open for one operation.

``tree/`` is what becomes the instance directory; ``console/`` holds the
console logs, which go in by another way, because QEMU empties ``console.log``
when it starts.  Beside them are small records and, while a file arrives,
``part``.  The area belongs to this worker alone (mode 0700).
"""

import contextlib
import errno
import logging
import os
import stat
import types
import typing as ty

import msgspec

from rbd_worker.host import removal, sparse, syscalls
from rbd_worker.host.arrivals import is_console_log

LOG = logging.getLogger(__name__)

R = ty.TypeVar("R")

#: What staging leaves free on its file system: a GiB, or a part of a small one.
RESERVE_BYTES, RESERVE_PART = 1 << 30, 20

TREE = "tree"
_CONSOLE = "console"
_PART = "part"
#: Stands while a call to make everything durable has begun and not succeeded.
_DOUBT = "doubt"


class Area:
    """Descriptors of the area's directories until the ``with`` block ends."""

    def __init__(self, name: str, staging: int) -> None:
        self._held = contextlib.ExitStack()
        try:
            self.top = self._hold(syscalls.ensure_directory(name, staging))
            self.tree = self._hold(syscalls.ensure_directory(TREE, self.top))
            self.console = self._hold(syscalls.ensure_directory(_CONSOLE, self.top))
        except BaseException:
            self._held.close()
            raise

    def __enter__(self) -> ty.Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        self._held.close()

    def root_of(self, path: str) -> int:
        """Which of the two directories holds the staged ``path``."""
        return self.console if is_console_log(path) else self.tree

    def open_file(self, path: str) -> int | None:
        """A staged file, open for reading; None where it is not staged."""
        return syscalls.open_below(path, self.root_of(path))

    def ensure_directory(self, path: str) -> None:
        """A directory of the tree that this worker can write into."""
        with syscalls.parent_of(path, self.tree) as (parent, name):
            try:
                fd = syscalls.ensure_directory(name, parent)
            except NotADirectoryError:  # a file of an earlier listing
                syscalls.unlink(name, parent)
                fd = syscalls.ensure_directory(name, parent)
            with syscalls.held(fd):
                syscalls.set_own(fd)

    @contextlib.contextmanager
    def part(self) -> ty.Iterator[int]:
        """A new, empty file; gone at the end of the block unless it was kept."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_PART, dir_fd=self.top)
        with syscalls.held(syscalls.create_file(_PART, self.top)) as fd:
            try:
                yield fd
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(_PART, dir_fd=self.top)

    def keep_part(self, path: str) -> None:
        """The part is complete: it is the staged ``path`` from now on."""
        with syscalls.parent_of(path, self.root_of(path)) as (parent, name):
            with contextlib.suppress(NotADirectoryError):  # not there, or a file as expected
                removal.remove_tree(name, parent)
            syscalls.rename(_PART, self.top, name, parent)

    def keep_part_as(self, name: str) -> None:
        """The part becomes a record or another file of the area itself."""
        os.rename(_PART, name, src_dir_fd=self.top, dst_dir_fd=self.top)

    def remove(self, path: str) -> None:
        """A staged file or directory is gone."""
        with (contextlib.suppress(FileNotFoundError),
              syscalls.parent_of(path, self.root_of(path)) as (parent, name)):
            try:
                syscalls.unlink(name, parent)
            except (IsADirectoryError, PermissionError):
                removal.remove_tree(name, parent)

    def paths(self) -> list[str]:
        """All that is staged, parents first."""
        return list(_below(self.tree)) + list(_below(self.console))

    def write_record(self, name: str, content: bytes) -> None:
        """Replace a small file of the area as a whole."""
        with self.part() as fd:
            sparse.write_all(fd, content, 0)
            self.keep_part_as(name)

    def read_record(self, name: str, kind: type[R]) -> R | None:
        """None where there is none; a power failure may leave one that is none any more."""
        fd = syscalls.open_below(name, self.top)
        if fd is None:
            return None
        with syscalls.held(fd):
            try:
                return msgspec.json.decode(os.pread(fd, os.fstat(fd).st_size, 0), type=kind)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                LOG.warning("%s cannot be read and counts as missing", syscalls.name_of(fd))
                return None

    def check_reserve(self) -> None:
        """Copies leave room for the guests that are here: their logs are on the same disk.

        :raises OSError: ENOSPC, as if the disk were full.
        """
        found = os.fstatvfs(self.top)
        reserve = min(RESERVE_BYTES, found.f_blocks * found.f_frsize // RESERVE_PART)
        if found.f_bavail * found.f_frsize < reserve:
            raise OSError(errno.ENOSPC, "what is left is kept for the guests of this host")

    def sync(self) -> None:
        """Everything in the area is durable.

        What the kernel once failed to write it takes for written from then on: the next
        fsync says yes although only memory has the content.  So after a call that did not
        succeed each file is copied anew before anything is forced to disk.
        """
        try:
            os.close(syscalls.create_file(_DOUBT, self.top))
        except FileExistsError:
            self._renew()
        for path in _below(self.top):
            _sync_one(path, self.top)
        os.unlink(_DOUBT, dir_fd=self.top)
        os.fsync(self.top)

    def _renew(self) -> None:
        """A new file in the place of each, with the same content, owner, mode and time."""
        for path in list(_below(self.top)):
            with syscalls.parent_of(path, self.top) as (parent, name):
                fd = syscalls.open_regular(name, parent)
                if fd is not None:
                    around = os.fstat(parent)
                    with syscalls.held(fd), self.part() as part:
                        status = os.fstat(fd)
                        sparse.copy(fd, part, 0, status.st_size, 0)
                        os.ftruncate(part, status.st_size)
                        give_attributes(part, status)
                        syscalls.rename(_PART, self.top, name, parent)
                    give_attributes(parent, around)

    def _hold(self, fd: int) -> int:
        self._held.callback(os.close, fd)
        return fd


def give_attributes(fd: int, status: os.stat_result) -> None:
    """Owner, mode and time of another file, or of an earlier moment."""
    syscalls.set_attributes(fd, status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode),
                            status.st_mtime_ns)


def _below(fd: int, prefix: str = "") -> ty.Iterator[str]:
    for name in sorted(os.listdir(fd)):
        yield prefix + name
        if stat.S_ISDIR(syscalls.status(name, fd).st_mode):
            with syscalls.held(syscalls.open_directory(name, fd)) as inner:
                yield from _below(inner, f"{prefix}{name}/")


def _sync_one(path: str, root: int) -> None:
    with syscalls.parent_of(path, root) as (parent, name):
        fd = syscalls.open_regular(name, parent)
        with syscalls.held(syscalls.open_directory(name, parent) if fd is None else fd) as fd:
            os.fsync(fd)
