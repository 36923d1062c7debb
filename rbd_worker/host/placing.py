# SPDX-License-Identifier: Apache-2.0
"""Staged files become files of a directory that a guest already uses.

What stands there is never lost: a missing file or directory is put in place
by a rename that replaces nothing; a file that this worker placed before, and that nobody
has changed since, is exchanged for the source's newer one and judged again
after the exchange; anything else is the destination's own and stays.
"""

import contextlib
import dataclasses
import errno
import logging
import os
import secrets
import typing as ty

from rbd_worker import errors
from rbd_worker.host import arrivals, digest, syscalls
from rbd_worker.host.area import Area
from rbd_worker.host.instances import PinnedDirectory
from rpcapi.payloads import FileEntry

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Placed:
    """What became of the source's files.

    :ivar placed: path to digest, read back from the destination's disk.
    :ivar own: paths at which the destination has and keeps something else.
    """

    placed: dict[str, str] = dataclasses.field(default_factory=dict)
    own: tuple[str, ...] = ()


class Placer:
    """Places the files of one list into one pinned directory."""

    def __init__(self, area: Area, directory: PinnedDirectory,
                 known: ty.Mapping[str, str]) -> None:
        self._area = area
        self._directory = directory
        self._known = known

    def place(self, entries: ty.Iterable[FileEntry]) -> Placed:
        """Files that were missing, exchanged or equal are placed; then all is durable.

        :raises errors.DirectoryChanged: a file is neither staged nor standing;
            the source has to tell it again.
        """
        placed: dict[str, str] = {}
        own: list[str] = []
        touched = {""}
        for entry in entries:
            if arrivals.is_console_log(entry.path):
                continue
            if entry.kind == "directory":
                if self._ensure_directory(entry):
                    touched.add(entry.path.rpartition("/")[0])
                continue
            found = self._place_file(entry)
            if found == entry.digest:
                placed[entry.path] = found
                touched.add(entry.path.rpartition("/")[0])
            else:
                own.append(entry.path)
        self._sync(touched)
        return Placed(placed, tuple(own))

    def _ensure_directory(self, entry: FileEntry) -> bool:
        """Put a missing directory in place as a whole, with all that is staged in it.

        Whatever else stands under its name stays; its files are then the
        destination's own.
        """
        try:
            with syscalls.parent_of(entry.path, self._directory.fd) as (parent, name):
                if syscalls.identity(name, parent) is not None:
                    return False
                with self._staged(entry) as (staged_parent, staged):
                    syscalls.move_directory(staged, staged_parent, name, parent)
                return True
        except OSError as e:
            if syscalls.is_in_the_way(e) or e.errno in (errno.EEXIST, errno.ENOTEMPTY):
                return False
            raise

    def _place_file(self, entry: FileEntry) -> str:
        """The digest of what stands under the path afterwards; empty for no file at all."""
        try:
            with syscalls.parent_of(entry.path, self._directory.fd) as (parent, name):
                standing = self._digest(name, parent)
                if standing is None and self._put(entry, name, parent):
                    standing = self._digest(name, parent)
                elif standing and standing == self._known.get(entry.path) != entry.digest:
                    standing = self._exchange(entry, name, parent, standing)
                return standing or ""
        except OSError as e:
            if syscalls.is_in_the_way(e):
                return ""  # a link or a file stands in the way: the destination's own
            raise

    def _digest(self, name: str, parent: int) -> str | None:
        """None where nothing stands, empty for something that is no regular file."""
        try:
            fd = syscalls.open_regular(name, parent)
        except FileNotFoundError:
            return None
        if fd is None:
            return ""
        with syscalls.held(fd):
            return digest.of(fd, os.fstat(fd).st_size)

    def _put(self, entry: FileEntry, name: str, parent: int) -> bool:
        with self._staged(entry) as (staged_parent, staged):
            try:
                syscalls.move_file_noreplace(staged, staged_parent, name, parent)
            except FileExistsError:
                return False
            return True

    def _exchange(self, entry: FileEntry, name: str, parent: int, judged: str) -> str:
        """Swap, then look at what came out; swap back where it is not what was judged."""
        with self._staged(entry) as (staged_parent, staged):
            try:
                syscalls.exchange(staged, staged_parent, name, parent)
            except errors.FileSystemUnfit as e:
                LOG.warning("%s/%s stays as it was copied first: %s",
                            self._directory.label, entry.path, e)
                return judged
            if self._digest(staged, staged_parent) != judged:
                syscalls.exchange(staged, staged_parent, name, parent)
                return ""
            syscalls.rename(staged, staged_parent, f"replaced.{secrets.token_hex(4)}",
                            self._area.top)
        return self._digest(name, parent) or ""

    @contextlib.contextmanager
    def _staged(self, entry: FileEntry) -> ty.Iterator[tuple[int, str]]:
        try:
            with syscalls.parent_of(entry.path, self._area.root_of(entry.path)) as found:
                yield found
        except FileNotFoundError as e:
            raise errors.DirectoryChanged(
                path=f"{self._directory.label}/{entry.path}",
                reason="it is neither staged nor standing any more") from e

    def _sync(self, touched: set[str]) -> None:
        for path in touched:
            with self._opened(path) as fd:
                os.fsync(fd)

    @contextlib.contextmanager
    def _opened(self, path: str) -> ty.Iterator[int]:
        if not path:
            yield self._directory.fd
            return
        with (syscalls.parent_of(path, self._directory.fd) as (parent, name),
              syscalls.held(syscalls.open_directory(name, parent)) as fd):
            yield fd
