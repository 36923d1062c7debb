# SPDX-License-Identifier: Apache-2.0
"""Every file call of a worker, seen where the interpreter makes it.

CPython announces each ``open``, ``mkdir``, ``rename``, ``unlink`` and so on to
an audit hook (PEP 578) before it is made; an exception from there is the
call's own.  So nothing of the worker is wrapped or replaced: the n-th file
call of a host can fail, be the last thing that its worker does, or be judged
against what the world knows.  After a kill no file call of that worker takes
place any more, not even in a ``finally`` block, which a killed process does
not run either.

``renameat2`` is no function of Python's; it goes through
``rbd_worker.host.syscalls._renameat2``, which is therefore watched as well.
"""

import contextlib
import errno
import os
import re
import secrets
import sys
import typing as ty

import pytest

from rbd_worker.host import mounts, syscalls
from tests.simulation.scheduler import Killed

if ty.TYPE_CHECKING:
    import random

    from tests.simulation import power
    from tests.simulation.world import World

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
#: Events that change something, and those that only look.
_CHANGES = frozenset({"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.chmod",
                      "os.chown", "os.truncate", "os.utime"})
_LOOKS = frozenset({"open", "os.listdir", "os.scandir"})
_MAKES = frozenset({"os.mkdir", "os.link"})
_WATCHED = _CHANGES | _LOOKS

#: The world in which tasks run at the moment.
_watching: "World | None" = None
_is_installed = False


@contextlib.contextmanager
def watched(world: "World", randomness: "random.Random") -> ty.Iterator[None]:
    """File calls of workers are announced to ``world``; random names come from its seed."""
    global _watching, _is_installed  # noqa: PLW0603 -- an audit hook is there for the process
    if not _is_installed:
        sys.addaudithook(_hook)
        _is_installed = True
    rename = syscalls._renameat2

    def renameat2(name: str, dir_fd: int, new_name: str, new_dir_fd: int, flags: int) -> None:
        _announce("os.rename", (name, new_name, dir_fd, new_dir_fd))
        rename(name, dir_fd, new_name, new_dir_fd, flags)
    create, fsync = syscalls.create_file, os.fsync

    def create_file(name: str, dir_fd: int, mode: int = 0o600) -> int:
        made = create(name, dir_fd, mode)
        host = _acting(world)
        if host is not None and world.may_lose_power:
            world.unflushed[host.name].made(name, dir_fd, is_file=True)
        return made

    def flush(fd: int) -> None:
        host = _acting(world)
        if host is not None and host.strikes("flush"):
            world.unflushed[host.name].refused(fd)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)
        if host is not None and world.may_lose_power:
            world.unflushed[host.name].flushed(fd)
    _watching = world
    try:
        with pytest.MonkeyPatch.context() as seam:
            seam.setattr(syscalls, "_renameat2", renameat2)
            seam.setattr(syscalls, "create_file", create_file)
            seam.setattr(os, "fsync", flush)
            # no host of this world has any, and the real table is long
            seam.setattr(mounts, "below", lambda _fd: frozenset())
            seam.setattr(secrets, "token_hex", lambda size: randomness.randbytes(size).hex())
            yield
    finally:
        _watching = None


def _hook(event: str, arguments: tuple[ty.Any, ...]) -> None:
    """Called some thousand times in each schedule: what does not concern it goes by quickly."""
    if event in _WATCHED and _watching is not None and not _watching.is_looking:
        _announce(event, arguments)


def _announce(event: str, arguments: tuple[ty.Any, ...]) -> None:
    world = _watching
    task = world.scheduler.current if world is not None else None
    if world is None or world.is_looking or task is None:
        return
    host = world.workers.get(task.life)
    if host is None or (event == "open" and not _is_ours(arguments[0])):
        return
    if not task.life.is_alive:
        raise Killed(task.life.name)
    world.is_looking = True
    try:
        makes = event in _MAKES or (event == "open" and bool(arguments[2] & os.O_CREAT))
        host.file_call(event, makes=makes)
        if event in _CHANGES:
            world.dates.touched(host)
            _judge(world, host, event, arguments)
            if world.may_lose_power:
                _remember(world.unflushed[host.name], event, arguments)
    finally:
        world.is_looking = False


def _is_ours(path: object) -> bool:
    """Not a module that is being imported, nor what an open file is asked through."""
    return isinstance(path, str) and (not path.startswith("/") or not (
        path.startswith(("/proc/", "/usr/", "/etc/")) or path.endswith((".py", ".pyc", ".so"))))


def _judge(world: "World", host: ty.Any, event: str, arguments: tuple[ty.Any, ...]) -> None:
    """Is a worker about to take something away that it may not?"""
    if event == "os.rename":
        name, new_name, dir_fd, new_dir_fd = arguments
        if _UUID.match(name) and _is_base(host, dir_fd) and not _is_base(host, new_dir_fd):
            world.removal(host, name, f"{_path(new_dir_fd)}")
        elif str(new_name).endswith(".purging"):
            world.purge(host, f"{_path(dir_fd)}/{name}")
    elif event in ("os.remove", "os.rmdir") and not _is_own(host, arguments[1]):
        world.breach("bytes", f"the worker of {host.name} removes {arguments[0]} in "
                              f"{_path(arguments[1])}")


def _acting(world: "World") -> ty.Any:
    """The host whose worker has the turn; else None."""
    task = world.scheduler.current
    if task is None or world.is_looking:
        return None
    return world.workers.get(task.life)


def _remember(unflushed: "power.Unflushed", event: str, arguments: tuple[ty.Any, ...]) -> None:
    if event == "os.mkdir" and arguments[2] >= 0:
        unflushed.made(arguments[0], arguments[2], is_file=False)
    elif event == "os.rename" and min(arguments[2:4]) >= 0:
        unflushed.about_to_move(arguments[0], arguments[1], arguments[2], arguments[3])


def _path(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}") if fd >= 0 else ""


def _is_base(host: ty.Any, fd: int) -> bool:
    return _path(fd) == str(host.path)


def _is_own(host: ty.Any, fd: int) -> bool:
    return "/.rbd-worker" in _path(fd)
