# SPDX-License-Identifier: Apache-2.0
"""The libvirt hook on this host's disk: what is installed, whether libvirt sees it.

libvirt calls every executable in ``hooks/qemu.d`` since 6.5, and before that
the one program ``hooks/qemu``.  What it calls here is a few lines of shell
that end at once for everything but an arriving guest; the question itself is
put by a copy of :mod:`rbd_worker.hook` in ``hooks/rbd-worker``, a name that
libvirt does not look at.  libvirt asks only when it starts whether there is
any hook; so the first one is not called before a restart.
"""

import contextlib
import dataclasses
import os
import pathlib
import pwd
import re
import shlex
import subprocess
import time
import typing as ty

from rbd_worker import conf, errors, hook
from rbd_worker.host import syscalls

HOOKS = pathlib.Path("/etc/libvirt/hooks")
NAME = "50-rbd-worker"
#: Whose file it is; stands in every wrapper that was ever installed.
_MARK = b"# The libvirt hook of rbd-worker"
_MARK_WITHIN = 512
#: libvirt 6.5 and later call every executable in qemu.d.
_DIRECTORY_SINCE = (6, 5)
_DAEMONS = ("virtqemud", "libvirtd")
#: What the hook asks with.
PYTHON = "/usr/bin/python3"

_WRAPPER = """\
#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The libvirt hook of rbd-worker, written by 'rbd-workerctl hook install'.
#
# libvirt calls it for everything that happens to a guest, and a hook that fails
# may end one. So it is over at once for all but a guest that is about to
# arrive, and only a clear refusal of the worker (status 3) is passed on:
# without Python, without a worker or without an answer the guest comes in.
[ "$2 $3" = "migrate begin" ] || exit 0

socket={socket}
owner={owner}
seconds={seconds}
killed_after={killed_after}
python={python}
program={program}

PATH=/usr/sbin:/usr/bin:/sbin:/bin
# kept until it is complete: half an XML would end the migration
changed=$(timeout -s KILL "$killed_after" \\
    "$python" -I -S "$program" "$socket" "$owner" "$seconds" "$1")
status=$?
case $status in
0)
    [ -z "$changed" ] || printf '%s\\n' "$changed"
    ;;
3)
    exit 3
    ;;
*)
    timeout -s KILL 1 logger -t rbd-worker-hook -p daemon.warning -- \\
        "a guest comes in without a word from rbd-worker: $program ended with $status"
    ;;
esac
exit 0
"""


@dataclasses.dataclass(frozen=True)
class Question:
    """How the hook reaches the worker.

    :ivar owner: the user, name or number, as whom the worker runs.
    :ivar seconds: the longest that a guest waits.
    """

    socket: str
    owner: str
    seconds: float


@dataclasses.dataclass(frozen=True)
class Daemon:
    """libvirt's running daemon; ``started`` in seconds since the epoch."""

    name: str
    pid: int
    started: float


@dataclasses.dataclass(frozen=True)
class Installed:
    """What is there now.

    :ivar is_there: this worker's hook is.
    :ivar is_foreign: another program is in its place.
    :ivar is_executable, is_current: libvirt can call it; it is as it would be installed now.
    """

    path: pathlib.Path
    is_there: bool = False
    is_foreign: bool = False
    is_executable: bool = False
    is_current: bool = False


class HookFiles:
    """Reads and changes the files below ``hooks``; for one command.

    :param version: of libvirt, as (9, 0); None where it is not known, then a recent one.
    """

    def __init__(self, question: Question, hooks: pathlib.Path = HOOKS,
                 version: tuple[int, ...] | None = None) -> None:
        has_directory = version is None or version >= _DIRECTORY_SINCE
        self._hooks = hooks
        self._path = hooks / "qemu.d" / NAME if has_directory else hooks / "qemu"
        self._program = hooks / "rbd-worker" / "hook.py"
        self._wrapper = wrapper(question, self._program).encode()

    def installed(self) -> Installed:
        """:raises errors.AccessDenied, errors.FileSystemFailed: it cannot be read."""
        with syscalls.translated(str(self._path)):
            if not self._path.exists() and not self._path.is_symlink():
                return Installed(self._path)
            text = self._path.read_bytes() if self._path.is_file() else b""
            if _MARK not in text[:_MARK_WITHIN]:
                return Installed(self._path, is_foreign=True)
            return Installed(
                self._path, is_there=True, is_executable=os.access(self._path, os.X_OK),
                is_current=text == self._wrapper and self._program.is_file()
                and self._program.read_bytes() == _program_text())

    def install(self) -> bool:
        """Have the hook there as it should be now; True where something was changed.

        :raises errors.HookInTheWay: a program that is not this worker's is in its place.
        :raises errors.HooksNotOurs, errors.NoSpace: it cannot be written.
        """
        before = self.installed()
        if before.is_foreign:
            raise errors.HookInTheWay(path=self._path)
        if before.is_current and before.is_executable:
            return False
        with self._changing():
            for path, text, mode in ((self._program, _program_text(), 0o644),
                                     (self._path, self._wrapper, 0o755)):
                path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                self._put(path, text, mode)
        return True

    def remove(self) -> bool:
        """Have this worker's hook gone; True where it was there.

        :raises errors.HookInTheWay: a program that is not this worker's is in its place.
        """
        before = self.installed()
        if before.is_foreign:
            raise errors.HookInTheWay(path=self._path)
        with self._changing():
            for path in (self._path, self._program):  # who is called first
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._program.parent.rmdir()
        return before.is_there

    def is_seen_by(self, daemon: Daemon) -> bool:
        """Whether some hook for guests was there, as it is now, when libvirt started."""
        single, directory = self._hooks / "qemu", self._hooks / "qemu.d"
        names = sorted(directory.iterdir()) if directory.is_dir() else []
        return any(os.access(path, os.X_OK) and path.is_file()
                   and path.stat().st_ctime < daemon.started for path in (single, *names))

    @contextlib.contextmanager
    def _changing(self) -> ty.Iterator[None]:
        try:
            with syscalls.translated(str(self._hooks)):
                yield
        except errors.AccessDenied as e:
            raise errors.HooksNotOurs(path=self._hooks) from e

    def _put(self, path: pathlib.Path, text: bytes, mode: int) -> None:
        """Written where libvirt does not look, then renamed: it never calls half a file."""
        made = self._hooks / f".{path.name}.{os.getpid()}"
        try:
            made.write_bytes(text)
            made.chmod(mode)
            made.rename(path)
        finally:
            made.unlink(missing_ok=True)


def of(settings: conf.Settings, version: tuple[int, ...] | None) -> HookFiles:
    """The hook of a host with these settings; ``version`` as in :class:`HookFiles`."""
    return HookFiles(Question(settings.hook_socket, owner(settings), settings.hook_timeout),
                     version=version)


def owner(settings: conf.Settings) -> str:
    """As whom the worker runs: its own directory tells, or else that of the instances."""
    for path in (settings.state_directory, settings.instances_path):
        if pathlib.Path(path).exists():
            user = pathlib.Path(path).stat().st_uid
            break
    else:
        user = os.geteuid()
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def wrapper(question: Question, program: pathlib.Path) -> str:
    """The shell program that libvirt calls."""
    return _WRAPPER.format(
        socket=shlex.quote(question.socket), owner=shlex.quote(question.owner),
        seconds=f"{question.seconds:g}", killed_after=f"{question.seconds + 1:g}",
        python=PYTHON, program=shlex.quote(str(program)))


def libvirt_version() -> tuple[int, ...] | None:
    """Of the installed daemon; None where there is none that tells."""
    for name in _DAEMONS:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            told = subprocess.run([name, "--version"], capture_output=True, text=True,
                                  timeout=10, check=True).stdout
            if match := re.search(r"(\d+)\.(\d+)\.(\d+)", told):
                return tuple(int(number) for number in match.groups())
    return None


def _boot_time() -> float:
    """Seconds since the epoch; the kernel's own btime is cut to whole seconds."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def daemon(proc: pathlib.Path = pathlib.Path("/proc"),
           boot_time: ty.Callable[[], float] = _boot_time) -> Daemon | None:
    """libvirt's daemon for QEMU; None where it does not run, or not in sight.

    One in a PID namespace below this one, as in a container, is not this host's.
    """
    found: dict[str, Daemon] = {}
    for process in proc.iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                name = (process / "comm").read_text().strip()
                if name in _DAEMONS and _is_of_this_namespace(process):
                    ticks = int((process / "stat").read_text().rpartition(")")[2].split()[19])
                    found.setdefault(name, Daemon(
                        name, int(process.name),
                        boot_time() + ticks / os.sysconf("SC_CLK_TCK")))
    return next((found[name] for name in _DAEMONS if name in found), None)


def _is_of_this_namespace(process: pathlib.Path) -> bool:
    """Whether it has one number only: those in namespaces below have one in each of them."""
    status = (process / "status").read_text()
    return not re.search(r"^NSpid:\s+\d+\s+\d", status, re.MULTILINE)


def _program_text() -> bytes:
    return pathlib.Path(hook.__file__).read_bytes()
