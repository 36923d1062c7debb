# SPDX-License-Identifier: Apache-2.0
"""Is what a descriptor stands for really below instances_path?

Asked by the process with privileges about descriptors that it was handed by
the one without, which may have been taken over.  So nothing of what that one
says counts: the kernel names the descriptor's path, that path is walked again
from instances_path down, without a link anywhere, and what stands there has to
be the very same file.  Whoever moves names meanwhile gets a refusal.
"""

import contextlib
import errno
import logging
import os
import stat
import typing as ty

from rbd_worker import errors, model
from rbd_worker.host import syscalls
from rbd_worker.host.instances import OWN

LOG = logging.getLogger(__name__)

_UUID_CHARACTERS = 36
#: Looks at a name that Nova may be changing at this moment.
_ATTEMPTS = 3
_SEEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Place:
    """A file or directory below instances_path, as this process found it itself.

    :ivar fd: ``O_PATH``, to work relative to or to open what it stands for.
    :ivar parts: the names on the way there; none for instances_path itself.
    """

    def __init__(self, fd: int, parts: tuple[str, ...]) -> None:
        self.fd = fd
        self.parts = parts
        self.status = os.fstat(fd)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_in_own_area(self) -> bool:
        """Inside of ``.rbd-worker``, where everything is a copy or has left by proof."""
        return len(self.parts) > 1 and self.parts[0] == OWN

    def entry(self, name: object) -> str:
        """``name`` if it may be looked up here.

        :raises PermissionError: it is no single name, or of another's directory
            directly below instances_path (``_base``, ``locks``).
        """
        if not self.is_directory or not isinstance(name, str) or not _is_single(name):
            raise refused(f"{name!r} cannot be an entry of {'/'.join(self.parts) or '.'}")
        _check_top((*self.parts, name)[0])
        return name

    @contextlib.contextmanager
    def opened(self) -> ty.Iterator[int]:
        """For reading.

        :raises PermissionError: it is no directory and no regular file with one name.
        """
        if not self.is_directory:
            demand_only_name(os.fstat(self.fd))
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        with syscalls.held(os.open(f"/proc/self/fd/{self.fd}", flags)) as fd:
            yield fd


class Base:
    """instances_path.  Links on the way to it are followed once, when this is made.

    Later it may be another directory (a file system that is mounted after the
    start, one that Nova made first), if it belongs to this user and no link
    leads there: such a directory gives nobody more than what this user could
    have moved into the first one.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.realpath(path)
        self._first = _identity_of_path(self._path)

    def find(self, fd: int) -> Place:
        """Where ``fd`` leads; the caller closes the place's own descriptor.

        :raises PermissionError: not to instances_path or an instance's or this
            worker's own directory below it.
        """
        for _ in range(_ATTEMPTS):
            with self._opened() as base:
                parts = _parts_below(os.readlink(f"/proc/self/fd/{base}"),
                                     os.readlink(f"/proc/self/fd/{fd}"))
                if parts:
                    _check_top(parts[0])
                found = _walk(base, parts)
            if found is not None:
                if _same(os.fstat(found), os.fstat(fd)):
                    return Place(found, parts)
                os.close(found)
        raise refused(f"{syscalls.name_of(fd)} is not where its name says")

    @contextlib.contextmanager
    def _opened(self) -> ty.Iterator[int]:
        with syscalls.held(os.open("/", _SEEN)) as root:
            base = _walk(root, tuple(filter(None, self._path.split("/"))))
        if base is None:
            raise refused(f"there is no directory {self._path}")
        with syscalls.held(base):
            status = os.fstat(base)
            is_first = (status.st_dev, status.st_ino) == self._first
            if not stat.S_ISDIR(status.st_mode) or not (
                    is_first or status.st_uid == os.geteuid()):
                raise refused(f"{self._path} is not the directory that it was")
            yield base


def demand_only_name(status: os.stat_result) -> None:
    """A regular file with a second name elsewhere may be anybody's.

    :raises PermissionError: it has one, or is not a regular file.
    """
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise refused("it is no regular file with one name only")


def refused(reason: str) -> PermissionError:
    """To be raised by what was asked for too much; the reason is in the log."""
    LOG.warning("refused: %s", reason)
    return PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def _is_single(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def _check_top(name: str) -> None:
    """Instances' directories, also as Nova renames them (``<uuid>_del``), and our own."""
    try:
        if name != OWN:
            model.canonical_uuid(name[:_UUID_CHARACTERS])
    except errors.BadInstanceUUID:
        raise refused(f"{name!r} is not an instance's directory") from None


def _parts_below(base: str, path: str) -> tuple[str, ...]:
    if path == base:
        return ()
    if not path.startswith(base + "/"):
        raise refused(f"{syscalls.printable(path)} is not below {base}")
    return tuple(path[len(base) + 1:].split("/"))


def _walk(start: int, names: tuple[str, ...]) -> int | None:
    """An ``O_PATH`` descriptor, no link followed; None where no way leads there."""
    current = os.dup(start)
    for name in names:
        try:
            following = os.open(name, _SEEN, dir_fd=current)
        except (FileNotFoundError, NotADirectoryError):
            return None
        finally:
            os.close(current)
        current = following
    return current


def _identity_of_path(path: str) -> syscalls.Identity | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
