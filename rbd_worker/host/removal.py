# SPDX-License-Identifier: Apache-2.0
"""Remove a whole tree of this worker's own area, without following anything.

Made for trees of any depth and size: a directory inside is first renamed up
to the top, then emptied in its turn, so that neither the stack nor the number
of descriptors grows with the depth.  What was begun can be continued.  The
rename also proves that nothing is mounted there: what is mounted is somebody
else's, and neither looked into nor given another mode.
"""

import contextlib
import itertools
import os

from rbd_worker.host import syscalls


def remove_tree(name: str, dir_fd: int) -> bool:
    """Remove the directory ``name`` and all in it; False where there is none.

    :raises OSError: something in it cannot be removed (a mount point, an
        immutable file); the rest may be gone already.
    """
    try:
        top = _open_for_removal(name, dir_fd)
    except FileNotFoundError:
        return False
    with syscalls.held(top):
        numbers = itertools.count()
        inner = _emptied(top, top, numbers)
        while inner:
            child = inner.pop()
            with syscalls.held(_open_for_removal(child, top)) as fd:
                inner += _emptied(fd, top, numbers)
            os.rmdir(child, dir_fd=top)
    syscalls.rmdir(name, dir_fd)
    return True


def _emptied(fd: int, top: int, numbers: "itertools.count[int]") -> list[str]:
    """Empty one directory; the names under which its directories now are in ``top``."""
    with os.scandir(fd) as listing:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing]
    moved = []
    for name, is_directory in entries:
        if is_directory:
            moved.append(_moved_up(name, fd, top, numbers))
        else:
            os.unlink(name, dir_fd=fd)
    return moved


def _moved_up(name: str, fd: int, top: int, numbers: "itertools.count[int]") -> str:
    new_name = next(new for new in (f".{number}" for number in numbers)
                    if syscalls.identity(new, top) is None)
    try:
        os.rename(name, new_name, src_dir_fd=fd, dst_dir_fd=top)
    except PermissionError:  # moving a directory writes into it
        _make_writable(name, fd)
        os.rename(name, new_name, src_dir_fd=fd, dst_dir_fd=top)
    return new_name


def _open_for_removal(name: str, dir_fd: int) -> int:
    _make_writable(name, dir_fd)
    return syscalls.open_directory(name, dir_fd)


def _make_writable(name: str, dir_fd: int) -> None:
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with (syscalls.held(os.open(name, flags, dir_fd=dir_fd)) as seen,
          contextlib.suppress(PermissionError)):
        syscalls.set_own(seen)
