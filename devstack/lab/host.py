# SPDX-License-Identifier: Apache-2.0
"""One host of the lab: namespaces of its own, entered from outside.

A host exists as long as its process 1 (``init.py``).  It is recognised by its
command line, which holds the host's directory; nothing else needs to be
remembered about it.
"""

import collections.abc
import dataclasses
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
import typing as ty

from devstack.lab import errors, layout, network, processes

INIT = pathlib.Path(__file__).with_name("init.py")
NAMESPACES = ("--mount", "--uts", "--net", "--pid")

#: Commands see nothing of the caller's environment.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8",
               "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


@dataclasses.dataclass(frozen=True)
class Host:
    """One host; ``pid`` is its process 1 as this machine numbers it."""

    name: str
    lay: layout.Layout
    pid: int

    @property
    def address(self) -> str:
        return self.lay.address(self.name)

    @property
    def root(self) -> pathlib.Path:
        """Its private paths as seen from outside: ``root / "var/lib/nova"``."""
        return self.lay.host_root(self.name)

    @property
    def nova_instances(self) -> pathlib.Path:
        """As the host has it: what is mounted there, too."""
        return pathlib.Path(f"/proc/{self.pid}/root/var/lib/nova/instances")

    @property
    def libvirt_uri(self) -> str:
        """Reaches this host's libvirt from outside and from the other host."""
        return f"qemu+tcp://{self.address}/system"

    def command(self, argv: collections.abc.Sequence[str]) -> list[str]:
        """``argv`` as this machine has to start it to run inside the host.

        nsenter stays outside as its parent; who kills that ends the command too.
        """
        return [*self._enter(), "setpriv", "--pdeathsig", "KILL", "--", *argv]

    def daemon_command(self, argv: collections.abc.Sequence[str]) -> list[str]:
        """The same for a command that shall go on when its starter ends."""
        return [*self._enter(), "setsid", "--fork", *argv]

    def _enter(self) -> list[str]:
        # the root is named apart, since in a chroot it is not the mount namespace's own
        return ["nsenter", "-t", str(self.pid), *NAMESPACES, "--root", "--wd", "--"]

    def run(self, argv: collections.abc.Sequence[str], check: bool = True,
            timeout: float = 60.0, input: str | bytes | None = None,
            env: collections.abc.Mapping[str, str] | None = None,
            ) -> subprocess.CompletedProcess[str]:
        """Run a command inside the host and wait for it; output is text.

        :param timeout: in seconds, see :func:`processes.patience`.
        :raises errors.CommandFailed: it ended with an error and ``check`` holds.
        :raises errors.TookTooLong: it was killed after that time.
        """
        timeout = processes.patience(timeout)
        data = input.encode() if isinstance(input, str) else input
        try:
            done = subprocess.run(self.command(argv), input=data or b"", capture_output=True,
                                  timeout=timeout, env={**ENVIRONMENT, **(env or {})},
                                  check=False)
        except subprocess.TimeoutExpired as e:
            raise errors.TookTooLong(f"{shlex.join(argv)!r} on {self.name}", timeout) from e
        out, err = (raw.decode(errors="replace") for raw in (done.stdout, done.stderr))
        if check and done.returncode:
            raise errors.CommandFailed(f"{shlex.join(argv)} on {self.name}", done.returncode,
                                       err + out)
        return subprocess.CompletedProcess(argv, done.returncode, out, err)

    def popen(self, argv: collections.abc.Sequence[str], **options: ty.Any,
              ) -> subprocess.Popen[ty.Any]:
        """Start a command inside the host; signals to it go through :meth:`kill9`."""
        options.setdefault("env", ENVIRONMENT)
        return subprocess.Popen(self.command(argv), **options)

    def virsh(self, *argv: str, check: bool = True, timeout: float = 60.0,
              input: str | None = None) -> str:
        """What ``virsh`` prints on this host, without the surrounding blank."""
        return self.run(["virsh", "-q", "-c", "qemu:///system", *argv], check=check,
                        timeout=timeout, input=input).stdout.strip()

    def write(self, path: str, text: str | bytes, mode: int = 0o644) -> pathlib.Path:
        """Write one of the host's private files; returns where it is from outside."""
        kept = self.root / path.lstrip("/")
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(text.encode() if isinstance(text, str) else text)
        kept.chmod(mode)
        return kept

    def pids(self) -> dict[int, int]:
        """The host's processes: their number inside to their number outside."""
        found = {}
        try:
            own = os.readlink(f"/proc/{self.pid}/ns/pid")
        except OSError:
            return {}
        for pid in processes.all_pids():
            try:
                if os.readlink(f"/proc/{pid}/ns/pid") != own:
                    continue
                status = pathlib.Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            if "State:\tZ" in status:
                continue
            line = next(line for line in status.splitlines() if line.startswith("NSpid:"))
            found[int(line.split()[-1])] = pid
        return found

    def kill9(self, *inner: int) -> None:
        """SIGKILL processes, given as the host itself numbers them."""
        numbers = self.pids()
        for pid in inner:
            if pid in numbers and pid != 1:
                os.kill(numbers[pid], signal.SIGKILL)

    def is_up(self) -> bool:
        return _is_init(processes.command_line(self.pid), self.root)

    def plug(self, connected: bool) -> None:
        """Pull the host's network cable, or put it back."""
        network.plug(self.lay, self.name, connected)

    def divert(self, other: "Host", cut: bool) -> None:
        """Lose whatever this host sends to ``other``, silently; or end that."""
        self.run(["ip", *network.divert_commands(other.address, cut)])


def _is_init(argv: list[str], host_root: pathlib.Path) -> bool:
    return (_is_any_init(argv) and argv[-1] == str(host_root)
            and not argv[0].endswith("unshare"))


def _is_of_lab(argv: list[str], root: pathlib.Path) -> bool:
    return _is_any_init(argv) and pathlib.PurePath(argv[-1]).parent == root


def _is_any_init(argv: list[str]) -> bool:
    """Whichever checkout started it: the directory of the lab tells whose host it is."""
    return len(argv) > 1 and pathlib.PurePath(argv[-2]).parts[-3:] == INIT.parts[-3:]


def start(lay: layout.Layout, names: collections.abc.Iterable[str],
          seconds: float = 15.0) -> dict[str, Host]:
    """Start the hosts' process 1, all at once, and wait until their roots are built."""
    started = {name: _start_one(lay, name) for name in names}
    hosts = {}
    for name, process in started.items():
        assert process.stdout
        if process.stdout.readline() != b"ready\n":
            raise errors.TookTooLong(f"the host {name}", seconds, lay.log(name))
        process.stdout.close()
        hosts[name] = attach(lay, name)
    return hosts


def _start_one(lay: layout.Layout, name: str) -> subprocess.Popen[bytes]:
    lay.log(name).parent.mkdir(parents=True, exist_ok=True)
    with lay.log(name).open("ab") as log:
        return subprocess.Popen(
            ["unshare", *NAMESPACES, "--fork", "--kill-child", sys.executable, "-I", "-S",
             str(INIT), str(lay.host_root(name))],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, cwd="/",
            env=ENVIRONMENT, start_new_session=True)


def attach(lay: layout.Layout, name: str) -> Host:
    """The running host of that name.

    :raises errors.NotUp: it has no process 1.
    """
    root = lay.host_root(name)
    found = processes.find(lambda argv: _is_init(argv, root))
    if not found:
        raise errors.NotUp(f"the host {name} of the lab in {lay.root} is not running; "
                           "run: make lab-up")
    return Host(name, lay, found[0])


def leftover(root: pathlib.Path) -> list[int]:
    """Every process 1 (and its parent) of the lab at ``root``."""
    return processes.find(lambda argv: _is_of_lab(argv, root))


def end_all(root: pathlib.Path) -> None:
    """End every host of the lab at ``root`` with all that runs there.

    Process 1 goes first and its parent then ends by itself: a parent that is
    killed could not bury it.
    """
    def is_first(argv: list[str]) -> bool:
        return _is_of_lab(argv, root) and not argv[0].endswith("unshare")

    def is_any(argv: list[str]) -> bool:
        return _is_of_lab(argv, root)

    processes.kill(processes.find(is_first), is_first)
    deadline = time.monotonic() + processes.patience(2)
    while leftover(root) and time.monotonic() < deadline:
        time.sleep(0.01)
    processes.kill(leftover(root), is_any)
