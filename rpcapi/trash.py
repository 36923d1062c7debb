# SPDX-License-Identifier: Apache-2.0
"""What lies in one host's trash, for operators. Since 1.1."""

import typing as ty

import msgspec

from rpcapi import client as clients
from rpcapi.fields import HostName, InstanceUUID, Payload, Size, Text

#: Seconds for one page; the sizes of its items are counted on the disk.
SECONDS = 30
#: Most items of one page.
MAX_ITEMS = 200


class TrashItem(Payload, frozen=True, kw_only=True):
    """One directory that left and can be restored.

    :ivar at: when it left, in seconds since the epoch.
    :ivar migration: key of the migration in whose plan it left.
    :ivar bytes: on disk.
    :ivar reason: what its removal rested on, or why that cannot be told.
    :ivar is_proven: whether its record holds every witness that a removal needs.
    """

    id: Text
    instance: InstanceUUID
    at: float
    migration: Text = ""
    bytes: Size = 0
    reason: Text = ""
    is_proven: bool = True


class TrashRequest(Payload, frozen=True, kw_only=True):
    """Items, newest first.

    :ivar skip: how many of the newest are left out: the pages before this one.
    """

    skip: ty.Annotated[int, msgspec.Meta(ge=0, le=10_000_000)] = 0
    limit: ty.Annotated[int, msgspec.Meta(ge=1, le=MAX_ITEMS)] = MAX_ITEMS


class TrashReply(Payload, frozen=True, kw_only=True):
    """One page, and what all items take together.

    :ivar total: how many items there are.
    :ivar bytes: of all of them, on disk.
    :ivar most: bytes that the trash may take; None for no limit.
    """

    host: HostName
    items: ty.Annotated[tuple[TrashItem, ...], msgspec.Meta(max_length=MAX_ITEMS)]
    total: Size = 0
    bytes: Size = 0
    most: Size | None = None


def trash(client: clients.Client, host: str, request: TrashRequest) -> TrashReply:
    """One page of what lies in the trash of ``host``."""
    return client.call(host, "trash", TrashReply, SECONDS, request, "1.1")


def pages(ask: ty.Callable[[TrashRequest], TrashReply], most: int) -> ty.Iterator[TrashReply]:
    """As many pages as it takes; at least one, for the sums.

    :param ask: gives one page.
    :param most: items at most, rounded up to whole pages.
    """
    skip = 0
    while True:
        page = ask(TrashRequest(skip=skip))
        yield page
        skip += len(page.items)
        if not page.items or skip >= min(page.total, most):
            return
