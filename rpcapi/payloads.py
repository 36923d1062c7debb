# SPDX-License-Identifier: Apache-2.0
"""What travels between two workers, with every bound that is checked at the edge.

The structures are msgspec's: the annotations are the validation.  ``to_wire``
gives plain JSON types (bytes become base64), ``from_wire`` refuses whatever
breaks a type, a length or a range with :class:`rpcapi.fields.BadPayload`.
"""

import typing as ty

import msgspec

from rpcapi.fields import (
    CHUNK_BYTES,
    MAX_ENTRIES,
    MAX_INLINE_BYTES,
    Digest,
    HostName,
    InstanceUUID,
    MigrationKey,
    Payload,
    RelativePath,
    Size,
    Text,
)


class FileEntry(Payload, frozen=True, kw_only=True):
    """One file or directory below an instance directory.

    :ivar path: relative, ``/`` between names, no ``.``, ``..`` or empty names.
    :ivar size: apparent size in bytes; 0 for a directory.
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
    mode: ty.Annotated[int, msgspec.Meta(ge=0, le=0o7777)]
    uid: ty.Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 2)]
    gid: ty.Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 2)]
    owner: ty.Annotated[str, msgspec.Meta(max_length=64)] = ""
    group: ty.Annotated[str, msgspec.Meta(max_length=64)] = ""
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


class ChunkRequest(Payload, frozen=True, kw_only=True):
    """Destination to source: the content of one pinned file from ``offset``."""

    migration: MigrationKey
    instance: InstanceUUID
    path: RelativePath
    offset: Size


class Chunk(Payload, frozen=True, kw_only=True):
    """A piece of a file: ``data`` (zlib) stands at ``offset``, ``next`` is where to go on.

    Between the end of ``data`` and ``next`` there is a hole; ``next`` equal to
    the file's size ends the file.
    """

    offset: Size
    data: ty.Annotated[bytes, msgspec.Meta(max_length=2 * CHUNK_BYTES)]
    next: Size


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


class Question(Payload, frozen=True, kw_only=True):
    """What do you know of this instance?

    :ivar probe: a nonce of the asking host, looked for in the peer's
        instances_path.
    """

    instance: InstanceUUID
    probe: PathProbe | None = None


Questions = ty.Annotated[tuple[Question, ...], msgspec.Meta(max_length=10_000)]


class TestifyRequest(Payload, frozen=True, kw_only=True):
    """The questions of one asking host, all at once."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    asker: HostName
    questions: Questions


class WhoHoldsRequest(Payload, frozen=True, kw_only=True):
    """To all workers at once: whose libvirt has any of these?  Holders send ``holding``.

    :ivar token: names this round of asking.
    """

    asker: HostName
    token: MigrationKey
    instances: ty.Annotated[tuple[InstanceUUID, ...], msgspec.Meta(max_length=10_000)]


class HoldingReport(Payload, frozen=True, kw_only=True):
    """A holder's answer; a hint that says whom to ask for testimony."""

    host: HostName
    token: MigrationKey
    instances: ty.Annotated[tuple[InstanceUUID, ...], msgspec.Meta(max_length=10_000)]


class AuditRequest(Payload, frozen=True, kw_only=True):
    """Operator to worker: look at every directory without a guest now.

    :ivar act: remove what is proven, where ``audit_action`` allows it too.
    """

    act: bool = False


class Finding(Payload, frozen=True, kw_only=True):
    """One directory without a guest here.

    :ivar verdict: ``leftover`` (proven), ``trashed`` or ``kept``.
    :ivar holder: the host whose libvirt has the guest; empty where none said so.
    :ivar reason: why it is kept, or the id of the trash item.
    """

    instance: InstanceUUID
    verdict: ty.Literal["leftover", "trashed", "kept"]
    holder: ty.Annotated[str, msgspec.Meta(max_length=255)] = ""
    reason: Text = ""


class AuditReply(Payload, frozen=True, kw_only=True):
    """:ivar directories: how many instance directories there are."""

    directories: Size
    findings: ty.Annotated[tuple[Finding, ...], msgspec.Meta(max_length=100_000)] = ()


class OpenEntry(Payload, frozen=True, kw_only=True):
    """One journal entry of the answering host about the instance asked for.

    :ivar given_up: that host heard that Nova gave the migration up; a hint.
    """

    migration: MigrationKey
    role: ty.Literal["source", "destination"]
    phase: Text
    outcome: Text = ""
    closed: bool = False
    given_up: bool = False


class ImageName(Payload, frozen=True, kw_only=True):
    pool: Text
    name: Text


class Testimony(Payload, frozen=True, kw_only=True):
    """One host's answer about one instance, as observed while answering.

    :ivar state: one of ``rbd_worker.model.GuestState``'s values, or
        ``unknown`` where libvirt could not be asked.
    :ivar job: a migration or another job runs on the domain.
    :ivar images: RBD images that the domain's XML names; empty where unknown.
    :ivar addresses: IP addresses of this host's Ceph client.
    :ivar entries: the host's journal entries of this instance, open ones and
        the newest closed ones.
    :ivar sees_nonce: the asker's nonce file is visible here: a shared path.
    """

    __test__ = False

    host: HostName
    instance: InstanceUUID
    state: ty.Annotated[str, msgspec.Meta(max_length=16)]
    job: bool = False
    images: ty.Annotated[tuple[ImageName, ...], msgspec.Meta(max_length=256)] = ()
    addresses: ty.Annotated[tuple[Text, ...], msgspec.Meta(max_length=256)] = ()
    entries: ty.Annotated[tuple[OpenEntry, ...], msgspec.Meta(max_length=64)] = ()
    sees_nonce: bool = False
    probe: PathProbe | None = None
    reason: Text = ""


class TestifyReply(Payload, frozen=True, kw_only=True):
    __test__ = False

    testimonies: ty.Annotated[tuple[Testimony, ...], msgspec.Meta(max_length=10_000)]


class Description(Payload, frozen=True, kw_only=True):
    """Who answers: for status and for refusing an unfit peer early.

    :ivar started: seconds since the epoch.
    :ivar hearing: state of the tap, for people; empty where there is none.
    """

    host: HostName
    worker_version: Text
    rpc_version: Text
    executor: Text
    started: float = 0
    hearing: Text = ""
    open_entries: ty.Annotated[int, msgspec.Meta(ge=0)] = 0
    unresolved: ty.Annotated[int, msgspec.Meta(ge=0)] = 0
