# SPDX-License-Identifier: Apache-2.0
"""One item of the trash on the disk: its name, its record and its size.

An item is *proven* where its record can be read, names the instance that the
item is named for and the very directory that lies in it, and holds every
witness that a removal needs.  Whoever purges looks at that first: what
nobody can tell the story of stays until an operator decides.
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
from rbd_worker.host import sparse, syscalls
from rbd_worker.model import Evidence, Fact

LOG = logging.getLogger(__name__)

DIRECTORY = "directory"
RECORD = "record.json"
#: No record is larger: a dozen facts of a sentence each.
MAX_RECORD_BYTES = 64 << 10
_TIME = "%Y%m%dT%H%M%S"
_ID = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(\d{8}T\d{6})\.[0-9a-f]{6}\Z")
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
    :ivar doubt: why the record does not prove the removal; empty where it does.
    """

    id: str
    instance: str
    at: float
    migration: str = ""
    facts: tuple[Fact, ...] = ()
    bytes: int = 0
    doubt: str = ""

    @property
    def reason(self) -> str:
        return self.doubt or "; ".join(fact.sentence for fact in self.facts)


class Record(msgspec.Struct, frozen=True):
    """Why a directory left.

    :ivar inode: of the directory that was judged; 0 in records of earlier versions.
    """

    instance: str
    migration: str
    at: float
    facts: tuple[Fact, ...]
    inode: int = 0

    def encoded(self) -> bytes:
        return msgspec.json.encode(self)


class File(ty.NamedTuple):
    """One file or directory of an item; ``mode`` as in ``os.stat_result``."""

    path: str
    size: int
    mode: int


def new_id(instance: str, at: float) -> str:
    return f"{instance}.{time.strftime(_TIME, time.gmtime(at))}.{secrets.token_hex(3)}"


def parse_id(name: str) -> tuple[str, float] | None:
    """Instance and time of an item's name; None for any other name."""
    match = _ID.match(name)
    return None if match is None else (match.group(1), _time_of(match.group(2)))


def write_record(place: int, record: Record) -> None:
    """The record is in the item's directory, durably."""
    with syscalls.held(syscalls.create_file(RECORD, place)) as fd:
        sparse.write_all(fd, record.encoded(), 0)
        os.fsync(fd)
    os.fsync(place)


def read(item_id: str, area: int) -> Item | None:
    """None where there is no such item, or it has no directory (yet)."""
    parsed = parse_id(item_id)
    if parsed is None:
        return None
    try:
        with syscalls.held(syscalls.open_directory(item_id, area)) as place:
            item = _read(Item(item_id, *parsed), place)
            return None if item is None else _printable(item)
    except OSError as e:
        if isinstance(e, FileNotFoundError) or syscalls.is_in_the_way(e):
            return None
        return Item(item_id, *parsed, doubt=f"it cannot be read ({e.strerror}): nobody can tell "
                                            "what is in it")


def _read(item: Item, place: int) -> Item | None:
    identity = syscalls.identity(DIRECTORY, place)
    if identity is None:
        return None
    if not stat.S_ISDIR(syscalls.status(DIRECTORY, place).st_mode):
        return dataclasses.replace(item, doubt="what lies in it is no directory: nobody can tell "
                                               "how it came there")
    item = dataclasses.replace(item, bytes=size(place))
    try:
        record = _read_record(place)
    except (OSError, ValueError) as e:
        return dataclasses.replace(
            item, doubt=f"its record cannot be read ({e}): nobody can tell why it left")
    return dataclasses.replace(item, at=record.at, migration=record.migration,
                               facts=record.facts, doubt=_doubt(item, record, identity))


def _printable(item: Item) -> Item:
    """Whoever may write into the record must not steer the operator's terminal."""
    facts = tuple(Fact(errors.printable(fact.witness), fact.verdict,
                       errors.printable(fact.sentence)) for fact in item.facts)
    return dataclasses.replace(item, migration=errors.printable(item.migration), facts=facts,
                               doubt=errors.printable(item.doubt))


def files(place: int) -> ty.Iterator[File]:
    """What an item holds, parents first, links not followed; the first 10,000."""
    with syscalls.held(syscalls.open_directory(DIRECTORY, place)) as fd:
        yield from itertools.islice(_below(fd, "", _COUNTED_DEPTH), _COUNTED)


def size(place: int) -> int:
    """Bytes on disk of what an item holds, as far as that can be seen."""
    with contextlib.suppress(OSError), syscalls.held(
            syscalls.open_directory(DIRECTORY, place)) as fd:
        return _size_below(fd, _COUNTED_DEPTH, [_COUNTED])
    return 0


def _doubt(item: Item, record: Record, identity: syscalls.Identity) -> str:
    if record.instance != item.instance:
        return "its record is of another instance"
    if record.inode not in (0, identity[1]):
        return "another directory than the one that was judged lies in it"
    return Evidence(item.instance, record.facts).doubt


def _time_of(text: str) -> float:
    try:
        return calendar.timegm(time.strptime(text, _TIME))
    except ValueError:  # nobody but a hand makes such a name: never due
        return float("inf")


def _read_record(place: int) -> Record:
    """:raises ValueError, OSError: there is none, or it is torn."""
    fd = syscalls.open_below(RECORD, place)
    if fd is None:
        raise ValueError("there is none")
    with syscalls.held(fd):
        return msgspec.json.decode(os.pread(fd, MAX_RECORD_BYTES, 0), type=Record)


def _below(fd: int, prefix: str, depth: int) -> ty.Iterator[File]:
    for name in sorted(os.listdir(fd)):
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        yield File(syscalls.printable(prefix + name), status.st_size, status.st_mode)
        if stat.S_ISDIR(status.st_mode) and depth:
            with syscalls.held(syscalls.open_directory(name, fd)) as inner:
                yield from _below(inner, f"{prefix}{name}/", depth - 1)


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
