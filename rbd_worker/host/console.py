# SPDX-License-Identifier: Apache-2.0
"""The console's history moves with the guest, as rotated logs.

QEMU empties ``console.log`` when it starts, so the source's log cannot be put
there; it becomes ``console.log.0`` (or the next number that is free), and its
older ones follow.  Nova's console reader, made for virtlogd's rotation, reads
``console.log``, then ``.0``, ``.1``, ..., newest first, until one is missing.

The destination's own logs are never touched.  A small plan is written before
the first rename, and the names are filled from the newest on, so that a kill
between any two renames leaves an unbroken history that is continued later.
"""

import dataclasses
import logging
import os
import secrets
import stat
import types
import typing as ty

import msgspec

from rbd_worker import errors
from rbd_worker.host import arrivals, digest, sparse, syscalls
from rbd_worker.host.area import Area, give_attributes
from rbd_worker.host.instances import PinnedDirectory
from rbd_worker.host.staging import Staging

LOG = logging.getLogger(__name__)

_PLAN = "history.json"
_PIECE = "history."
#: A name as this version or an earlier one has made it; nothing else of the area is renamed.
_PieceName = ty.Annotated[str, msgspec.Meta(pattern=r"\Ahistory\.[0-9a-f]+(\.[0-9]+)?\Z")]
#: Digest of a rotated log that was made of several, and the digests of these.
Joined = ty.Mapping[str, ty.Sequence[str]]
#: Times that the destination may rotate its own log while history is placed.
_ATTEMPTS = 8


class _Log(msgspec.Struct, frozen=True):
    """One staged console log."""

    name: str
    size: int
    digest: str


class _Plan(msgspec.Struct, frozen=True):
    """Pieces (files of the staging area), newest first, from ``console.log.<first>`` on.

    :ivar sources: name and digest of the source's logs that are in the pieces.
    :ivar joined: digest of each piece of several logs, and the digests of these.
    """

    first: ty.Annotated[int, msgspec.Meta(ge=0)]
    pieces: tuple[_PieceName, ...]
    sources: dict[str, str]
    joined: dict[str, tuple[str, ...]] = {}


@dataclasses.dataclass(frozen=True)
class History:
    """What became of the staged console logs.

    :ivar placed: name of each and its digest.
    :ivar joined: digest of each rotated log that was made of several, and the digests of these.
    """

    placed: dict[str, str]
    joined: Joined


def place_history(directory: PinnedDirectory, staged: Staging, *, keep: int, max_bytes: int,
                  joined: Joined = types.MappingProxyType({})) -> History:
    """Every staged console log is a rotated log of ``directory``, durably.

    :param keep: most rotated logs; older ones are joined into the oldest.
    :param max_bytes: most bytes in rotated logs; the oldest bytes leave first.
    :param joined: what earlier calls joined, maybe here: two migrations may bring the same logs.
    :raises errors.DirectoryChanged: the destination rotates its log all the time.
    """
    with syscalls.translated(directory.label), staged.opened() as area:
        logs = _staged_logs(area)
        plan = _carried_out(_read_plan(area), area, directory)
        there = set(plan.sources.values()) | _digests_there(directory, logs, joined)
        left = [log for log in logs if log.size and log.digest not in there]
        if left:
            plan = _carried_out(_planned(left, plan, area, directory, keep, max_bytes), area,
                                directory)
        os.fsync(directory.fd)
    return History({log.name: log.digest for log in logs}, plan.joined)


def _staged_logs(area: Area) -> list[_Log]:
    """Newest first."""
    logs = []
    for name in sorted(os.listdir(area.console), key=arrivals.rotation):
        fd = area.open_file(name)
        if fd is not None:
            with syscalls.held(fd):
                size = os.fstat(fd).st_size
                logs.append(_Log(name, size, digest.of(fd, size)))
    return logs


# -- what the destination has ------------------------------------------------


def _rotated(directory: PinnedDirectory) -> list[str]:
    """Names of the destination's rotated logs, whatever they are."""
    return [name for name in os.listdir(directory.fd) if arrivals.rotation(name) >= 0]


def _next_free(directory: PinnedDirectory) -> int:
    return 1 + max((arrivals.rotation(name) for name in _rotated(directory)), default=-1)


def _size_of_rotated(directory: PinnedDirectory) -> int:
    total = 0
    for name in _rotated(directory):
        status = syscalls.status(name, directory.fd)
        total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


def _digests_there(directory: PinnedDirectory, logs: ty.Iterable[_Log],
                   joined: Joined) -> set[str]:
    """Of rotated logs that may be one of ``logs``, or have some of them in them.

    They were placed earlier, and the plan is gone.
    """
    sizes = {log.size for log in logs if log.size}
    found = set()
    for name in _rotated(directory):
        fd = syscalls.open_below(name, directory.fd)
        if fd is not None:
            with syscalls.held(fd):
                size = os.fstat(fd).st_size
                if joined or size in sizes:
                    found.add(digest.of(fd, size))
    return found.union(*(joined[each] for each in found & joined.keys()))


# -- the plan ----------------------------------------------------------------


def _planned(logs: list[_Log], before: _Plan, area: Area, directory: PinnedDirectory,
             keep: int, max_bytes: int) -> _Plan:
    """Make the pieces and write the plan."""
    first = _next_free(directory)
    room = max(0, max_bytes - _size_of_rotated(directory))
    parts = _within(logs, room, directory)
    slots = max(1, keep - first)
    groups = [[part] for part in parts[:slots - 1]] + [parts[slots - 1:]]
    pieces = []
    joined = dict(before.joined)
    token = secrets.token_hex(4)  # never a name of an earlier plan, which would take it as its own
    for number, group in enumerate(filter(None, groups)):
        name = f"{_PIECE}{token}.{number}"
        made = _make_piece(name, group, area)
        if len(group) > 1:
            joined[made] = tuple(log.digest for log, _ in group)
        pieces.append(name)
    plan = _Plan(first, tuple(pieces), before.sources | {log.name: log.digest for log in logs},
                 joined)
    area.write_record(_PLAN, msgspec.json.encode(plan))
    return plan


def _within(logs: list[_Log], room: int, directory: PinnedDirectory) -> list[tuple[_Log, int]]:
    """Logs and where to begin in each, as far as there is room; newest first."""
    parts = []
    for log in logs:
        begin = max(0, log.size - room)
        if begin < log.size:
            parts.append((log, begin))
        room -= log.size - begin
    left_out = sum(log.size for log in logs) - sum(log.size - begin for log, begin in parts)
    if left_out:
        LOG.warning("[instance: %s] the oldest %d bytes of the console history were left out: "
                    "[rbd_worker] console_history_mib is used up", directory.instance, left_out)
    return parts


def _make_piece(name: str, group: list[tuple[_Log, int]], area: Area) -> str:
    """A file of the area with the group's content, oldest first, with the newest one's owner.

    :returns: its digest.
    """
    newest, _ = group[0]
    with area.part() as part:
        offset = 0
        for log, start in reversed(group):
            with syscalls.held(_opened(log, area)) as fd:
                sparse.copy(fd, part, start, log.size, offset)
            offset += log.size - start
        os.ftruncate(part, offset)
        with syscalls.held(_opened(newest, area)) as fd:
            give_attributes(part, os.fstat(fd))
        os.fsync(part)
        made = digest.of(part, offset)
        area.keep_part_as(name)
    return made


def _opened(log: _Log, area: Area) -> int:
    fd = area.open_file(log.name)
    if fd is None:
        raise errors.DirectoryChanged(path=log.name, reason="it is not staged any more")
    return fd


def _read_plan(area: Area) -> _Plan:
    return area.read_record(_PLAN, _Plan) or _Plan(0, (), {})


def _carried_out(plan: _Plan, area: Area, directory: PinnedDirectory) -> _Plan:
    """Rename what is still in the area; a piece that is gone from there was renamed before."""
    for _ in range(_ATTEMPTS):
        waiting = [(number, piece) for number, piece in enumerate(plan.pieces)
                   if syscalls.identity(piece, area.top) is not None]
        try:
            for number, piece in waiting:
                syscalls.move_file_noreplace(piece, area.top,
                                             f"console.log.{plan.first + number}", directory.fd)
            return plan
        except FileExistsError:  # the destination rotated its own log meanwhile
            left = [piece for _, piece in waiting
                    if syscalls.identity(piece, area.top) is not None]
            plan = _Plan(_next_free(directory), tuple(left), plan.sources, plan.joined)
            area.write_record(_PLAN, msgspec.json.encode(plan))
    raise errors.DirectoryChanged(path=directory.label, reason="its console log is rotated "
                                                               "all the time")
