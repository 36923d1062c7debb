# SPDX-License-Identifier: Apache-2.0
"""What a report is made of, read from each host in bounded pages."""

import dataclasses
import itertools
import typing as ty

from rbd_worker import errors
from rbd_worker.report import moves
from rpcapi import history as contract
from rpcapi import payloads
from rpcapi import trash as trash_contract

#: Entries of one page: each comes with all its records.
PAGE = 25

AskHistory = ty.Callable[[contract.HistoryRequest], contract.HistoryReply]
AskTrash = ty.Callable[[trash_contract.TrashRequest], trash_contract.TrashReply]


@dataclasses.dataclass(frozen=True)
class Asked:
    """How one host is asked; ``audit`` None where its directories are not to be looked at."""

    history: AskHistory
    trash: AskTrash
    audit: ty.Callable[[], payloads.AuditReply] | None = None


@dataclasses.dataclass(frozen=True)
class HostPart:
    """What one host told.

    :ivar trouble: sentences about what could not be read.
    :ivar is_cut: it has more entries of that time than were asked for.
    :ivar leftovers: None where nobody looked.
    """

    host: str
    entries: tuple[contract.Entry, ...] = ()
    trash: tuple[trash_contract.TrashItem, ...] = ()
    trash_total: int = 0
    trash_bytes: int = 0
    leftovers: tuple[payloads.Finding, ...] | None = None
    trouble: tuple[str, ...] = ()
    is_cut: bool = False
    is_heard: bool = True


@dataclasses.dataclass(frozen=True)
class Report:
    """All that the page shows.

    :ivar since, until: seconds since the epoch; ``made`` when it was read.
    """

    since: float
    until: float
    made: float
    parts: tuple[HostPart, ...]

    @property
    def moves(self) -> list[moves.Move]:
        return moves.together((part.host, entry) for part in self.parts
                              for entry in part.entries)


def part(host: str, asked: Asked, since: float, until: float, most: int) -> HostPart:
    """What one host tells; what it does not tell is in ``trouble``.

    :param most: entries, and items of the trash.
    """
    trouble: list[str] = []
    entries: list[contract.Entry] = []
    found = trash_contract.TrashReply(host=host, items=())
    items: list[trash_contract.TrashItem] = []
    leftovers = None
    try:
        entries = list(_entries(asked.history, since, until, most + 1))
    except errors.Error as e:
        return HostPart(host, trouble=(e.sentence,), is_heard=False)
    try:
        for found in trash_contract.pages(asked.trash, most):
            items += found.items
    except errors.Error as e:
        trouble.append(f"its trash cannot be read: {e.sentence}")
    try:
        if asked.audit is not None:
            leftovers = asked.audit().findings
    except errors.Error as e:
        trouble.append(f"its directories were not looked at: {e.sentence}")
    return HostPart(host, tuple(entries[:most]), tuple(items[:most]), found.total, found.bytes,
                    leftovers, tuple(trouble), is_cut=len(entries) > most)


def _entries(ask: AskHistory, since: float, until: float, most: int,
             ) -> ty.Iterator[contract.Entry]:
    """Whatever is still open from before, then those of that time."""
    request = contract.HistoryRequest(since=since, until=until, records=True)
    older = contract.HistoryRequest(until=since, open_only=True, records=True)
    seen: set[tuple[str, str]] = set()
    for entry in itertools.chain(contract.pages(ask, older, most, PAGE),
                                 contract.pages(ask, request, most, PAGE)):
        if (entry.migration, entry.role) not in seen:
            seen.add((entry.migration, entry.role))
            yield entry
