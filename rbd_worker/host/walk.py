# SPDX-License-Identifier: Apache-2.0
"""The files of one instance directory, held by descriptors and told to a peer.

Once pinned, a file stays readable whatever happens to its name: nova-compute
may rename the directory and delete it while the peer still pulls from here.
``refresh`` looks again: what grew is digested anew, a log that was rotated is
followed to its new name, what is new is added, and what vanished stays as it
was, because vanishing is what a migration's end does to a source.  ``extend``
only adds what is new: a peer may be pulling what was told of the rest.
"""

import contextlib
import os
import threading
import time
import types
import typing as ty
import zlib

import msgspec

from rbd_worker import errors
from rbd_worker.host import digest, held_file, listing, sparse, syscalls
from rbd_worker.host.held_file import HeldFile
from rbd_worker.host.instances import Limits, PinnedDirectory
from rbd_worker.host.owners import Owners
from rpcapi import fields
from rpcapi.payloads import Chunk, FileEntry

#: The root of an instance that has no directory.
EMPTY_ROOT = FileEntry(path=".", kind="directory", mode=0o755, uid=os.geteuid(),
                       gid=os.getegid(), mtime_ns=0)

#: Fast, and enough for logs; what does not shrink is sent as it is.
_LEVEL = 1
_SAMPLE = 4096
#: Looks at a directory that changes while it is read, and the pause in seconds
#: between two: longer than a tick of the clock that stamps changes.
_ATTEMPTS = 3
_PAUSE = 0.01


def pin_files(directory: PinnedDirectory, limits: Limits) -> "PinnedFiles":
    """Hold every file of ``directory`` and digest it; the directory may be closed afterwards.

    :raises errors.UnsafeDirectory: something in it is not carried.
    :raises errors.DirectoryTooLarge: with the option that says so.
    :raises errors.DirectoryChanged: it does not hold still; worth another attempt.
    """
    return PinnedFiles(os.dup(directory.fd), directory.label, limits)


class PinnedFiles:
    """Thread-safe; each file's content is told as of the last look."""

    def __init__(self, root_fd: int, label: str, limits: Limits) -> None:
        self._root_fd = root_fd
        self._label = label
        self._limits = limits
        self._refreshing = threading.Lock()
        self._lock = threading.Lock()  # of what follows; never held while reading
        self._closed = False
        self._pinned: dict[str, HeldFile] = {}
        self._sizes: dict[str, int] = {}  # of content told earlier, by digest
        self._root = EMPTY_ROOT
        try:
            self.refresh()
        except BaseException:
            self.close()
            raise

    @property
    def root(self) -> FileEntry:
        """The directory itself; its path is ``.``."""
        return self._root

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        """All files and directories, parents first."""
        with self._lock:
            return tuple(pinned.entry for pinned in self._pinned.values())

    def refresh(self) -> None:
        """Look at the directory again.

        :raises errors.UnsafeDirectory, errors.DirectoryTooLarge, errors.DirectoryChanged:
            as ``pin_files``; what was pinned stays as it was.
        """
        for attempt in range(_ATTEMPTS):
            is_last = attempt + 1 == _ATTEMPTS
            try:
                return self._refresh(is_last)
            except errors.DirectoryChanged:
                if is_last:
                    raise
                time.sleep(_PAUSE)

    def extend(self) -> None:
        """Hold what is new in the directory, too; the rest stays as it was told.

        :raises errors.UnsafeDirectory, errors.DirectoryTooLarge, errors.DirectoryChanged:
            as ``pin_files``, or another file has a told one's name; what was pinned stays as
            it was.
        """
        with self._looked() as (found, _, unwanted):
            self._add(found, unwanted)

    def entries_inline(self, known: ty.Mapping[str, str]) -> tuple[FileEntry, ...]:
        """All entries; those that the peer cannot know carry their content.

        :param known: path and digest of what the peer has.  What it has is not
            sent again; of a file that only grew since it was told, the tail is.
        :returns: entries with at most ``limits.inline_bytes`` of content,
            smallest first; the peer pulls what is left.
        """
        entries = {entry.path: entry for entry in self.entries}
        wanted = []
        for entry in entries.values():
            if entry.kind == "file" and known.get(entry.path) != entry.digest:
                begin = self._known_part(entry, known.get(entry.path, ""))
                wanted.append((entry.size - begin, begin, entry.path))
        room = self._limits.inline_bytes
        for length, begin, path in sorted(wanted):
            room -= length
            if room < 0:
                break
            entry = entries[path]
            content = self._compressed(path, begin, entry.size)
            entries[path] = msgspec.structs.replace(entry, inline=content, inline_from=begin)
        with self._lock:
            self._sizes.update((e.digest, e.size) for e in entries.values())
        return tuple(entries.values())

    def read_chunk(self, path: str, offset: int) -> Chunk:
        """A piece of a file from ``offset``, and where its data goes on behind it.

        :raises errors.BadInput: no such file, or no such offset in it.
        """
        with self._borrowed(path) as (fd, size):
            if not 0 <= offset < size:
                raise errors.BadInput(what=f"offset {offset}",
                                      reason=f"{path} has {size} bytes")
            end = offset
            if sparse.next_data(fd, offset, size) == offset:
                end = min(offset + fields.CHUNK_BYTES, size)
            data = sparse.read_exactly(fd, end - offset, offset)
            return Chunk(offset=offset, data=_zipped(data), next=sparse.next_data(fd, end, size))

    @property
    def directory(self) -> syscalls.Identity:
        """Device and inode of the directory whose files these are, also when it is gone."""
        with self._lock:
            self._check_open()
            status = os.fstat(self._root_fd)
        return status.st_dev, status.st_ino

    @property
    def lasting_identity(self) -> list[int]:
        """As :class:`PinnedDirectory`'s."""
        with self._lock:
            self._check_open()
            return syscalls.lasting_identity(self._root_fd)

    def is_of(self, directory: PinnedDirectory | None) -> bool:
        """Whether these are the files of ``directory``, and not of one that is gone."""
        return directory is not None and directory.identity == self.directory

    def copy_to(self, root: int) -> None:
        """Everything that is held, as of the last look, into an empty directory, durably."""
        owners = Owners()
        directories = [entry for entry in self.entries if entry.kind == "directory"]
        for entry in directories:
            with syscalls.parent_of(entry.path, root) as (parent, name):
                os.mkdir(name, 0o700, dir_fd=parent)
        for entry in self.entries:
            if entry.kind == "file":
                with (self._borrowed(entry.path) as (fd, size),
                      syscalls.parent_of(entry.path, root) as (parent, name),
                      syscalls.held(syscalls.create_file(name, parent)) as copy):
                    sparse.copy(fd, copy, 0, size, 0)
                    os.ftruncate(copy, size)
                    owners.apply(copy, entry)
                    os.fsync(copy)
        for entry in reversed(directories):
            with (syscalls.parent_of(entry.path, root) as (parent, name),
                  syscalls.held(syscalls.open_directory(name, parent)) as fd):
                owners.apply(fd, entry)
                os.fsync(fd)
        owners.apply(root, self.root)
        os.fsync(root)

    def close(self) -> None:
        """Let go of everything; safe to repeat."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._root_fd)
                listing.close(pinned.found for pinned in self._pinned.values())
                self._pinned = {}

    def __enter__(self) -> ty.Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        self.close()

    # -- inside --------------------------------------------------------------

    def _refresh(self, is_last: bool) -> None:
        with self._looked() as (found, root, unwanted):
            self._take(found, root, unwanted, is_last)

    @contextlib.contextmanager
    def _looked(self) -> ty.Iterator[
            tuple[list[listing.Found], os.stat_result, contextlib.ExitStack]]:
        """What is there now; ``unwanted`` closes it where nobody keeps it."""
        with self._refreshing, contextlib.ExitStack() as unwanted:
            with self._lock:
                self._check_open()
                root = os.dup(self._root_fd)
            with syscalls.held(root):
                found = listing.scan(root, self._label, self._limits)
                unwanted.callback(listing.close, found)
                yield found, os.fstat(root), unwanted

    def _take(self, found: list[listing.Found], root: os.stat_result,
              unwanted: contextlib.ExitStack, is_last: bool) -> None:
        """Digest what is new or changed and put it in the place of what was pinned."""
        owners = Owners()
        before = {p.found.identity: p for p in self._pinned.values()}
        fresh = {each.path: held_file.described(each, before.get(each.identity), owners)
                 for each in found}
        self._keep_vanished(fresh, is_last, owners)
        with self._lock:
            self._check_open()
            kept = {p.found.fd for p in fresh.values()}
            old, self._pinned = self._pinned, _sorted(fresh)
            if root.st_nlink or self._root is EMPTY_ROOT:  # a deleted one has lost its times
                self._root = owners.describe(".", root, "")
            unwanted.pop_all()
            listing.close(p.found for p in old.values() if p.found.fd not in kept)

    def _keep_vanished(self, fresh: dict[str, HeldFile], is_last: bool, owners: Owners) -> None:
        """Keep what no name leads to any more, unless something else took its name.

        It may have grown between the last look and its removal.
        A file with a name somewhere was renamed, most likely to where this
        listing had already looked; another look finds it, or it is elsewhere.
        """
        seen = {p.found.identity for p in fresh.values()}
        for path, pinned in self._pinned.items():
            is_unseen = pinned.found.identity not in seen
            if path in fresh:
                if is_unseen and not is_last and held_file.has_name(pinned.found):
                    raise errors.DirectoryChanged(path=f"{self._label}/{path}",
                                                  reason="it was renamed meanwhile")
            elif is_unseen and held_file.parents_stand(path, fresh):
                fresh[path] = held_file.looked_at_again(pinned, owners)
                for above in held_file.above(path):
                    fresh.setdefault(above, self._pinned[above])

    def _add(self, found: list[listing.Found], unwanted: contextlib.ExitStack) -> None:
        """Keep what has a new path; the others' descriptors are closed with ``unwanted``."""
        owners = Owners()
        new: dict[str, HeldFile] = {}
        for each in found:
            known = self._pinned.get(each.path)
            if known is None:
                new[each.path] = held_file.described(each, None, owners)
            elif known.found.identity != each.identity:
                raise errors.DirectoryChanged(path=f"{self._label}/{each.path}",
                                              reason="it is another file than the one told of")
        with self._lock:
            self._check_open()
            self._pinned = _sorted(self._pinned | new)
        unwanted.pop_all()
        listing.close(each for each in found if each.path not in new)

    def _known_part(self, entry: FileEntry, known: str) -> int:
        """How many bytes from the beginning the peer has; 0 where that is not certain."""
        with self._lock:
            size = self._sizes.get(known, 0)
        if not 0 < size < entry.size:
            return 0
        with self._borrowed(entry.path) as (fd, _):
            return size if digest.of(fd, size) == known else 0

    def _compressed(self, path: str, begin: int, end: int) -> bytes:
        with self._borrowed(path) as (fd, _):
            return _zipped(sparse.read_exactly(fd, end - begin, begin))

    @contextlib.contextmanager
    def _borrowed(self, path: str) -> ty.Iterator[tuple[int, int]]:
        """A descriptor of its own, so that nobody can close it during the block, and the size."""
        with self._lock:
            self._check_open()
            pinned = self._pinned.get(path)
            if pinned is None or pinned.found.fd < 0:
                raise errors.BadInput(what="a path", reason=f"no file {path[:256]!r} is pinned")
            fd = os.dup(pinned.found.fd)
        with syscalls.held(fd), syscalls.translated(f"{self._label}/{path}"):
            yield fd, pinned.entry.size

    def _check_open(self) -> None:
        if self._closed:
            raise errors.BadInput(what=self._label, reason="its files are not pinned any more")


def _sorted(held: dict[str, HeldFile]) -> dict[str, HeldFile]:
    """Parents first."""
    return dict(sorted(held.items(), key=lambda item: item[0].split("/")))


def _zipped(data: bytes) -> bytes:
    sample = zlib.compress(data[:_SAMPLE], _LEVEL)
    level = _LEVEL if len(sample) < 0.9 * min(len(data), _SAMPLE) else 0
    return zlib.compress(data, level)
