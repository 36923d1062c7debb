# SPDX-License-Identifier: Apache-2.0
"""One warm connection to libvirt, made again whenever it is lost.

Everything in this process that asks libvirt something shares it, and every
question has a time limit (see :mod:`rbd_worker.host.bounded`).  libvirt's own
event loop runs in one thread of the process: it carries the keepalive that
finds a silent libvirtd, notices a closed connection at once, and calls
whoever follows the events of domains.  A guest's move has a connection of its
own, since libvirtd answers only a few calls a connection at a time
(``max_client_requests``).
"""

import contextlib
import logging
import threading
import typing as ty

import libvirt

from rbd_worker import errors
from rbd_worker.host.bounded import Bounded

LOG = logging.getLogger(__name__)

#: A peer that misses so many answers, so many seconds apart, is gone.
KEEPALIVE_SECONDS, KEEPALIVE_COUNT = 5, 5

_LOOP_LOCK = threading.Lock()
_LOOP: list[threading.Thread] = []

T = ty.TypeVar("T")


class Connection:
    """Thread-safe; opened by the first question.

    :param uri: as ``virsh -c`` takes it.
    :param timeout: seconds that one question may take.
    """

    def __init__(self, uri: str, timeout: float) -> None:
        self.uri = uri
        self._bounded = Bounded("libvirt", timeout, self._unavailable)
        #: Held while a connection is opened, which may take for ever.
        self._opening = threading.Lock()
        #: Guards what follows; held for moments only.
        self._lock = threading.Lock()
        self._current: libvirt.virConnect | None = None
        self._is_closed = False
        self._on_opened: ty.Callable[[libvirt.virConnect], None] = lambda connection: None
        self._on_lost: ty.Callable[[], None] = lambda: None

    def ask(self, question: ty.Callable[[libvirt.virConnect], T],
            seconds: float | None = None) -> T:
        """Answer ``question``, which must be safe to repeat, with an open connection.

        A connection that turns out to be lost is made again, once.

        :param seconds: another limit than the connection's.
        :raises errors.HypervisorUnavailable: no connection, or no answer in time.
        :raises libvirt.libvirtError: libvirt's own answer, for the caller to sort.
        """
        return self._bounded.run(lambda: self._asked(question), seconds)

    def open_another(self) -> libvirt.virConnect:
        """A connection for the caller alone, who closes it.

        :raises errors.HypervisorUnavailable: it cannot be had.
        """
        return self._bounded.run(self._open)

    def follow(self, on_opened: ty.Callable[[libvirt.virConnect], None],
               on_lost: ty.Callable[[], None]) -> None:
        """Take part in the life of every connection from now on.

        :param on_opened: called with a new connection before anybody asks it
            anything; raises nothing.
        :param on_lost: called from libvirt's event loop or from a question,
            maybe twice; must be short.
        """
        with self._lock:
            self._on_opened, self._on_lost = on_opened, on_lost
            self._retire()  # one that is open already was not seen to open

    def close(self) -> None:
        """Let go of the connection; later questions are refused."""
        with self._lock:
            self._is_closed = True
            self._retire()

    def _asked(self, question: ty.Callable[[libvirt.virConnect], T]) -> T:
        connection = self._ensure()
        try:
            return question(connection)
        except libvirt.libvirtError:
            if _is_alive(connection):
                raise
        self._forget(connection)
        connection = self._ensure()
        try:
            return question(connection)
        except libvirt.libvirtError as e:
            if _is_alive(connection):
                raise
            self._forget(connection)
            raise self._unavailable(str(e)) from e

    def _ensure(self) -> libvirt.virConnect:
        with self._opening:
            while (connection := self._usable()) is None:
                connection = self._open()
                with contextlib.suppress(libvirt.libvirtError):  # libvirt's test driver
                    connection.registerCloseCallback(self._lost, None)
                on_opened = self._on_opened
                on_opened(connection)
                with self._lock:
                    self._current = connection
                    if self._is_closed or self._on_opened is not on_opened:
                        self._retire()  # somebody else follows by now: once more
            return connection

    def _usable(self) -> libvirt.virConnect | None:
        with self._lock:
            if self._is_closed:
                raise self._unavailable("this worker is stopping")
            if self._current is not None and not _is_alive(self._current):
                self._retire()
                self._on_lost()  # libvirt's own call may come too late by now
            return self._current

    def _open(self) -> libvirt.virConnect:
        ensure_event_loop()
        try:
            connection = libvirt.open(self.uri)
        except libvirt.libvirtError as e:
            raise self._unavailable(str(e)) from e
        try:
            connection.setKeepAlive(KEEPALIVE_SECONDS, KEEPALIVE_COUNT)
        except libvirt.libvirtError:
            LOG.debug("%s has no keepalive", self.uri)  # libvirt's test driver
        return connection

    def _forget(self, connection: libvirt.virConnect) -> None:
        with self._lock:
            if self._current is connection:
                self._retire()
                self._on_lost()

    def _retire(self) -> None:
        """Let go of the current connection, under the lock.

        Closing it here could pull it away under another thread that uses it,
        and would wait for a libvirtd that does not answer: its last reference
        goes in a thread of its own.
        """
        if self._current is not None:
            handed_over = [self._current]
            self._current = None
            threading.Thread(target=_let_go, args=(handed_over,), name="libvirt-close",
                             daemon=True).start()

    def _lost(self, connection: libvirt.virConnect, reason: int, opaque: object) -> None:
        LOG.info("the connection to libvirt at %s is lost (reason %s)", self.uri, reason)
        self._on_lost()

    def _unavailable(self, reason: str) -> errors.HypervisorUnavailable:
        return errors.HypervisorUnavailable(uri=self.uri, reason=reason)


def ensure_event_loop() -> None:
    """Run libvirt's event loop in a thread of this process, once."""
    with _LOOP_LOCK:
        if _LOOP:
            return
        # libvirt prints every error to stderr otherwise; they are raised as well
        libvirt.registerErrorHandler(lambda context, error: None, None)
        libvirt.virEventRegisterDefaultImpl()
        thread = threading.Thread(target=_run_loop, name="libvirt-loop", daemon=True)
        thread.start()
        _LOOP.append(thread)


def _run_loop() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError as e:
            LOG.error("libvirt's event loop failed: %s", e)


def _let_go(handed_over: list[libvirt.virConnect]) -> None:
    connection = handed_over.pop()
    with contextlib.suppress(libvirt.libvirtError):
        connection.unregisterCloseCallback()  # libvirt holds the connection by it


def _is_alive(connection: libvirt.virConnect) -> bool:
    try:
        return bool(connection.isAlive())
    except libvirt.libvirtError:
        return False
