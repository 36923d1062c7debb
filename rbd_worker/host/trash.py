# SPDX-License-Identifier: Apache-2.0
"""Directories that left by proof, kept for a while in ``.rbd-worker/trash/<id>/``.

An item is ``record.json``, which says why, and ``directory``, which is the
instance directory itself, renamed.  The record is durable before the rename;
what was judged is compared right before and right after it, and what turns
out to be another directory is put back.  An item without its directory is
half-made: a kill came between the two, and nothing left instances_path.

A full disk stops neither a move into the trash (the record goes into a place
of the reserve) nor a purge nor a restore, which are renames and removals.
"""

import contextlib
import dataclasses
import errno
import logging
import os
import time
import typing as ty

from rbd_worker import errors
from rbd_worker.host import mounts, syscalls, trash_items, trash_purge, trash_reserve
from rbd_worker.host.instances import Instances, PinnedDirectory
from rbd_worker.host.trash_items import DIRECTORY, RECORD, File, Item, Record
from rbd_worker.host.walk import PinnedFiles
from rbd_worker.model import Evidence, Fact, Verdict

__all__ = ["File", "Item", "Trash", "Usage"]

LOG = logging.getLogger(__name__)

_AREA = "trash"
#: Seconds for which an item without a directory may be one in the making.
_IN_THE_MAKING = 600


class Usage(ty.NamedTuple):
    """What all items take together, in bytes, and may take; ``most`` None for no limit."""

    items: int
    bytes: int
    most: int | None


class Trash:
    """Thread-safe; several threads may take different instances at once.

    :param retention: seconds that an item can be restored.
    :param clock: for ages only.
    :param max_percent: of the file system's size that the trash may take; 0 for no limit.
    """

    def __init__(self, directories: Instances, retention: float,
                 clock: ty.Callable[[], float] = time.time, max_percent: int = 0) -> None:
        self._directories = directories
        self._retention = retention
        self._clock = clock
        self._max_percent = max_percent
        self._reserve = trash_reserve.Reserve(directories)
        self._told: set[str] = set()

    def take(self, directory: PinnedDirectory, evidence: Evidence, migration_key: str) -> Item:
        """Move the very directory that was judged into the trash, durably.

        :raises errors.NotProven: the evidence does not hold, or is of another instance.
        :raises errors.DirectoryChanged: the name stands for another directory;
            everything is where it was.
        :raises errors.MountedThere: something is mounted on it or below it.
        :raises errors.NoSpace: the disk is full and so many directories left
            meanwhile that the reserve is used up; everything is where it was.
        """
        if evidence.instance != directory.instance or not evidence.holds:
            raise errors.NotProven(instance=directory.instance,
                                   reason=evidence.doubt or "the evidence is of another instance")
        record = Record(directory.instance, migration_key, self._clock(), evidence.facts,
                        directory.inode)
        item = Item(trash_items.new_id(directory.instance, record.at), directory.instance,
                    record.at, migration_key, evidence.facts)
        with self._opened() as area, syscalls.translated(directory.label):
            try:
                with syscalls.held(self._place(item.id, area, record)) as place:
                    os.fsync(area)
                    self._move(directory, place)
                    return dataclasses.replace(item, bytes=trash_items.size(place))
            except BaseException:
                self._forget_half_made(item.id, area)
                raise

    def save(self, files: PinnedFiles, instance: str, why: str, migration_key: str) -> Item:
        """Keep copies of files that nothing but their open descriptors holds any more.

        No witness stands behind such an item, so no purge takes it: it stays
        until an operator restores or discards it.

        :param why: what became of their names, as a sentence.
        :raises errors.NoSpace: nothing was kept; the descriptors still hold everything.
        """
        record = Record(instance, migration_key, self._clock(),
                        (Fact("files", Verdict.NO, why),))
        item_id = trash_items.new_id(instance, record.at)
        unfinished = item_id + trash_purge.SUFFIX  # what a kill leaves is removed with those
        with self._opened() as area, syscalls.translated(self._label):
            try:
                os.mkdir(unfinished, 0o700, dir_fd=area)
                with syscalls.held(_recorded(unfinished, area, record)) as place:
                    with syscalls.held(syscalls.ensure_directory(DIRECTORY, place)) as root:
                        files.copy_to(root)
                    os.fsync(place)
                os.rename(unfinished, item_id, src_dir_fd=area, dst_dir_fd=area)
                os.fsync(area)
            except BaseException:
                trash_purge.remove(unfinished, area)
                raise
            return _found(item_id, area)

    def list(self) -> list[Item]:
        """All items that can be restored, newest first."""
        with self._opened() as area, syscalls.translated(self._label):
            return sorted(_items(area), key=lambda item: item.at, reverse=True)

    def usage(self) -> Usage:
        items = self.list()
        return Usage(len(items), sum(item.bytes for item in items), self.most())

    def most(self) -> int | None:
        """Bytes that the trash may take; None for no limit."""
        if not self._max_percent:
            return None
        with self._opened() as area:
            status = os.fstatvfs(area)
            return status.f_blocks * status.f_frsize * self._max_percent // 100

    def find(self, item_id: str) -> Item:
        """:raises errors.BadInput: there is no such item."""
        with self._opened() as area, syscalls.translated(self._label):
            return _found(item_id, area)

    def files(self, item_id: str) -> tuple[File, ...]:
        """What an item holds, parents first.

        :raises errors.BadInput: there is no such item.
        """
        with self._opened() as area, syscalls.translated(self._label):
            _found(item_id, area)
            with syscalls.held(syscalls.open_directory(item_id, area)) as place:
                return tuple(trash_items.files(place))

    def restore(self, item_id: str) -> None:
        """Put an item back under its instance's name, in one step, as it was.

        :raises errors.BadInput: there is no such item.
        :raises errors.UnsafeDirectory: what lies in it is no directory.
        :raises errors.DirectoryExists: another directory stands there, or will.
        """
        with self._opened() as area, syscalls.translated(self._label):
            instance = _found(item_id, area).instance
            path = f"{self._directories.path}/{instance}"
            if self._directories.has_resize(instance):
                raise errors.ResizeInTheWay(path=path)
            with (self._directories.opened() as base,
                  syscalls.held(syscalls.open_directory(item_id, area)) as place):
                os.close(syscalls.open_directory(DIRECTORY, place))  # Nova would follow a link
                try:
                    syscalls.rename_noreplace(DIRECTORY, place, instance, base)
                except FileExistsError as e:
                    raise errors.DirectoryExists(path=path) from e
                os.fsync(base)
                os.fsync(place)
            self._forget_half_made(item_id, area)

    def discard(self, item_id: str) -> bool:
        """Remove one item for good, proven or not, because an operator says so.

        :returns: False where not all of it could be removed; ``tidy`` goes on with it.
        :raises errors.BadInput: there is no such item.
        """
        with self._opened() as area, syscalls.translated(self._label):
            _found(item_id, area)
            return trash_purge.remove(trash_purge.begin(item_id, area), area)

    def tidy(self) -> None:
        """Whatever the time may be: end removals that a kill cut off, and fill the reserve."""
        with self._opened() as area, syscalls.translated(self._label):
            for name in trash_purge.begun(area):
                trash_purge.remove(name, area)
        self._reserve.refill()

    def purge(self) -> int:
        """Remove for good what is due; how many items that were.

        Called at the start and every hour: the trash does not grow the disk's
        use, what comes in was on it already.  An item that cannot be removed
        is named in the log and tried again next time.
        """
        self.tidy()
        purged = 0
        limits = trash_purge.Limits(self._retention, self.most())
        with self._opened() as area, syscalls.translated(self._label):
            self._forget_all_half_made(area)
            items = _items(area)
            self._tell_of_unproven(items)
            for item in trash_purge.due(items, self._clock(), limits):
                purged += trash_purge.end(item.id, area)
        return purged

    # -- inside --------------------------------------------------------------

    @property
    def _label(self) -> str:
        return f"{self._directories.path} ({_AREA})"

    @contextlib.contextmanager
    def _opened(self) -> ty.Iterator[int]:
        with syscalls.held(self._directories.area(_AREA)) as area:
            yield area

    def _place(self, item_id: str, area: int, record: Record) -> int:
        """A directory for the item, its record in it, durable."""
        try:
            os.mkdir(item_id, 0o700, dir_fd=area)
            return _recorded(item_id, area, record)
        except OSError as e:
            if e.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._forget_half_made(item_id, area)
            drawn = self._reserve.draw(item_id, area, record)
            if drawn is None:
                raise
            LOG.warning("[instance: %s] the disk is full; its record is written into the "
                        "trash's reserve", record.instance)
            return drawn

    def _move(self, directory: PinnedDirectory, place: int) -> None:
        """Compare, rename, compare."""
        mounted = sorted(mounts.below(directory.fd))
        if mounted:  # would go along, and be in the way of every purge
            raise errors.MountedThere(path=syscalls.printable(f"{directory.label}/{mounted[0]}"))
        name, expected = directory.instance, directory.identity
        with self._directories.opened() as base:
            if syscalls.identity(name, base) != expected:
                raise _changed(directory, "another directory has its name")
            try:
                syscalls.rename_noreplace(name, base, DIRECTORY, place)
            except FileNotFoundError as e:
                raise _changed(directory, "its name is gone") from e
            if syscalls.identity(DIRECTORY, place) != expected:
                self._put_back(directory, place, base)
            os.fsync(place)
            os.fsync(base)

    def _put_back(self, directory: PinnedDirectory, place: int, base: int) -> None:
        try:
            syscalls.rename_noreplace(DIRECTORY, place, directory.instance, base)
        except FileExistsError as e:
            LOG.error("[instance: %s] another directory was swapped in and is in the trash now, "
                      "because its name was taken again; restore it by hand", directory.instance)
            raise _changed(directory, "its name was swapped twice") from e
        raise _changed(directory, "another directory was swapped in and was put back")

    def _forget_half_made(self, item_id: str, area: int) -> None:
        """An item without a directory is of no use; one that has it stays in any case."""
        with (contextlib.suppress(OSError),
              syscalls.held(syscalls.open_directory(item_id, area)) as place):
            if syscalls.identity(DIRECTORY, place) is None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(RECORD, dir_fd=place)
                os.rmdir(item_id, dir_fd=area)

    def _forget_all_half_made(self, area: int) -> None:
        """Items without a directory that are too old to be in the making."""
        for name in os.listdir(area):
            parsed = trash_items.parse_id(name)
            if parsed is not None and self._clock() - parsed[1] > _IN_THE_MAKING:
                self._forget_half_made(name, area)

    def _tell_of_unproven(self, items: ty.Iterable[Item]) -> None:
        for item in items:
            if item.doubt and item.id not in self._told:
                self._told.add(item.id)
                LOG.warning("%s in the trash is kept whatever its age: %s; look at it, then "
                            "'rbd-workerctl trash restore' or 'trash purge' with its id",
                            item.id, item.doubt)


def _recorded(item_id: str, area: int, record: Record) -> int:
    place = syscalls.open_directory(item_id, area)
    try:
        trash_items.write_record(place, record)
    except BaseException:
        os.close(place)
        raise
    return place


def _items(area: int) -> list[Item]:
    found = (trash_items.read(name, area) for name in os.listdir(area))
    return [item for item in found if item is not None]


def _found(item_id: str, area: int) -> Item:
    item = trash_items.read(item_id, area)
    if item is None:
        raise errors.BadInput(what="trash", reason=f"no item {item_id[:128]!r}")
    return item


def _changed(directory: PinnedDirectory, reason: str) -> errors.DirectoryChanged:
    return errors.DirectoryChanged(path=directory.label, reason=reason)
