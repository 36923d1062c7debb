# SPDX-License-Identifier: Apache-2.0
"""What one host's journal says, for operators. Since 1.1.

Read page by page: an answer has a bounded number of entries, and says where
the next page begins.
"""

import typing as ty

import msgspec

from rpcapi import client as clients
from rpcapi.fields import (
    Explanation,
    HostName,
    InstanceUUID,
    MigrationKey,
    Moment,
    Payload,
    Text,
)

#: Seconds for one page.
SECONDS = 10
#: Most entries of one page, and most records of one entry; a plan has some twenty.
MAX_ENTRIES, MAX_RECORDS = 200, 1000
#: Most characters of what one step kept.
MAX_DATA = 1 << 18

Role = ty.Literal["source", "destination"]


class Record(Payload, frozen=True, kw_only=True):
    """One line of an entry's timeline.

    :ivar at: seconds since the epoch.
    :ivar data: what the step kept, as JSON.
    """

    at: Moment
    step: Text
    state: Text
    data: ty.Annotated[str, msgspec.Meta(max_length=MAX_DATA)] = "{}"


class Entry(Payload, frozen=True, kw_only=True):
    """A migration in one role, as the journal has it.

    :ivar number: Nova's id of the migration; 0 where not known.
    :ivar opened, closed: seconds since the epoch; ``closed`` is 0 while it is open.
    :ivar outcome: empty while nothing is settled.
    :ivar records: oldest first; empty where they were not asked for.
    """

    migration: MigrationKey
    instance: InstanceUUID
    role: Role
    source: HostName
    destination: HostName
    executor: Text
    request_id: Text = ""
    number: int = 0
    phase: Text = ""
    outcome: Text = ""
    reason: Explanation = ""
    opened: Moment
    closed: Moment = 0
    records: ty.Annotated[tuple[Record, ...], msgspec.Meta(max_length=MAX_RECORDS)] = ()


class HistoryRequest(Payload, frozen=True, kw_only=True):
    """Entries, newest first.

    :ivar open_only: only those that have not ended.
    :ivar since, until: by the time an entry was opened, seconds since the epoch.
    :ivar migration: only this one.
    :ivar records: with their records.
    :ivar skip: how many of the newest are left out: the pages before this one.
    """

    open_only: bool = False
    since: float = 0
    until: float = 1e12
    migration: MigrationKey | None = None
    records: bool = False
    skip: ty.Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    limit: ty.Annotated[int, msgspec.Meta(ge=1, le=MAX_ENTRIES)] = 50


class HistoryReply(Payload, frozen=True, kw_only=True):
    """:ivar more: there are older ones."""

    host: HostName
    entries: ty.Annotated[tuple[Entry, ...], msgspec.Meta(max_length=MAX_ENTRIES)]
    more: bool = False


class RefusalsRequest(Payload, frozen=True, kw_only=True):
    limit: ty.Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


class Refusal(Payload, frozen=True, kw_only=True):
    """:ivar at: seconds since the epoch; ``reason`` never has what was refused."""

    at: Moment
    origin: Text
    reason: Text


class RefusalsReply(Payload, frozen=True, kw_only=True):
    refusals: ty.Annotated[tuple[Refusal, ...], msgspec.Meta(max_length=1000)]


def history(client: clients.Client, host: str, request: HistoryRequest) -> HistoryReply:
    """One page of the journal of ``host``."""
    return client.call(host, "history", HistoryReply, SECONDS, request, "1.1")


def refusals(client: clients.Client, host: str, request: RefusalsRequest) -> RefusalsReply:
    """Bad input that ``host`` turned away."""
    return client.call(host, "refusals", RefusalsReply, SECONDS, request, "1.1")


def pages(ask: ty.Callable[[HistoryRequest], HistoryReply], request: HistoryRequest,
          most: int, size: int = MAX_ENTRIES) -> ty.Iterator[Entry]:
    """Entries over as many pages as it takes.

    :param ask: gives one page.
    :param most: entries at most.
    :param size: entries of one page at most; few where they come with their records.
    """
    left = most
    while left > 0:
        page = ask(msgspec.structs.replace(request, limit=min(left, size)))
        yield from page.entries
        left -= len(page.entries)
        if not page.more or not page.entries:
            return
        request = msgspec.structs.replace(request, skip=request.skip + len(page.entries))
