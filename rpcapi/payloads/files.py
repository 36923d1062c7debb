# SPDX-License-Identifier: Apache-2.0
"""Files of an instance directory on their way from one host to the other."""

import re
import typing as ty

import msgspec

from rpcapi.fields import (
    CHUNK_BYTES,
    MAX_ENTRIES,
    MAX_INLINE_BYTES,
    Digest,
    InstanceUUID,
    MigrationKey,
    OwnerName,
    Payload,
    RelativePath,
    Size,
)


class FileEntry(Payload, frozen=True, kw_only=True):
    """One file or directory below an instance directory.

    :ivar path: relative, ``/`` between names, no ``.``, ``..`` or empty names.
    :ivar size: apparent size in bytes; 0 for a directory.
    :ivar data: bytes that the file occupies at the sender, holes left out: what the
        receiver needs room for. 0 where the sender does not know (an older worker).
    :ivar mode: permission bits.
    :ivar owner, group: names where the sender knows them, so that hosts whose
        numbers differ keep the meaning; ``uid`` and ``gid`` otherwise.
    :ivar mtime_ns: modification time in nanoseconds since the epoch.
    :ivar digest: SHA-256 of the content (see ``rbd_worker.host.digest``);
        empty for a directory.
    :ivar inline: zlib-compressed content from ``inline_from`` to the end, or
        None where the receiver has to pull it.
    """

    path: RelativePath
    kind: ty.Literal["file", "directory"]
    size: Size = 0
    data: Size = 0
    mode: ty.Annotated[int, msgspec.Meta(ge=0, le=0o7777)]
    uid: ty.Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 2)]
    gid: ty.Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 2)]
    owner: OwnerName = ""
    group: OwnerName = ""
    mtime_ns: ty.Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
    digest: Digest = ""
    inline: ty.Annotated[bytes, msgspec.Meta(max_length=MAX_INLINE_BYTES)] | None = None
    inline_from: Size = 0


Entries = ty.Annotated[tuple[FileEntry, ...], msgspec.Meta(max_length=MAX_ENTRIES)]


#: Path of a file to the digest of its content.
Digests = ty.Annotated[dict[RelativePath, Digest], msgspec.Meta(max_length=MAX_ENTRIES)]
Paths = ty.Annotated[tuple[RelativePath, ...], msgspec.Meta(max_length=MAX_ENTRIES)]


class PathProbe(Payload, frozen=True, kw_only=True):
    """What one host lays down so that the other can tell a shared path.

    :ivar nonce: name of a file just made in ``<instances_path>/.rbd-worker/nonce``;
        empty where only the identity of the directory is told.
    :ivar inode, changed_ns, filesystem: of the instance directory, 0 where
        there is none: equal on both hosts means shared, or at least unsure.
    """

    nonce: ty.Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{32})?\Z")] = ""
    inode: ty.Annotated[int, msgspec.Meta(ge=0)] = 0
    changed_ns: int = 0
    filesystem: ty.Annotated[int, msgspec.Meta(ge=0)] = 0


#: Longest content of a message that brings one piece of a file outside of JSON, in bytes.
MAX_PARCEL_BYTES = 2 * CHUNK_BYTES
#: What the name of a queue for such messages begins with.
PARCEL_QUEUE = "rbd_worker.parcels"

_ParcelQueue = ty.Annotated[
    str, msgspec.Meta(pattern=rf"^({re.escape(PARCEL_QUEUE)}\.[0-9a-f]{{32}})?\Z")]
_Token = ty.Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{32})?\Z")]


class ChunkRequest(Payload, frozen=True, kw_only=True):
    """Destination to source: the content of one pinned file from ``offset``.

    :ivar queue: of the destination's own, where the source may put the data as a
        message whose correlation id is ``token``; empty for none. Since 1.1.
    """

    migration: MigrationKey
    instance: InstanceUUID
    path: RelativePath
    offset: Size
    queue: _ParcelQueue = ""
    token: _Token = ""


class Chunk(Payload, frozen=True, kw_only=True):
    """A piece of a file: ``data`` (zlib) stands at ``offset``, ``next`` is where to go on.

    Between the end of ``data`` and ``next`` there is a hole; ``next`` equal to
    the file's size ends the file.

    :ivar apart: so many bytes of ``data`` are in the queue that the request named,
        and none here; 0 where ``data`` is here. Since 1.1.
    """

    offset: Size
    data: ty.Annotated[bytes, msgspec.Meta(max_length=MAX_PARCEL_BYTES)]
    next: Size
    apart: ty.Annotated[int, msgspec.Meta(ge=0, le=MAX_PARCEL_BYTES)] = 0
