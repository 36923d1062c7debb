# SPDX-License-Identifier: Apache-2.0
"""What an operator asks of one worker about migrations. Since 1.1.

``progress`` only looks.  ``abort`` and ``force_complete`` are done where the
worker moves the guest (executor libvirt); with nova-compute they are Nova's to
do, and the refusal says with which command.  ``resolve`` ends an unresolved
entry on an operator's word; it removes nothing.  ``live_migrate`` stands in
for the conductor on hosts without nova-compute.
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
    Size,
    Text,
)

#: Seconds for a question that is answered from the journal and libvirt, and for an order.
SECONDS = 10

Role = ty.Literal["source", "destination"]


class ProgressRequest(Payload, frozen=True, kw_only=True):
    migration: MigrationKey


class Progress(Payload, frozen=True, kw_only=True):
    """How far a migration is on the host that answers.

    :ivar outcome: empty while nothing is settled.
    :ivar step: the last step that was recorded, and its state.
    :ivar opened, closed: seconds since the epoch; ``closed`` is 0 while it is open.
    :ivar moving: libvirt moves the guest away right now; what follows holds then only.
    :ivar memory_total, memory_processed, memory_remaining: bytes.
    :ivar rate: bytes a second.
    :ivar iteration: how many times the guest's memory was gone through.
    :ivar downtime_limit, elapsed: milliseconds; 0 where not known.
    """

    migration: MigrationKey
    instance: InstanceUUID
    role: Role
    source: HostName
    destination: HostName
    executor: Text
    phase: Text
    outcome: Text = ""
    reason: Explanation = ""
    step: Text = ""
    opened: Moment = 0
    closed: Moment = 0
    moving: bool = False
    memory_total: Size = 0
    memory_processed: Size = 0
    memory_remaining: Size = 0
    rate: Size = 0
    iteration: ty.Annotated[int, msgspec.Meta(ge=0)] = 0
    downtime_limit: ty.Annotated[int, msgspec.Meta(ge=0)] = 0
    elapsed: ty.Annotated[int, msgspec.Meta(ge=0)] = 0
    mode: ty.Literal["precopy", "postcopy", ""] = ""


class ProgressReply(Payload, frozen=True, kw_only=True):
    """:ivar roles: one for each role that the host has in it; usually one."""

    roles: ty.Annotated[tuple[Progress, ...], msgspec.Meta(max_length=2)]


class OrderRequest(Payload, frozen=True, kw_only=True):
    """An operator's order about one open migration of the host that is asked."""

    migration: MigrationKey


class OrderReply(Payload, frozen=True, kw_only=True):
    """:ivar done: what was set off, as a sentence."""

    done: Text


class ResolveRequest(Payload, frozen=True, kw_only=True):
    """Close an unresolved entry on an operator's word.

    :ivar outcome: what really became of the migration.
    :ivar note: why the operator says so; it is kept in the journal.
    """

    migration: MigrationKey
    outcome: ty.Literal["completed", "failed", "cancelled"]
    note: Text = ""


class LiveMigrateRequest(Payload, frozen=True, kw_only=True):
    """Move a guest of the host that is asked; executor libvirt only."""

    instance: InstanceUUID
    destination: HostName
    request_id: Text = ""


class LiveMigrateReply(Payload, frozen=True, kw_only=True):
    """:ivar migration: the key by which it can be watched."""

    migration: MigrationKey


def progress(client: clients.Client, host: str, migration: str) -> ProgressReply:
    """How far ``host`` is with a migration."""
    return client.call(host, "progress", ProgressReply, SECONDS,
                       ProgressRequest(migration=migration), "1.1")


def abort(client: clients.Client, host: str, migration: str) -> OrderReply:
    """Have the source give a move up."""
    return client.call(host, "abort", OrderReply, SECONDS, OrderRequest(migration=migration),
                       "1.1")


def force_complete(client: clients.Client, host: str, migration: str) -> OrderReply:
    """Have the source make a move end now."""
    return client.call(host, "force_complete", OrderReply, SECONDS,
                       OrderRequest(migration=migration), "1.1")


def resolve(client: clients.Client, host: str, request: ResolveRequest) -> OrderReply:
    """Have ``host`` close an unresolved entry of its journal."""
    return client.call(host, "resolve", OrderReply, SECONDS, request, "1.1")


def live_migrate(client: clients.Client, host: str, request: LiveMigrateRequest,
                 ) -> LiveMigrateReply:
    """Have ``host`` move one of its guests."""
    return client.call(host, "live_migrate", LiveMigrateReply, SECONDS, request, "1.1")
