# SPDX-License-Identifier: Apache-2.0
"""The Unix socket on which the libvirt hook asks about an arriving guest.

Only root (libvirt runs its hooks as root) and the worker's own user may ask;
the kernel says who does.  The question is a line, ``rbd-worker-hook/1 arrive
SIZE``, and so many bytes of XML; the answer is ``pass``, ``refuse SENTENCE``
or ``xml SIZE`` and the XML.  ``ping`` is for the operator's command.  Each
question has a thread and a time limit: a slow asker holds up nobody else.
What cannot be answered is closed without a word, and the hook lets the guest
in.
"""

import contextlib
import logging
import os
import pathlib
import select
import socket
import struct
import threading
import time
import typing as ty

from rbd_worker import hook, news
from rbd_worker.migration.arrival import Answer
from rbd_worker.version import VERSION

LOG = logging.getLogger(__name__)

Answering: ty.TypeAlias = ty.Callable[[bytes, ty.Callable[[], bool]], Answer]

#: More at a time wait in the kernel; guests do not arrive in crowds.
MAX_ASKERS = 16
_BACKLOG = 32
_PIECE = 1 << 16
_MAX_LINE = 64


class _NoQuestion(Exception):
    """What came in is not a question, or not in time."""


class HookSocket:
    """Answers from ``start`` to ``stop``.

    :param path: of the socket; its directory exists, or is made for the worker alone.
    :param seconds: for one question and its answer.
    :param answer: called from a thread of its own with the XML, and with what tells whether
        the hook still waits.
    :param told: hears of every answer.
    """

    def __init__(self, path: str, seconds: float, answer: Answering,
                 told: news.Listener | None = None) -> None:
        self._path = pathlib.Path(path)
        self._seconds = seconds
        self._answer = answer
        self._told = told or news.Listener()
        self._users = frozenset({0, os.geteuid()})
        self._askers = threading.BoundedSemaphore(MAX_ASKERS)
        self._socket: socket.socket | None = None
        self._identity: tuple[int, int] | None = None
        self._last_asked = 0.0

    def start(self) -> None:
        """Listen; where that cannot be, the worker goes on without: so does every guest."""
        try:
            self._socket = self._listening()
        except OSError as e:
            LOG.error("%s: %s; arriving guests are let in without a look. Give another path in "
                      "[rbd_worker] hook_socket, or mend this one and restart",
                      self._path, e.strerror or e)
            return
        threading.Thread(target=self._accept, args=(self._socket,), name="hook-socket",
                         daemon=True).start()

    def stop(self) -> None:
        """Answer nobody any more; safe to repeat and without a start."""
        listening, self._socket = self._socket, None
        if listening is None:
            return
        with contextlib.suppress(OSError):
            status = self._path.lstat()
            if (status.st_dev, status.st_ino) == self._identity:  # not a newer worker's
                self._path.unlink()
            listening.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
        listening.close()

    # -- listening -------------------------------------------------------------

    def _listening(self) -> socket.socket:
        """Bound beside the path and renamed: it is never there without its mode."""
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        made = self._path.with_name(f".{os.getpid()}.sock")
        made.unlink(missing_ok=True)
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            one.bind(str(made))
            made.chmod(0o600)
            one.listen(_BACKLOG)
            status = made.lstat()
            self._identity = status.st_dev, status.st_ino
            made.rename(self._path)
        except OSError:
            one.close()
            made.unlink(missing_ok=True)
            raise
        return one

    def _accept(self, listening: socket.socket) -> None:
        while self._socket is listening:
            self._askers.acquire()
            try:
                connection, _ = listening.accept()
            except OSError as e:
                self._askers.release()
                if self._socket is listening:
                    LOG.error("%s: %s; trying again", self._path, e)
                    time.sleep(1)
                continue
            try:
                threading.Thread(target=self._serve, args=(connection,), name="hook",
                                 daemon=True).start()
            except RuntimeError as e:  # no thread is left: the hook lets its guest in at once
                connection.close()
                self._askers.release()
                LOG.error("a question on %s is not answered: %s", self._path, e)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._serve_one(connection, time.monotonic() + self._seconds)
        except (_NoQuestion, OSError) as e:
            LOG.warning("a question on %s is not answered: %s", self._path, e)
        except Exception:
            LOG.exception("a question of the libvirt hook failed in a way that is not foreseen")
        finally:
            self._askers.release()

    # -- one question ----------------------------------------------------------

    def _serve_one(self, connection: socket.socket, deadline: float) -> None:
        began = time.monotonic()
        user = _user_of(connection)
        if user not in self._users:
            raise _NoQuestion(f"user {user} may not ask")
        kind, xml = _question(connection, deadline)
        if kind == b"ping":
            reply = f"pass {VERSION} {self._last_asked:.3f}\n".encode()
        else:
            self._last_asked = time.time()
            reply = _reply(self._answer(xml, lambda: _is_awaited(connection, deadline)))
        connection.settimeout(_left(deadline))
        connection.sendall(reply)
        if kind != b"ping":
            self._told.hook_answered(reply.split(None, 1)[0].decode(), time.monotonic() - began)


def _user_of(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED,
                                        struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def _question(connection: socket.socket, deadline: float) -> tuple[bytes, bytes]:
    """The kind and the XML, as far as they keep to the form."""
    line, newline, data = b"", b"", bytearray()
    while not newline and len(line) <= _MAX_LINE:
        data += _received(connection, deadline)
        line, newline, _ = bytes(data[:_MAX_LINE + 1]).partition(b"\n")
    words = line.split(b" ")
    if not newline or len(words) != 3 or words[0] != hook.GREETING or not words[2].isdigit():
        raise _NoQuestion("it is not of this worker's hook; run 'rbd-workerctl hook install'")
    size = int(words[2])
    if words[1] not in (b"arrive", b"ping") or size > hook.MAX_XML_BYTES:
        raise _NoQuestion("it asks for something else, or is too long")
    del data[:len(line) + 1]
    while len(data) < size:
        data += _received(connection, deadline)
    if len(data) > size:
        raise _NoQuestion("it is longer than it says")
    return words[1], bytes(data)


def _received(connection: socket.socket, deadline: float) -> bytes:
    connection.settimeout(_left(deadline))
    piece = connection.recv(_PIECE)
    if not piece:
        raise _NoQuestion("it ended too early")
    return piece


def _is_awaited(connection: socket.socket, deadline: float) -> bool:
    """The hook's own time began earlier than the deadline's: it may have left already.

    So it has above all where this worker was stopped or starved meanwhile.
    """
    if time.monotonic() >= deadline:
        return False
    poll = select.poll()
    poll.register(connection, 0)  # a hang-up is always told
    return not poll.poll(0)


def _reply(answer: Answer) -> bytes:
    if answer.refusal:
        return b"refuse " + hook.printable(answer.refusal.encode()).encode() + b"\n"
    if answer.xml is not None:
        return b"xml %d\n" % len(answer.xml) + answer.xml
    return b"pass\n"


def _left(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise _NoQuestion("it was not asked and answered in time")
    return seconds
