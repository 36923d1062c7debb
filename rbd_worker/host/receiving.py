# SPDX-License-Identifier: Apache-2.0
"""How one file comes to be staged: found, put together, or pulled.

In this order: it is staged already; it stands at the destination already; it
is all zeros; its content came with the message; its beginning is here and its
end came with the message; it is pulled in chunks.  Whatever the way, what is
kept has the digest that was announced, read back from this host's disk.
"""

import functools
import logging
import os
import time
import typing as ty

from rbd_worker import errors
from rbd_worker.host import arrivals, digest, sparse, syscalls
from rbd_worker.host.area import Area
from rbd_worker.host.instances import Limits, PinnedDirectory
from rbd_worker.host.owners import Owners
from rbd_worker.host.read_ahead import ReadAhead
from rpcapi import client
from rpcapi.payloads import Chunk, FileEntry

LOG = logging.getLogger(__name__)

#: Asks the source for a piece of a file, from an offset.
Fetch = ty.Callable[[FileEntry, int], Chunk]
#: Seconds between two lines about a file that takes long.
_PROGRESS_SECONDS = 5.0


class Receiver:
    """Stages the files of one list; ``made`` are the paths that were new."""

    def __init__(self, area: Area, instance: str, limits: Limits, fetch: Fetch,
                 standing: PinnedDirectory | None) -> None:
        self.made: list[str] = []
        self.owners = Owners()
        self._area = area
        self._instance = instance
        self._limits = limits
        self._fetch = fetch
        self._standing = standing
        self._written = 0
        self._deadline = time.monotonic() + client.COPY_SECONDS

    def ensure_file(self, entry: FileEntry) -> None:
        """The file is staged, or stands at the destination.

        :raises errors.DigestMismatch: the peer sent something else.
        """
        if self._is_staged(entry):
            return
        if self._stands(entry):
            self._area.remove(entry.path)
            return
        for build in self._ways(entry):
            with self._area.part() as part:
                build(entry, part)
                os.ftruncate(part, entry.size)
                if digest.of(part, entry.size) == entry.digest:
                    self.owners.apply(part, entry)
                    self._area.keep_part(entry.path)
                    self.made.append(entry.path)
                    return
        raise errors.DigestMismatch(path=entry.path)

    def _is_staged(self, entry: FileEntry) -> bool:
        fd = self._area.open_file(entry.path)
        if fd is None:
            return False
        with syscalls.held(fd):
            if not _has_content(fd, entry):
                return False
            self.owners.apply(fd, entry)
            return True

    def _stands(self, entry: FileEntry) -> bool:
        """A console log that stands there is the destination's own, whatever is in it."""
        fd = self._open_standing(entry.path)
        if fd is None:
            return False
        with syscalls.held(fd):
            return _has_content(fd, entry)

    def _open_standing(self, path: str) -> int | None:
        if self._standing is None or arrivals.is_console_log(path):
            return None
        return syscalls.open_below(path, self._standing.fd)

    # -- ways to put a file together -------------------------------------------

    def _ways(self, entry: FileEntry) -> ty.Iterator[ty.Callable[[FileEntry, int], None]]:
        if entry.digest == digest.of_zeros(entry.size):
            yield lambda _entry, _part: None
        elif entry.inline is None:
            yield self._pull
        elif not entry.inline_from:
            yield self._write_inline
        else:
            for open_beginning in (self._area.open_file, self._open_standing):
                fd = open_beginning(entry.path)
                if fd is not None:
                    with syscalls.held(fd):
                        if os.fstat(fd).st_size >= entry.inline_from:
                            yield functools.partial(self._append, fd)
            yield self._pull

    def _append(self, beginning: int, entry: FileEntry, part: int) -> None:
        self._count(sparse.copy(beginning, part, 0, entry.inline_from, 0))
        self._write_inline(entry, part)

    def _write_inline(self, entry: FileEntry, part: int) -> None:
        content = arrivals.unzipped(entry.inline or b"", entry.size - entry.inline_from)
        self._count(sparse.write_sparsely(part, content, entry.inline_from))

    def _pull(self, entry: FileEntry, part: int) -> None:
        offset = 0
        told = time.monotonic()
        left = arrivals.most_chunks(entry)
        with ReadAhead(functools.partial(self._fetch, entry), entry.size) as pieces:
            while offset < entry.size:
                left -= 1
                self._check_patience(entry, left)
                chunk = pieces.chunk(offset)
                content = arrivals.content_of(chunk, entry, offset)
                self._count(sparse.write_sparsely(part, content, offset))
                offset = chunk.next
                if time.monotonic() - told > _PROGRESS_SECONDS:
                    told = time.monotonic()
                    LOG.info("[instance: %s] %s: %d of %d MiB are here", self._instance,
                             syscalls.printable(entry.path), offset >> 20, entry.size >> 20)

    def _check_patience(self, entry: FileEntry, left: int) -> None:
        """Neither more pieces than a file can have, nor longer than the source waits."""
        if left < 0:
            raise errors.BadInput(what="the peer's files", reason="a file comes in crumbs")
        if time.monotonic() > self._deadline:  # the source has given up by now
            raise errors.CopyTooSlow(path=entry.path, seconds=client.COPY_SECONDS)

    def _count(self, written: int) -> None:
        """The limits hold for what arrives, not only for what was announced."""
        self._written += written
        if self._written > self._limits.max_data_bytes:
            raise errors.DirectoryTooLarge(
                path=self._instance, option="max_data_gib",
                reason=f"more than {self._limits.max_data_bytes} bytes of data")
        self._area.check_reserve()


def _has_content(fd: int, entry: FileEntry) -> bool:
    if os.fstat(fd).st_size != entry.size:
        return False
    try:
        return digest.of(fd, entry.size) == entry.digest
    except errors.DirectoryChanged:
        return False
