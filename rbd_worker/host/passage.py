# SPDX-License-Identifier: Apache-2.0
"""Open files that pass between two processes, each message with its call's number.

The number pairs a message with the call that goes another way.  A message
that belongs to an earlier call, one that was given up, is closed unread.
"""

import array
import collections.abc
import os
import socket

#: Most descriptors in one message; what comes beyond them the kernel closes.
_MOST = 2
#: Seconds; the other side has sent before it is waited for.
_SECONDS = 5.0
_NUMBER_BYTES = 8


class Passage:
    """One end; used by one thread at a time."""

    def __init__(self, end: socket.socket) -> None:
        end.settimeout(_SECONDS)
        self._end = end

    def send(self, number: int, descriptors: collections.abc.Sequence[int]) -> None:
        """Copies of the descriptors are on their way; ours stay open.

        :raises OSError: the other end is closed, or does not empty its queue.
        """
        socket.send_fds(self._end, [number.to_bytes(_NUMBER_BYTES, "big")], list(descriptors))

    def receive(self, number: int, count: int) -> list[int]:
        """The ``count`` descriptors of the call ``number``, the caller's to close.

        :raises OSError: they are not there; nothing of what came stays open.
        """
        while True:
            came, descriptors = self._receive()
            if came == number and len(descriptors) == count:
                return descriptors
            for descriptor in descriptors:
                os.close(descriptor)
            if came >= number:
                raise ConnectionAbortedError(f"call {number} came with {len(descriptors)} "
                                             f"descriptors of call {came}")

    def close(self) -> None:
        self._end.close()

    def _receive(self) -> tuple[int, list[int]]:
        size = array.array("i").itemsize
        # not socket.recv_fds, which leaves its flags out: no child may inherit these
        data, ancillary, _, _ = self._end.recvmsg(
            _NUMBER_BYTES, socket.CMSG_LEN(_MOST * size), socket.MSG_CMSG_CLOEXEC)
        descriptors = array.array("i")
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(content[:len(content) - len(content) % size])
        if len(data) != _NUMBER_BYTES:
            for descriptor in descriptors:
                os.close(descriptor)
            raise ConnectionResetError("the other process has ended")
        return int.from_bytes(data, "big"), list(descriptors)


def pair() -> tuple[Passage, Passage]:
    """Both ends of a new passage."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Passage(one), Passage(other)
