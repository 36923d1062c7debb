# SPDX-License-Identifier: Apache-2.0
"""What systemd is told: ready, how it goes, still alive, stopping.

The protocol is a datagram to the socket that systemd names in the environment
(sd_notify(3)); without that name nothing is sent, so that the worker runs the
same under any other supervisor.  "Still alive" is said by a thread of its own,
and only after it has asked whether the parts that do the work live: a worker
that only looks alive is killed and started again, and its journal takes it
back to where it was.
"""

import collections.abc
import logging
import os
import socket
import threading
import typing as ty

LOG = logging.getLogger(__name__)

#: Seconds between two looks where systemd watches less closely, or not at all.
LONGEST_PAUSE = 30.0

_SOCKET, _USEC, _PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"

Environment: ty.TypeAlias = collections.abc.Mapping[str, str]


class Notifier:
    """Speaks to systemd; thread-safe, never raises, silent where nobody asked for it.

    :param environment: where the names are looked up; the process's by default.
    """

    def __init__(self, environment: Environment | None = None) -> None:
        names = os.environ if environment is None else environment
        self._address = _address(names.get(_SOCKET, ""))
        self.watchdog_seconds = _watchdog_seconds(names) if self._address else None

    @property
    def is_wanted(self) -> bool:
        return self._address is not None

    def ready(self, status: str) -> None:
        """The start is over; ``systemctl start`` returns now."""
        self._send("READY=1", f"STATUS={_line(status)}")

    def status(self, status: str) -> None:
        """One line for ``systemctl status``."""
        self._send(f"STATUS={_line(status)}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
                # systemd reads slowly while it reloads; the worker must not wait for it long
                to.settimeout(1.0)
                to.connect(self._address)
                to.sendall("\n".join(lines).encode("utf-8", "replace"))
        except OSError as e:
            LOG.debug("systemd was not told %s: %s", lines[0], e)


class Watchdog:
    """Says "alive" as long as nothing ails; ``start`` and ``stop`` once each.

    :param ailment: called from this object's thread; what is wrong, for
        people, or None.  Where it hangs or raises, nothing is said.
    :param status: the line for ``systemctl status``; sent when it is another one.
    """

    def __init__(self, notifier: Notifier, ailment: ty.Callable[[], str | None],
                 status: ty.Callable[[], str]) -> None:
        self._notifier = notifier
        self._ailment = ailment
        self._status = status
        self._said = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    @property
    def pause(self) -> float:
        """Seconds between two looks: a third of systemd's patience, so that one may be late."""
        seconds = self._notifier.watchdog_seconds
        return min(LONGEST_PAUSE, seconds / 3) if seconds else LONGEST_PAUSE

    def start(self) -> None:
        """Says "alive" before it returns: systemd counts from READY=1."""
        if self._notifier.is_wanted:
            self._look()
            self._thread.start()

    def stop(self) -> None:
        """Look no more. Stopping has a time limit of its own in systemd."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._stopped.wait(self.pause):
            self._look()

    def _look(self) -> None:
        try:
            ailment = self._ailment()
            status = ailment or self._status()
        except Exception:
            LOG.exception("whether the worker is well could not be found out")
            return
        if ailment is None:
            self._notifier.alive()
        elif status != self._said:
            LOG.error("%s; systemd is not told that the worker is alive", ailment)
        if status != self._said:
            self._said = status
            self._notifier.status(status)


def _address(name: str) -> str | None:
    """A path, or a name in the abstract namespace (written with ``@``)."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _watchdog_seconds(names: Environment) -> float | None:
    """``WatchdogSec=`` of the unit, if it is meant for this process (sd_watchdog_enabled(3))."""
    pid, usec = names.get(_PID, ""), names.get(_USEC, "")
    if pid and pid != str(os.getpid()):
        return None
    return int(usec) / 1e6 if usec.isdecimal() and int(usec) > 0 else None


def _line(text: str) -> str:
    """A line break would begin another word of the protocol."""
    return " ".join(text.split())
