# SPDX-License-Identifier: Apache-2.0
"""The small process that may do what this one may not, asked only after a refusal.

Every system call is made with this process's own rights first.  What the
kernel refuses for want of rights (EACCES, EPERM) is put to the deputy, if one
was appointed; without one the refusal stands.  What the deputy does, and what
it will not do for anybody, is in :mod:`rbd_worker.host.privileged`.

The deputy is appointed once, before the first thread, and belongs to the
process like its credentials: hence a module's state.
"""

import collections.abc
import functools
import os
import typing as ty

P = ty.ParamSpec("P")
T = ty.TypeVar("T")


class Gone(Exception):
    """The deputy has ended or does not answer; the first refusal stands."""


class Deputy(ty.Protocol):
    """Thread-safe."""

    def ask(self, what: str, descriptors: collections.abc.Sequence[int],
            *arguments: object) -> list[int]:
        """Have a function of :mod:`rbd_worker.host.privileged` called.

        :returns: new descriptors, the caller's to close.
        :raises OSError: what the kernel said there; EPERM where the deputy itself refuses.
        :raises Gone: there is nobody to ask any more.
        """

    @property
    def is_alive(self) -> bool: ...


class _Office:
    holder: Deputy | None = None


_office = _Office()


def appoint(deputy: Deputy | None) -> None:
    """Ask ``deputy`` from now on; None for nobody."""
    _office.holder = deputy


def is_lost() -> bool:
    """True where one was appointed and has ended: only a new start brings it back."""
    return _office.holder is not None and not _office.holder.is_alive


def asked_when_refused(substitute: ty.Callable[P, T],
                       ) -> ty.Callable[[ty.Callable[P, T]], ty.Callable[P, T]]:
    """Have ``substitute`` try again what the decorated call was refused."""
    def decorate(call: ty.Callable[P, T]) -> ty.Callable[P, T]:
        @functools.wraps(call)
        def tried(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return call(*args, **kwargs)
            except PermissionError as refusal:
                if _office.holder is None:
                    raise
                try:
                    return substitute(*args, **kwargs)
                except Gone:
                    raise refusal from None
        return tried
    return decorate


# -- what can be asked: the same contracts as in syscalls ----------------------


def open_directory(name: str, dir_fd: int) -> int:
    return _ask("open_directory", (dir_fd,), name)[0]


def open_regular(name: str, dir_fd: int) -> int | None:
    found = _ask("open_regular", (dir_fd,), name)
    return found[0] if found else None


def status(name: str, dir_fd: int) -> os.stat_result:
    (seen,) = _ask("see", (dir_fd,), name)
    try:
        return os.fstat(seen)
    finally:
        os.close(seen)


def rename(name: str, dir_fd: int, new_name: str, new_dir_fd: int) -> None:
    renameat2(name, dir_fd, new_name, new_dir_fd, 0)


def renameat2(name: str, dir_fd: int, new_name: str, new_dir_fd: int, flags: int) -> None:
    _ask("ensure_moved", (dir_fd, new_dir_fd), name, new_name, flags)


def unlink(name: str, dir_fd: int) -> None:
    _ask("ensure_absent", (dir_fd,), name)


def rmdir(name: str, dir_fd: int) -> None:
    _ask("ensure_absent", (dir_fd,), name)


def set_attributes(fd: int, uid: int, gid: int, mode: int, mtime_ns: int = 0) -> None:
    _ask("ensure_attributes", (fd,), uid, gid, mode, mtime_ns)


def set_own(directory: int) -> None:
    set_attributes(directory, os.geteuid(), os.getegid(), 0o700)


def _ask(what: str, descriptors: collections.abc.Sequence[int], *arguments: object) -> list[int]:
    if _office.holder is None:
        raise Gone
    return _office.holder.ask(what, descriptors, *arguments)
