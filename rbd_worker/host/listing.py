# SPDX-License-Identifier: Apache-2.0
"""Everything below a pinned directory, each regular file opened, within limits.

What is not a regular file or a directory on the same file system, or is
mounted there, is refused with its name, and so is a listing beyond the limits;
it stops there, so that 100,000 files cost no more than the limit does.  Where
names change during the listing it begins again, so that a log that is being
rotated is not missed.
"""

import dataclasses
import os
import stat
import time
import typing as ty

from rbd_worker import errors
from rbd_worker.host import arrivals, mounts, syscalls
from rbd_worker.host.instances import Limits

#: Times that a listing is begun, and the pause in seconds between two.
_ATTEMPTS = 6
_PAUSE = 0.005
#: Characters of a relative path that a message carries.
_MAX_PATH = 1024


@dataclasses.dataclass(frozen=True)
class Found:
    """One file or directory.

    :ivar path: relative, ``/`` between names.
    :ivar fd: open for reading; -1 for a directory.
    """

    path: str
    status: os.stat_result
    fd: int

    @property
    def identity(self) -> syscalls.Identity:
        return self.status.st_dev, self.status.st_ino


class _NamesChanged(Exception):
    """Begin again."""


def scan(root: int, label: str, limits: Limits) -> list[Found]:
    """List what is below ``root``, parents first; the caller closes the descriptors.

    :param label: the directory's path, for people.
    :raises errors.UnsafeDirectory: something in it is not carried.
    :raises errors.DirectoryTooLarge: with the option that says so.
    :raises errors.DirectoryChanged: names changed again and again.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE * attempt)
        scanner = _Scanner(label, limits)
        try:
            scanner.scan(root)
        except _NamesChanged:
            close(scanner.found)
        except BaseException:
            close(scanner.found)
            raise
        else:
            return sorted(scanner.found, key=lambda found: found.path.split("/"))
    raise errors.DirectoryChanged(path=label, reason="its names change all the time")


def close(found: ty.Iterable[Found]) -> None:
    for each in found:
        if each.fd >= 0:
            os.close(each.fd)


class _Scanner:
    def __init__(self, label: str, limits: Limits) -> None:
        self.found: list[Found] = []
        self._label = label
        self._limits = limits
        self._data = 0
        self._names = 0
        self._mounts: frozenset[str] = frozenset()

    def scan(self, root: int) -> None:
        # opened again: two listings of one open directory would share its position
        with (syscalls.translated(self._label),
              syscalls.held(syscalls.open_directory(".", root)) as fd):
            self._mounts = mounts.below(fd)
            self._scan(fd, "", os.fstat(fd).st_dev)

    def _scan(self, fd: int, prefix: str, device: int) -> None:
        before = os.fstat(fd)
        for name in self._listed(fd, prefix):
            path = prefix + name
            self._check_path(path)
            with syscalls.translated(f"{self._label}/{path}"):
                try:
                    self._look(fd, name, path, device)
                except FileNotFoundError:
                    raise _NamesChanged from None
        after = os.fstat(fd)
        if (before.st_mtime_ns, before.st_ctime_ns) != (after.st_mtime_ns, after.st_ctime_ns):
            raise _NamesChanged

    def _listed(self, fd: int, prefix: str) -> list[str]:
        names = []
        with os.scandir(fd) as listing:
            for entry in listing:
                self._names += 1
                if self._names > self._limits.max_files:
                    raise self._too_large(prefix, "max_files",
                                          f"more than {self._limits.max_files} files")
                names.append(entry.name)
        return names

    def _look(self, fd: int, name: str, path: str, device: int) -> None:
        status = syscalls.status(name, fd)
        if stat.S_ISDIR(status.st_mode):
            self._enter(fd, name, path, device)
            return
        self._check_mounts(path)
        opened = syscalls.open_regular(name, fd) if stat.S_ISREG(status.st_mode) else None
        if opened is None:
            raise self._unsafe(path, f"it is {_kind(status.st_mode)}")
        found = Found(path, os.fstat(opened), opened)
        self.found.append(found)
        self._data += found.status.st_blocks * 512
        self._check_sizes(found)

    def _enter(self, fd: int, name: str, path: str, device: int) -> None:
        if path.count("/") >= self._limits.max_depth:
            raise self._too_large(path, "max_depth",
                                  f"deeper than {self._limits.max_depth} directories")
        if arrivals.is_console_log(path):  # at the other end it would be in the log's way
            raise self._unsafe(path, "it is a directory with the name of a console log")
        with syscalls.held(syscalls.open_directory(name, fd)) as inner:
            status = os.fstat(inner)
            if status.st_dev != device:
                raise self._unsafe(path, "it is on another file system")
            self._check_mounts(path)
            self.found.append(Found(path, status, -1))
            self._scan(inner, path + "/", device)

    def _check_mounts(self, path: str) -> None:
        if path in self._mounts:
            raise self._unsafe(path, "something is mounted there")

    def _check_path(self, path: str) -> None:
        try:
            path.encode()
        except UnicodeEncodeError:
            raise self._unsafe(path, "its name is not UTF-8") from None
        if len(path) > _MAX_PATH:
            raise self._unsafe(path[:80], f"its path has more than {_MAX_PATH} characters")

    def _check_sizes(self, found: Found) -> None:
        if found.status.st_size > self._limits.max_file_bytes:
            raise self._too_large(found.path, "max_file_gib",
                                  f"larger than {self._limits.max_file_bytes} bytes")
        if self._data > self._limits.max_data_bytes:
            raise self._too_large("", "max_data_gib",
                                  f"more than {self._limits.max_data_bytes} bytes of data")

    def _unsafe(self, path: str, reason: str) -> errors.UnsafeDirectory:
        return errors.UnsafeDirectory(path=self._path(path), reason=reason)

    def _too_large(self, path: str, option: str, reason: str) -> errors.DirectoryTooLarge:
        return errors.DirectoryTooLarge(path=self._path(path), reason=reason, option=option)

    def _path(self, path: str) -> str:
        return syscalls.printable(f"{self._label}/{path}".rstrip("/"))


def _kind(mode: int) -> str:
    for test, name in ((stat.S_ISLNK, "a symbolic link"), (stat.S_ISFIFO, "a fifo"),
                       (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a character device"),
                       (stat.S_ISBLK, "a block device")):
        if test(mode):
            return name
    return "not a regular file"
