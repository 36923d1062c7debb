# SPDX-License-Identifier: Apache-2.0
"""One migration: what the source asks of the destination, and what that answers."""

import hashlib
import json
import typing as ty

import msgspec

from rpcapi.fields import HostName, InstanceUUID, MigrationKey, Payload, Text
from rpcapi.payloads.files import Digests, Entries, FileEntry, PathProbe, Paths

#: What a receiver acts on, of each file.  The content is in it by its digest; what is added
#: to a payload later stays out, since an older receiver does not see it.
_ACTED_ON = ("path", "kind", "size", "mode", "uid", "gid", "owner", "group", "mtime_ns", "digest")
_PROBE = ("nonce", "inode", "changed_ns", "filesystem")


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


def fingerprint(request: PrepareRequest | FinishRequest) -> str:
    """SHA-256 in hex over all of a list of files that its receiver acts on. Since 1.2.

    The same on both hosts, whichever fields either of them knows besides.
    """
    told = [type(request).__name__, request.migration, request.instance, request.source,
            request.destination, request.executor,
            [getattr(request.probe, name) for name in _PROBE],
            [[getattr(entry, name) for name in _ACTED_ON]
             for entry in (request.root, *request.entries)]]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


class LookRequest(Payload, frozen=True, kw_only=True):
    """A hint between workers: look at this migration now; what is true decides."""

    migration: MigrationKey
    instance: InstanceUUID


class LookReply(Payload, frozen=True, kw_only=True):
    """``known``: the migration is open here and is being looked at."""

    known: bool
