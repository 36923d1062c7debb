# SPDX-License-Identifier: Apache-2.0
"""A daemon inside a host: start, stop, kill, freeze.

It runs as a child of the host's process 1, so that it outlives whoever started
it and ends with the host.  Its number is kept in the host's /run/lab; a mark in
its environment tells it from a process that got the same number later.
"""

import collections.abc
import contextlib
import dataclasses
import os
import pathlib
import signal
import subprocess

from devstack.lab import errors, processes
from devstack.lab.host import ENVIRONMENT, Host

_MARK = "RBDW_LAB_SERVICE"


@dataclasses.dataclass(frozen=True)
class Service:
    """One daemon; equal descriptions name the same daemon."""

    host: Host
    name: str
    argv: tuple[str, ...]
    env: collections.abc.Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def log(self) -> pathlib.Path:
        return self.host.lay.log(f"{self.host.name}-{self.name}")

    @property
    def _pid_file(self) -> pathlib.Path:
        return self.host.root / f"run/lab/{self.name}.pid"

    @property
    def inner_pid(self) -> int | None:
        """Its number as the host counts, of the last start; None before the first."""
        try:
            return int(self._pid_file.read_text())
        except (OSError, ValueError):
            return None

    @property
    def pid(self) -> int | None:
        """Its number as this machine counts; None when it does not run."""
        inner = self.inner_pid
        outer = self.host.pids().get(inner) if inner is not None else None
        if outer is None:
            return None
        return outer if self._is_marked(outer) else None

    def family(self) -> list[int]:
        """Numbers of the daemon and of what it started for its own work, as this machine counts.

        rabbitmq-server is a shell that waits for the broker proper.  A guest is
        no part of libvirtd: it gets an environment without the mark.
        """
        return [outer for outer in self.host.pids().values() if self._is_marked(outer)]

    def _is_marked(self, outer: int) -> bool:
        return f"{_MARK}={self.name}" in processes.environment(outer)

    def is_running(self) -> bool:
        return self.pid is not None

    def start(self) -> None:
        """Start it unless it runs; returns as soon as the process exists."""
        if self.is_running():
            return
        self._pid_file.parent.mkdir(parents=True, exist_ok=True)
        self._pid_file.unlink(missing_ok=True)
        inner_file = f"/run/lab/{self.name}.pid"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            subprocess.run(
                self.host.daemon_command(
                    ["sh", "-c", 'echo $$ > "$0.new"; mv "$0.new" "$0"; exec "$@"',
                     inner_file, *self.argv]),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True,
                timeout=processes.patience(20), env={**ENVIRONMENT, _MARK: self.name, **self.env})
        processes.wait_until(self._pid_file.exists, 10, f"the start of {self.name}", self.log)

    def stop(self, seconds: float = 30.0, number: int = signal.SIGTERM) -> None:
        """Ask it to end and wait for that.

        :raises errors.TookTooLong: it still runs; it is left running.
        """
        pid = self.pid
        if pid is None:
            return
        os.kill(pid, number)
        what = f"the end of {self.name} on {self.host.name}"
        processes.wait_until(lambda: not self.is_running(), seconds, what, self.log)
        self._signal(number)  # what it started and did not end itself
        processes.wait_until(lambda: not self.family(), seconds, what, self.log)

    def kill9(self) -> None:
        """SIGKILL for it and all that is part of it, and wait until they are gone."""
        def is_gone() -> bool:
            self._signal(signal.SIGKILL)  # also what one of them had just started
            return not self.family()

        processes.wait_until(is_gone, 10, f"the end of {self.name} on {self.host.name}", self.log)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        self._demand_running()
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._demand_running()
        self._signal(signal.SIGCONT)

    def _demand_running(self) -> None:
        if not self.is_running():
            raise errors.LabError(f"{self.name} does not run on {self.host.name}")

    def _signal(self, number: int) -> None:
        for pid in self.family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def exit_status(self, seconds: float = 10.0) -> int:
        """What the last process ended with, minus the signal's number if by a signal."""
        record = self.host.root / f"run/lab/exits/{self.inner_pid}"
        processes.wait_until(record.exists, seconds, f"the exit status of {self.name}",
                             self.log)
        processes.wait_until(lambda: record.read_text() != "", seconds, "its being written")
        return int(record.read_text())
