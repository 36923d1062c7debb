# SPDX-License-Identifier: Apache-2.0
"""Pieces of a peer's file, the next ones asked for while one is on its way.

A piece takes its time at both ends (compression, two layers of JSON, the
broker), so that one question after the other leaves either end idle half of
the time.  Where data follows upon data, a few more pieces are asked for
beforehand; behind a hole that begins anew, since nobody knows yet where data
goes on.
"""

import concurrent.futures
import types
import typing as ty

from rpcapi.fields import CHUNK_BYTES
from rpcapi.payloads import Chunk

#: Pieces that are under way at the same time: enough to keep both ends at work,
#: and all that may be in memory for one file.
DEPTH = 4


class ReadAhead:
    """Used by one thread, in a ``with`` block; afterwards no further piece is asked for.

    :param fetch: asks for the piece at an offset; called from several threads.
    :param size: of the file, in bytes.
    """

    def __init__(self, fetch: ty.Callable[[int], Chunk], size: int) -> None:
        self._fetch = fetch
        self._size = size
        self._depth = 1
        self._expected = 0
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._coming: dict[int, concurrent.futures.Future[Chunk]] = {}

    def __enter__(self) -> "ReadAhead":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def chunk(self, offset: int) -> Chunk:
        """The piece at ``offset``; raises what ``fetch`` raises."""
        self._ask(offset)
        coming = self._coming.pop(offset, None)
        return self._fetch(offset) if coming is None else coming.result()

    def _ask(self, offset: int) -> None:
        """Ask for what is likely to be wanted from ``offset`` on."""
        if offset and offset == self._expected:
            self._depth = min(self._depth + 1, DEPTH)
        else:
            self._depth = 1
            for coming in self._coming.values():
                coming.cancel()
            self._coming = {}
        self._expected = offset + CHUNK_BYTES
        if self._depth == 1:
            return
        if self._pool is None:
            self._pool = concurrent.futures.ThreadPoolExecutor(DEPTH, "read-ahead")
        for number in range(self._depth):
            at = offset + number * CHUNK_BYTES
            if at < self._size and at not in self._coming:
                self._coming[at] = self._pool.submit(self._fetch, at)
