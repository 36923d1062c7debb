# SPDX-License-Identifier: Apache-2.0
"""Directories that left by proof, kept for a while in ``.rbd-worker/trash/<id>/``.

An item is ``record.json``, which says why, and ``directory``, which is the
instance directory itself, renamed.  The record is durable before the rename;
what was judged is compared right before and right after it, and what turns
out to be another directory is put back.  An item without its directory is
half-made: a kill came between the two, and nothing left instances_path.
"""

import calendar
import contextlib
import dataclasses
import itertools
import logging
import os
import re
import secrets
import stat
import time
import typing as ty

import msgspec

from rbd_worker import errors
from rbd_worker.host import removal, sparse, syscalls
from rbd_worker.host.instances import Instances, PinnedDirectory
from rbd_worker.model import Evidence, Fact

LOG = logging.getLogger(__name__)

_AREA = "trash"
_DIRECTORY = "directory"
_RECORD = "record.json"
_PURGING = ".purging"
_TIME = "%Y%m%dT%H%M%S"
_ID = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(\d{8}T\d{6})\.[0-9a-f]{6}\Z")
#: Seconds for which an item without a directory may be one in the making.
_IN_THE_MAKING = 600
#: Files of one item that are counted for its size; what comes after is left out.
_COUNTED = 10_000
_COUNTED_DEPTH = 64


@dataclasses.dataclass(frozen=True)
class Item:
    """One directory in the trash.

    :ivar at: seconds since the epoch.
    :ivar migration: key of the migration in whose plan it left.
    :ivar facts: what the removal rested on; empty where the record is lost.
    :ivar bytes: on disk; of very many files only the first are counted.
    """

    id: str
    instance: str
    at: float
    migration: str = ""
    facts: tuple[Fact, ...] = ()
    bytes: int = 0

    @property
    def reason(self) -> str:
        return "; ".join(fact.sentence for fact in self.facts)


class _Record(msgspec.Struct, frozen=True):
    instance: str
    migration: str
    at: float
    facts: tuple[Fact, ...]


class Trash:
    """Thread-safe; several threads may take different instances at once."""

    def __init__(self, directories: Instances, retention: float,
                 clock: ty.Callable[[], float] = time.time) -> None:
        self._directories = directories
        self._retention = retention
        self._clock = clock

    def take(self, directory: PinnedDirectory, evidence: Evidence, migration_key: str) -> Item:
        """Move the very directory that was judged into the trash, durably.

        :raises errors.NotProven: the evidence does not hold, or is of another instance.
        :raises errors.DirectoryChanged: the name stands for another directory;
            everything is where it was.
        """
        if evidence.instance != directory.instance or not evidence.holds:
            raise errors.NotProven(instance=directory.instance,
                                   reason=evidence.doubt or "the evidence is of another instance")
        record = _Record(directory.instance, migration_key, self._clock(), evidence.facts)
        item = Item(_new_id(directory.instance, record.at), directory.instance, record.at,
                    migration_key, evidence.facts)
        with self._opened() as area, syscalls.translated(directory.label):
            os.mkdir(item.id, 0o700, dir_fd=area)
            with syscalls.held(syscalls.open_directory(item.id, area)) as place:
                try:
                    _write_record(place, record)
                    os.fsync(area)
                    self._move(directory, place)
                except BaseException:
                    self._forget_half_made(item.id, area)
                    raise
                return dataclasses.replace(item, bytes=_size(place))

    def list(self) -> list[Item]:
        """All items that can be restored, newest first."""
        items = []
        with self._opened() as area, syscalls.translated(self._label):
            for name in os.listdir(area):
                if _ID.match(name):
                    item = _read(name, area)
                    if item is not None:
                        items.append(item)
        return sorted(items, key=lambda item: item.at, reverse=True)

    def restore(self, item_id: str) -> None:
        """Put an item back under its instance's name.

        :raises errors.BadInput: there is no such item.
        :raises errors.DirectoryExists: another directory stands there.
        """
        match = _ID.match(item_id)
        with self._opened() as area, syscalls.translated(self._label):
            item = _read(item_id, area) if match else None
            if match is None or item is None:
                raise errors.BadInput(what="trash", reason=f"no item {item_id[:128]!r}")
            instance = match.group(1)
            with (self._directories.opened() as base,
                  syscalls.held(syscalls.open_directory(item_id, area)) as place):
                try:
                    syscalls.rename_noreplace(_DIRECTORY, place, instance, base)
                except FileExistsError as e:
                    raise errors.DirectoryExists(
                        path=f"{self._directories.path}/{instance}") from e
                os.fsync(base)
                os.fsync(place)
            self._forget_half_made(item_id, area)

    def purge(self) -> int:
        """Remove for good what is older than the retention; how many items that were.

        An item that cannot be removed is named in the log and tried again next time.
        """
        purged = 0
        with self._opened() as area, syscalls.translated(self._label):
            for name in sorted(os.listdir(area)):
                if name.endswith(_PURGING):  # begun before a kill
                    _remove(name, area)
                elif self._is_due(name, area):
                    os.rename(name, name + _PURGING, src_dir_fd=area, dst_dir_fd=area)
                    purged += _remove(name + _PURGING, area)
        return purged

    # -- inside --------------------------------------------------------------

    @property
    def _label(self) -> str:
        return f"{self._directories.path} ({_AREA})"

    @contextlib.contextmanager
    def _opened(self) -> ty.Iterator[int]:
        with syscalls.held(self._directories.area(_AREA)) as area:
            yield area

    def _move(self, directory: PinnedDirectory, place: int) -> None:
        """Compare, rename, compare."""
        name, expected = directory.instance, directory.identity
        with self._directories.opened() as base:
            if syscalls.identity(name, base) != expected:
                raise _changed(directory, "another directory has its name")
            try:
                syscalls.rename_noreplace(name, base, _DIRECTORY, place)
            except FileNotFoundError as e:
                raise _changed(directory, "its name is gone") from e
            if syscalls.identity(_DIRECTORY, place) != expected:
                self._put_back(directory, place, base)
            os.fsync(place)
            os.fsync(base)

    def _put_back(self, directory: PinnedDirectory, place: int, base: int) -> None:
        try:
            syscalls.rename_noreplace(_DIRECTORY, place, directory.instance, base)
        except FileExistsError as e:
            LOG.error("[instance: %s] another directory was swapped in and is in the trash now, "
                      "because its name was taken again; restore it by hand", directory.instance)
            raise _changed(directory, "its name was swapped twice") from e
        raise _changed(directory, "another directory was swapped in and was put back")

    def _forget_half_made(self, item_id: str, area: int) -> None:
        """An item without a directory is of no use; one that has it stays in any case."""
        with (contextlib.suppress(OSError),
              syscalls.held(syscalls.open_directory(item_id, area)) as place):
            if syscalls.identity(_DIRECTORY, place) is None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(_RECORD, dir_fd=place)
                os.rmdir(item_id, dir_fd=area)

    def _is_due(self, name: str, area: int) -> bool:
        match = _ID.match(name)
        if match is None:
            return False
        age = self._clock() - _time_of(match.group(2))
        with syscalls.held(syscalls.open_directory(name, area)) as place:
            has_directory = syscalls.identity(_DIRECTORY, place) is not None
        return age > (self._retention if has_directory else _IN_THE_MAKING)


def _new_id(instance: str, at: float) -> str:
    return f"{instance}.{time.strftime(_TIME, time.gmtime(at))}.{secrets.token_hex(3)}"


def _time_of(text: str) -> float:
    try:
        return calendar.timegm(time.strptime(text, _TIME))
    except ValueError:  # nobody but a hand makes such a name: never due
        return float("inf")


def _changed(directory: PinnedDirectory, reason: str) -> errors.DirectoryChanged:
    return errors.DirectoryChanged(path=directory.label, reason=reason)


def _write_record(place: int, record: _Record) -> None:
    with syscalls.held(syscalls.create_file(_RECORD, place)) as fd:
        sparse.write_all(fd, msgspec.json.encode(record), 0)
        os.fsync(fd)
    os.fsync(place)


def _read(item_id: str, area: int) -> Item | None:
    """None where there is no such item, or it is half-made."""
    match = _ID.match(item_id)
    if match is None:
        return None
    try:
        place = syscalls.open_directory(item_id, area)
    except FileNotFoundError:
        return None
    with syscalls.held(place):
        if syscalls.identity(_DIRECTORY, place) is None:
            return None
        item = Item(item_id, match.group(1), _time_of(match.group(2)), bytes=_size(place))
        record = _read_record(place)
    if record is None:
        return item
    return dataclasses.replace(item, at=record.at, migration=record.migration, facts=record.facts)


def _read_record(place: int) -> _Record | None:
    fd = syscalls.open_below(_RECORD, place)
    if fd is None:
        return None
    with syscalls.held(fd):
        try:
            return msgspec.json.decode(os.pread(fd, os.fstat(fd).st_size, 0), type=_Record)
        except msgspec.MsgspecError as e:
            LOG.warning("%s cannot be read: %s", syscalls.name_of(fd), e)
            return None


def _size(place: int) -> int:
    with syscalls.held(syscalls.open_directory(_DIRECTORY, place)) as fd:
        return _size_below(fd, _COUNTED_DEPTH, [_COUNTED])


def _size_below(fd: int, depth: int, left: list[int]) -> int:
    total = 0
    with os.scandir(fd) as listing:
        names = [entry.name for entry in itertools.islice(listing, left[0])]
    left[0] -= len(names)
    for name in names:
        with contextlib.suppress(OSError):  # it is only a size for people
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            total += status.st_blocks * 512
            if stat.S_ISDIR(status.st_mode) and depth:
                with syscalls.held(syscalls.open_directory(name, fd)) as inner:
                    total += _size_below(inner, depth - 1, left)
    return total


def _remove(name: str, area: int) -> bool:
    try:
        return removal.remove_tree(name, area)
    except OSError as e:
        LOG.warning("%s in the trash cannot be removed yet: %s", name, e.strerror)
        return False
