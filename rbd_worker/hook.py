# SPDX-License-Identifier: Apache-2.0
"""The libvirt hook: asks this host's worker about a guest that is about to arrive.

    python3 -I -S hook.py SOCKET OWNER SECONDS NAME < domain.xml

libvirt waits for it, and so does the guest.  It therefore knows nothing but
how to put one question: the domain's XML goes to the worker's Unix socket,
and what comes back is written to stdout (a changed XML), or to stderr with
exit status 3 (a refusal, which libvirt passes on to the source).  Whatever
goes wrong before a complete answer is there lets the guest in unchanged:
exit status 0, nothing on stdout, one line in the log.

The file stands alone and is installed as a copy, so that it works whatever
becomes of the package.  It uses the standard library only, of any Python from
3.6 on, and of that only what loads in a moment: ``socket`` and ``typing``
would take longer than all the rest together.
"""

import _socket
import os
import select
import stat
import sys
import time

REFUSED = 3

#: The first word of a question, with the protocol's version.
GREETING = b"rbd-worker-hook/1"
#: libvirt itself carries no longer text between two hosts.
MAX_XML_BYTES = 4 << 20
MAX_LINE_BYTES = 2048
_PIECE = 1 << 16


class Unanswered(Exception):
    """There is no answer that could be relied upon."""


class Answer:
    """What the worker says: ``verdict`` is ``pass``, ``refuse`` or ``xml``."""

    def __init__(self, verdict: str, text: bytes) -> None:
        self.verdict = verdict
        self.text = text


def main(arguments: "list[str]") -> int:
    """Ask about the guest on stdin; the exit status."""
    try:
        path, owner, seconds, name = arguments
        deadline = time.monotonic() + float(seconds)
        answer = ask(path, owner, b"arrive", _read_stdin(deadline), deadline)
    except Exception as e:  # noqa: BLE001 -- whatever it is, the guest must not pay for it
        reason = str(e) if isinstance(e, Unanswered) else f"{type(e).__name__}: {e}"
        name = printable(arguments[-1].encode("utf-8", "replace"), 64) if arguments else "?"
        _log(f"{name} comes in without a word from rbd-worker: {reason}")
        return 0
    if answer.verdict == "refuse":
        sys.stderr.write(f"rbd-worker: {printable(answer.text)}\n")
        return REFUSED
    if answer.verdict == "xml":
        _write_stdout(answer.text)  # an error here is status 1: a part must not count as all
    return 0


def ask(path: str, owner: str, question: bytes, xml: bytes, deadline: float) -> Answer:
    """Put one question to the worker that listens at ``path``.

    :param owner: the user, name or number, who may listen there besides root
        and the caller's own.
    :param question: ``arrive`` with the domain's XML, or ``ping`` with none.
    :param deadline: of the monotonic clock, for everything together.
    :raises Unanswered: no answer, not in time, not by the right one or not whole.
    """
    users = _trusted(owner)
    _check_path(path, users)
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(_left(deadline))
        connection.connect(path)
        _check_server(connection, users)
        connection.settimeout(_left(deadline))
        connection.sendall(b"%s %s %d\n" % (GREETING, question, len(xml)) + xml)
        return _parsed(_received(connection, deadline))
    except _socket.timeout as e:  # TimeoutError since Python 3.10
        raise Unanswered(f"{path}: no answer in time") from e
    except OSError as e:
        raise Unanswered(f"{path}: {e}") from e
    finally:
        connection.close()


def printable(text: bytes, limit: int = MAX_LINE_BYTES) -> str:
    """One line of printable ASCII; other characters as question marks."""
    return "".join(chr(c) if 32 <= c < 127 else "?" for c in text.strip()[:limit])


def _trusted(owner: str) -> "set[int]":
    if owner.isdigit():
        return {0, os.geteuid(), int(owner)}
    import pwd
    try:
        return {0, os.geteuid(), pwd.getpwnam(owner).pw_uid}
    except KeyError:
        return {0, os.geteuid()}


def _check_path(path: str, users: "set[int]") -> None:
    """Nobody else may have put the socket there, or may put another one there."""
    try:
        found, directory = os.lstat(path), os.stat(os.path.dirname(path))
    except OSError as e:
        raise Unanswered(f"{path}: {e.strerror} (does rbd-worker run?)") from e
    if not stat.S_ISSOCK(found.st_mode):
        raise Unanswered(f"{path} is not a socket")
    if found.st_uid not in users or found.st_mode & 0o002:
        raise Unanswered(f"{path} belongs to user {found.st_uid} with mode "
                         f"{stat.S_IMODE(found.st_mode):o}, which is not trusted")
    if directory.st_uid not in users or directory.st_mode & 0o022:
        raise Unanswered(f"others than the worker may write to the directory of {path}")


def _check_server(connection: "_socket.socket", users: "set[int]") -> None:
    credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    user = int.from_bytes(credentials[4:8], sys.byteorder)
    if user not in users:
        raise Unanswered(f"user {user} listens there, who is not trusted")


def _received(connection: "_socket.socket", deadline: float) -> bytes:
    data = bytearray()
    while len(data) <= MAX_XML_BYTES + MAX_LINE_BYTES:
        connection.settimeout(_left(deadline))
        piece = connection.recv(_PIECE)
        if not piece:
            return bytes(data)
        data += piece
    raise Unanswered("the answer is too long")


def _parsed(data: bytes) -> Answer:
    """``pass``, ``refuse SENTENCE`` or ``xml SIZE`` in a line, and the XML after it."""
    line, newline, rest = data.partition(b"\n")
    verdict, _, text = line.partition(b" ")
    if newline and verdict in (b"pass", b"refuse") and not rest:
        return Answer(verdict.decode(), text)
    if newline and verdict == b"xml" and rest and text == b"%d" % len(rest):
        return Answer("xml", rest)
    raise Unanswered("the answer is not complete")


def _read_stdin(deadline: float) -> bytes:
    poll = select.poll()
    poll.register(0, select.POLLIN)
    data = bytearray()
    while len(data) <= MAX_XML_BYTES:
        if not poll.poll(_left(deadline) * 1000):
            raise Unanswered("libvirt did not hand over the XML in time")
        piece = os.read(0, _PIECE)
        if not piece:
            break
        data += piece
    if not data.strip() or len(data) > MAX_XML_BYTES:
        raise Unanswered(f"the XML is {'too long' if data.strip() else 'empty'}")
    return bytes(data)


def _write_stdout(text: bytes) -> None:
    while text:
        text = text[os.write(1, text):]


def _left(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise Unanswered("no answer in time")
    return seconds


def _log(line: str) -> None:
    sys.stderr.write("rbd-worker: " + line + "\n")
    import syslog
    syslog.openlog("rbd-worker-hook", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_WARNING, line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
