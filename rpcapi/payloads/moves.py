# SPDX-License-Identifier: Apache-2.0
"""One migration: what the source asks of the destination, and what that answers."""

import typing as ty

import msgspec

from rpcapi.fields import HostName, InstanceUUID, MigrationKey, Payload, Text
from rpcapi.payloads.files import Digests, Entries, FileEntry, PathProbe, Paths


class PrepareRequest(Payload, frozen=True, kw_only=True):
    """Source to destination: this guest will come, this is its directory.

    :ivar root: the instance directory itself (owner, mode, times); its path is ``.``.
    """

    migration: MigrationKey
    instance: InstanceUUID
    source: HostName
    destination: HostName
    executor: ty.Literal["nova", "libvirt"]
    request_id: Text = ""
    probe: PathProbe
    root: FileEntry
    entries: Entries = ()


class PrepareReply(Payload, frozen=True, kw_only=True):
    """Destination to source.

    :ivar shared: both hosts see the same directory; nothing was copied.
    :ivar staged: path and digest of every file that is there now.
    :ivar inbound_address: where the destination wants to receive the guest
        (``live_migration_inbound_addr``); empty for its host name.
    :ivar graphics_listen: address that its VNC servers listen on.
    """

    shared: bool = False
    staged: Digests = msgspec.field(default_factory=dict)
    inbound_address: Text = ""
    graphics_listen: Text = ""


class FinishRequest(Payload, frozen=True, kw_only=True):
    """Source to destination: the guest is yours; the files as they ended here."""

    migration: MigrationKey
    instance: InstanceUUID
    source: HostName
    destination: HostName
    executor: ty.Literal["nova", "libvirt"]
    probe: PathProbe
    root: FileEntry
    entries: Entries = ()


class FinishReply(Payload, frozen=True, kw_only=True):
    """Destination to source: every file is durable, under these digests.

    :ivar placed: path of the source's file to the digest that the destination
        read back from its own disk.
    :ivar own: paths of which the destination has and keeps a file of its own.
    """

    shared: bool = False
    placed: Digests = msgspec.field(default_factory=dict)
    own: Paths = ()


class RollbackRequest(Payload, frozen=True, kw_only=True):
    """Source to destination: the guest stays with me; drop what you staged."""

    migration: MigrationKey
    instance: InstanceUUID
    source: HostName
    destination: HostName
    executor: ty.Literal["nova", "libvirt"] = "nova"
    outcome: ty.Literal["failed", "cancelled"] = "failed"


class RollbackReply(Payload, frozen=True, kw_only=True):
    """Destination to source: ``done``, or why not (yet)."""

    done: bool
    reason: Text = ""


class LookRequest(Payload, frozen=True, kw_only=True):
    """A hint between workers: look at this migration now; what is true decides."""

    migration: MigrationKey
    instance: InstanceUUID


class LookReply(Payload, frozen=True, kw_only=True):
    """``known``: the migration is open here and is being looked at."""

    known: bool
