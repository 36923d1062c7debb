# SPDX-License-Identifier: Apache-2.0
"""Both ends of the hook's socket, each fed with what the other one would never say."""

import socket
import time

from rbd_worker import hook
from rbd_worker.triggers import hook_socket
from tests.fuzz import oracle
from tests.fuzz.targets import Target


def question() -> Target:
    """What the worker reads from whoever connects."""
    xml = b"<domain/>"
    seeds = (b"rbd-worker-hook/1 arrive 9\n" + xml, b"rbd-worker-hook/1 ping 0\n",
             b"rbd-worker-hook/1 arrive 99999999\n", b"rbd-worker-hook/1 arrive -1\n",
             b"rbd-worker-hook/2 arrive 1\nx", "rbd-worker-hook/1 arrive ²\nx".encode(),
             b"rbd-worker-hook/1 arrive 1\nxyz", b"\n", b"x" * 200)
    return Target(_question, seeds, (b"rbd-worker-hook/1", b"arrive", b"ping", b"\n", b" "), 512)


def answer() -> Target:
    """What the hook reads from whoever listens."""
    seeds = (b"pass\n", b"pass 0.1 0.000\n", b"refuse no secret\n", b"xml 9\n<domain/>",
             b"xml 10\n<domain/>", b"xml 0\n", b"refuse \x1b[31mred\n", b"pass\nmore", b"",
             b"xml " + b"9" * 5000 + b"\nx")
    return Target(_answer, seeds, (b"pass", b"refuse", b"xml", b"\n", b" "), 8192)


def _question(data: bytes) -> None:
    worker, asker = socket.socketpair()
    with worker, asker:
        asker.sendall(data)
        asker.shutdown(socket.SHUT_WR)
        found = oracle.outcome_of(
            lambda: hook_socket._question(worker, time.monotonic() + 5), hook_socket._NoQuestion)
    if not isinstance(found, Exception):
        kind, xml = found
        oracle.require(kind in (b"arrive", b"ping"), "an unknown kind of question is answered")
        size = data.partition(b"\n")[0].split(b" ")[2]
        oracle.require(data.endswith(xml) and len(xml) == int(size) <= hook.MAX_XML_BYTES,
                       "the XML is not what was sent")


def _answer(data: bytes) -> None:
    found = oracle.outcome_of(lambda: hook._parsed(data), hook.Unanswered)
    if isinstance(found, Exception):
        return
    oracle.require(found.verdict in ("pass", "refuse", "xml"), "an unknown verdict is followed")
    if found.verdict == "xml":
        oracle.require(found.text and data.endswith(found.text), "a part counts as the whole")
    else:
        shown = hook.printable(found.text)
        oracle.require(shown.isascii() and len(shown) <= hook.MAX_LINE_BYTES, "the line is long")
        oracle.check_text(shown)
