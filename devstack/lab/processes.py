# SPDX-License-Identifier: Apache-2.0
"""Finding, ending and waiting for processes, without ever hitting a stranger.

A process is known by its command line, read again after a descriptor pins it
(pidfd): a number that was reused in between is never signalled.
"""

import collections.abc
import os
import pathlib
import select
import signal
import time

from devstack.lab import errors

POLL = 0.05
#: Longest time, in seconds, to wait for the end of a process's execve.
_EXEC_SECONDS = 0.5


def command_line(pid: int) -> list[str]:
    """The arguments of a process; empty for kernel threads and ended ones."""
    return _strings(pid, "cmdline")


def environment(pid: int) -> list[str]:
    """``NAME=value`` as a process was started with; empty for kernel threads and ended ones."""
    return _strings(pid, "environ")


def _strings(pid: int, name: str) -> list[str]:
    """What a file of ``/proc/<pid>`` says, one string after the other.

    In the middle of execve both files are empty, for the old ones are gone and the
    new ones not yet there; a program's file is there already, which neither a kernel
    thread nor an ended process has.
    """
    deadline = time.monotonic() + patience(_EXEC_SECONDS)
    place = pathlib.Path(f"/proc/{pid}")
    try:
        while not (raw := (place / name).read_bytes()) and time.monotonic() < deadline:
            os.readlink(place / "exe")
    except OSError:
        return []
    return os.fsdecode(raw).rstrip("\0").split("\0") if raw else []


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def find(matches: collections.abc.Callable[[list[str]], bool]) -> list[int]:
    """Processes whose command line matches."""
    return [pid for pid in all_pids() if matches(command_line(pid))]


def kill(pids: collections.abc.Iterable[int],
         matches: collections.abc.Callable[[list[str]], bool], seconds: float = 20.0) -> None:
    """SIGKILL those that still match, and wait until they are gone.

    :raises errors.TookTooLong: one is still there after ``seconds``.
    """
    pinned = []
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        if matches(command_line(pid)):
            pinned.append(descriptor)
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        else:
            os.close(descriptor)
    deadline = time.monotonic() + patience(seconds)
    for descriptor in pinned:
        left = max(0.0, deadline - time.monotonic())
        ended, _, _ = select.select([descriptor], [], [], left)
        os.close(descriptor)
        if not ended:
            raise errors.TookTooLong("the end of a killed process", seconds)


def patience(seconds: float) -> float:
    """A time limit, as much longer as the machine may be slower than a developer's own.

    :param seconds: enough on a machine that does nothing else.
    :returns: that many seconds times ``RBD_WORKER_PATIENCE``, which is 1 where it is not set.
    """
    return seconds * float(os.environ.get("RBD_WORKER_PATIENCE", "1"))


def wait_until(check: collections.abc.Callable[[], bool], seconds: float, what: str,
               log: pathlib.Path | None = None,
               failed: collections.abc.Callable[[], bool] | None = None,
               seen: collections.abc.Callable[[], object] | None = None) -> None:
    """Poll until ``check`` holds.

    :param seconds: see :func:`patience`.
    :param failed: says that waiting any longer is pointless.
    :param seen: what there is instead, for the error.
    :raises errors.TookTooLong: with the end of ``log``.
    """
    began = time.monotonic()
    limit = patience(seconds)
    while not check():
        took = time.monotonic() - began
        if took > limit or (failed and failed()):
            raise errors.TookTooLong(f"{what} ({seen()})" if seen else what, took, log)
        time.sleep(POLL)
