# SPDX-License-Identifier: Apache-2.0
"""Copies of a coming guest's files, in ``.rbd-worker/staging/<uuid>/``.

What a migration staged may be the only copy that is left, where Nova removed the
source's directory and that host's worker died.  So it is dropped on account of
that migration only; another one of the guest has an area of its own.  Each
operation can be repeated after a kill at any point: what is staged is known by
its digest, what was promoted by device and inode, and the list of files is kept
beside them for the case that the source cannot tell it again.
"""

import dataclasses
import logging
import os

import msgspec

from rbd_worker import errors, model
from rbd_worker.host import arrivals, digest, placing, removal, syscalls, walk
from rbd_worker.host.area import TREE, Area
from rbd_worker.host.instances import Instances, PinnedDirectory
from rbd_worker.host.owners import Owners
from rbd_worker.host.placing import Placed
from rbd_worker.host.receiving import Fetch, Receiver
from rpcapi.payloads import FileEntry

LOG = logging.getLogger(__name__)

__all__ = ["Fetch", "Placed", "Staging"]

_STAGING = "staging"
_MANIFEST = "manifest.json"
_PROMOTED = "promoted.json"
#: Most files and directories of an area besides what is staged in it.
_OWN = 8


class _Manifest(msgspec.Struct, frozen=True):
    root: FileEntry
    entries: tuple[FileEntry, ...]


class _Promoted(msgspec.Struct, frozen=True, array_like=True):
    """What :func:`Staging.promote` made."""

    device: int
    inode: int


class Staging:
    """Used by one thread at a time for one area; holds nothing open in between.

    :param area: the name of the migration's area; the instance's UUID where it is empty.
    """

    def __init__(self, directories: Instances, instance: str, area: str = "") -> None:
        self.instance = model.canonical_uuid(instance)
        self._area = area or self.instance
        self._directories = directories
        self._label = f"staging of {instance}"

    def ensure(self, root: FileEntry, entries: tuple[FileEntry, ...], fetch: Fetch,
               standing: PinnedDirectory | None = None) -> dict[str, str]:
        """Each file is staged, or stands in ``standing`` under its path; paths and digests.

        What is there already is not asked for again.

        :raises errors.BadInput: the peer's list or content breaks the contract.
        :raises errors.NoRoom: it cannot fit; nothing was pulled.
        :raises errors.NoSpace: what was staged in this attempt is gone again.
        :raises errors.DigestMismatch: the peer's file has changed meanwhile.
        """
        limits = self._directories.limits
        arrivals.check(root, entries, limits)
        with syscalls.translated(self._label), self.opened() as area:
            self._check_space(area, entries)
            receiver = Receiver(area, self.instance, limits, fetch, standing)
            try:
                _receive(area, receiver, entries)
                _write_manifest(area, _Manifest(root, tuple(map(_without_content, entries))))
            except OSError as e:
                failure = syscalls.translate(self._label, e)
                if isinstance(failure, errors.NoSpace):
                    for path in receiver.made:
                        area.remove(path)
                raise failure from e
        return {entry.path: entry.digest for entry in entries if entry.kind == "file"}

    def entries(self) -> tuple[FileEntry, ...]:
        """The files as the source told them last, without content; empty if it never did."""
        with syscalls.translated(self._label), self.opened() as area:
            return _manifest(area).entries

    def keep_only(self, paths: set[str]) -> None:
        """Nothing else is staged any more."""
        with syscalls.translated(self._label), self.opened() as area:
            for path in area.paths():
                if path not in paths:
                    area.remove(path)
            manifest = _manifest(area)
            kept = tuple(e for e in manifest.entries if e.path in paths)
            if kept != manifest.entries:
                _write_manifest(area, _Manifest(manifest.root, kept))

    def sync(self) -> None:
        """What is staged survives a power failure."""
        with syscalls.translated(self._label), self.opened() as area:
            area.sync()

    def promote(self) -> syscalls.Identity:
        """The staged tree is the instance directory, console logs held back; device and inode.

        Its files were forced to disk before (``sync``): after a power failure nobody
        looks again at what stands under this name.

        :raises errors.DirectoryExists: another directory stands there.
        """
        with (syscalls.translated(self._label), self.opened() as area,
              self._directories.opened() as base):
            standing = syscalls.identity(self.instance, base)
            if standing is not None and standing == _promoted(area):
                return standing
            Owners().apply(area.tree, _manifest(area).root)
            identity = os.fstat(area.tree).st_dev, os.fstat(area.tree).st_ino
            area.write_record(_PROMOTED, msgspec.json.encode(identity))
            try:
                syscalls.rename_noreplace(TREE, area.top, self.instance, base)
            except FileExistsError as e:
                raise errors.DirectoryExists(
                    path=f"{self._directories.path}/{self.instance}") from e
            return identity

    def place(self, directory: PinnedDirectory, entries: tuple[FileEntry, ...],
              known: dict[str, str]) -> Placed:
        """Put what is staged into the standing directory, console logs left out.

        :param known: path and digest of what this worker placed there before;
            such a file, unmodified, gives way to what the source has now.
        """
        with syscalls.translated(directory.label), self.opened() as area:
            return placing.Placer(area, directory, known).place(entries)

    def pinned(self) -> walk.PinnedFiles | None:
        """All that is staged, held by descriptors; None where nothing is.

        :raises errors.UnsafeDirectory, errors.DirectoryChanged: see ``walk.pin_files``.
        """
        if not self._directories.has_area(_STAGING):
            return None
        with (syscalls.translated(self._label),
              syscalls.held(self._directories.area(_STAGING)) as staging):
            if syscalls.identity(self._area, staging) is None:
                return None
            with Area(self._area, staging) as area:
                if not area.paths():
                    return None
                limits = self._directories.limits
                return walk.PinnedFiles(os.dup(area.top), self._label, dataclasses.replace(
                    limits, max_files=limits.max_files + _OWN, max_depth=limits.max_depth + 1))

    def drop(self) -> None:
        """Nothing is staged in this area."""
        if not self._directories.has_area(_STAGING):
            return
        with (syscalls.translated(self._label),
              syscalls.held(self._directories.area(_STAGING)) as staging):
            removal.remove_tree(self._area, staging)

    def opened(self) -> Area:
        """The area itself, made if it is missing."""
        with syscalls.held(self._directories.area(_STAGING)) as staging:
            return Area(self._area, staging)

    def _check_space(self, area: Area, entries: tuple[FileEntry, ...]) -> None:
        """Refuse what cannot fit before any of it is pulled.

        An estimate in favour of trying: a file of the right size that is staged
        already counts as complete, and an older worker announces no ``data``.
        """
        needed = sum(_to_come(area, entry) for entry in entries if entry.kind == "file")
        status = os.fstatvfs(area.top)
        free = status.f_bavail * status.f_frsize
        if needed > free:
            raise errors.NoRoom(path=self._label, needed=needed, free=free)


def _receive(area: Area, receiver: Receiver, entries: tuple[FileEntry, ...]) -> None:
    directories = [entry for entry in entries if entry.kind == "directory"]
    syscalls.set_own(area.tree)  # an attempt to promote may have given it another mode
    for entry in directories:
        area.ensure_directory(entry.path)
    for entry in entries:
        if entry.kind == "file":
            receiver.ensure_file(entry)
    for entry in reversed(directories):  # inner ones first: an outer one may become closed
        with (syscalls.parent_of(entry.path, area.tree) as (parent, name),
              syscalls.held(syscalls.open_directory(name, parent)) as fd):
            receiver.owners.apply(fd, entry)


def _to_come(area: Area, entry: FileEntry) -> int:
    """Bytes that staging the file will take, as far as that is known."""
    if entry.inline is not None:
        return entry.size - entry.inline_from
    if not entry.data or entry.digest == digest.of_zeros(entry.size):
        return 0
    fd = area.open_file(entry.path)
    if fd is None:
        return min(entry.data, entry.size)
    with syscalls.held(fd):
        return 0 if os.fstat(fd).st_size == entry.size else min(entry.data, entry.size)


def _without_content(entry: FileEntry) -> FileEntry:
    return msgspec.structs.replace(entry, inline=None, inline_from=0)


def _write_manifest(area: Area, manifest: _Manifest) -> None:
    area.write_record(_MANIFEST, msgspec.json.encode(manifest))


def _manifest(area: Area) -> _Manifest:
    return area.read_record(_MANIFEST, _Manifest) or _Manifest(walk.EMPTY_ROOT, ())


def _promoted(area: Area) -> syscalls.Identity | None:
    found = area.read_record(_PROMOTED, _Promoted)
    return None if found is None else (found.device, found.inode)
