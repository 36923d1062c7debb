# SPDX-License-Identifier: Apache-2.0
"""Snapshots of all RBD disks of an instance, for operators. Since 1.1.

Asked of the host whose libvirt has the instance.  ``snapshot_list``,
``snapshot_show`` and ``snapshot_delete`` are answered as well by the host that
took a snapshot, wherever the guest is by now.  A rollback and a copy take
long: they are answered with a job that has begun, which ``snapshot_job`` tells
more of until it has ended.
"""

import typing as ty

import msgspec

from rpcapi import client as clients
from rpcapi.fields import Explanation, HostName, InstanceUUID, MigrationKey, Payload, Size, Text

#: Seconds for what only looks, and for what changes Ceph; the caller gets heartbeats meanwhile.
LOOK_SECONDS, ACT_SECONDS = 30, 120
#: Most disks of an instance, and most snapshots of one answer.
MAX_DISKS, MAX_SNAPSHOTS = 64, 1000
#: Most rollbacks and copies that are told with a snapshot, the newest.
MAX_JOBS = 16

#: An operator's name for a snapshot; it becomes part of names in Ceph.
SnapshotName = ty.Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
PoolName = ty.Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,128}\Z")]
#: Seconds; at most ten years.
Seconds = ty.Annotated[int, msgspec.Meta(ge=0, le=315_360_000)]

#: How the disks were brought to one point: ``off`` the guest was not running, ``frozen`` by
#: its agent, ``paused`` it was paused already, ``single`` there is one disk only, ``sequence``
#: not at all: one after the other; empty while it is being taken.
How = ty.Literal["off", "frozen", "paused", "single", "sequence", ""]
Freeze = ty.Literal["auto", "always", "never"]


class Disk(Payload, frozen=True, kw_only=True):
    """One image of a snapshot.

    :ivar image: ``pool/image``; ``snapshot`` its name there.
    :ivar id: Ceph's number of it; 0 where it is not there.
    :ivar size: of the disk then, in bytes.
    :ivar children: images that were cloned of it and depend on it.
    """

    image: Text
    snapshot: Text
    id: ty.Annotated[int, msgspec.Meta(ge=0)] = 0
    size: Size = 0
    protected: bool = False
    children: ty.Annotated[tuple[Text, ...], msgspec.Meta(max_length=256)] = ()


class JobDisk(Payload, frozen=True, kw_only=True):
    """:ivar target: what it is copied to; empty for a rollback."""

    image: Text
    target: Text = ""
    state: ty.Literal["todo", "doing", "done", "back"]
    share: ty.Annotated[float, msgspec.Meta(ge=0, le=1)] = 0


class Job(Payload, frozen=True, kw_only=True):
    """A rollback or a copy, as it stands.

    :ivar reason: why it failed, or what it waits for.
    :ivar safety: of a rollback, the snapshot that was taken before it.
    """

    id: MigrationKey
    kind: ty.Literal["rollback", "copy"]
    instance: InstanceUUID
    name: SnapshotName
    state: ty.Literal["doing", "done", "failed"]
    reason: Explanation = ""
    safety: Text = ""
    disks: ty.Annotated[tuple[JobDisk, ...], msgspec.Meta(max_length=MAX_DISKS)] = ()


class Snapshot(Payload, frozen=True, kw_only=True):
    """All disks of an instance at one point.

    :ivar host, by: where it was taken, and who asked for it.
    :ivar at, expires: seconds since the epoch; ``expires`` is 0 for never.
    :ivar state: ``incomplete`` where it lacks disks; ``making`` and ``removing`` in between.
    :ivar jobs: rollbacks to it and copies of it on the host that answers.
    """

    name: SnapshotName
    instance: InstanceUUID
    host: HostName
    by: Text = ""
    note: Text = ""
    at: float
    expires: float = 0
    how: How = ""
    state: ty.Literal["made", "making", "removing", "incomplete"]
    disks: ty.Annotated[tuple[Disk, ...], msgspec.Meta(max_length=MAX_DISKS)] = ()
    jobs: ty.Annotated[tuple[Job, ...], msgspec.Meta(max_length=MAX_JOBS)] = ()


class CreateRequest(Payload, frozen=True, kw_only=True):
    """:ivar expires_in: seconds after which it is removed by itself; 0 for never."""

    instance: InstanceUUID
    name: SnapshotName
    by: Text = ""
    note: Text = ""
    expires_in: Seconds = 0
    freeze: Freeze = "auto"


class CreateReply(Payload, frozen=True, kw_only=True):
    """:ivar warnings: what it does not hold, or not at one point; a sentence each."""

    snapshot: Snapshot
    warnings: ty.Annotated[tuple[Explanation, ...], msgspec.Meta(max_length=8)] = ()


class ListRequest(Payload, frozen=True, kw_only=True):
    """:ivar instance: all of its disks' snapshots; None for those that the host took."""

    instance: InstanceUUID | None = None


class ListReply(Payload, frozen=True, kw_only=True):
    snapshots: ty.Annotated[tuple[Snapshot, ...], msgspec.Meta(max_length=MAX_SNAPSHOTS)]


class NameRequest(Payload, frozen=True, kw_only=True):
    """One snapshot of one instance."""

    instance: InstanceUUID
    name: SnapshotName


class RollbackRequest(Payload, frozen=True, kw_only=True):
    """Have all disks as they were; only for a guest that is off."""

    instance: InstanceUUID
    name: SnapshotName
    by: Text = ""


class CopyRequest(Payload, frozen=True, kw_only=True):
    """Have an image of each disk in another pool that depends on nothing."""

    instance: InstanceUUID
    name: SnapshotName
    pool: PoolName
    by: Text = ""


class JobRequest(Payload, frozen=True, kw_only=True):
    job: MigrationKey


class DeleteReply(Payload, frozen=True, kw_only=True):
    """:ivar done: what was done, as a sentence."""

    done: Text


def create(client: clients.Client, host: str, request: CreateRequest) -> CreateReply:
    """Have ``host`` take a snapshot of all disks of one of its guests."""
    return client.call(host, "snapshot_create", CreateReply, ACT_SECONDS, request, "1.1")


def snapshots(client: clients.Client, host: str, request: ListRequest) -> ListReply:
    """Snapshots of an instance, or those that ``host`` took; oldest first."""
    return client.call(host, "snapshot_list", ListReply, LOOK_SECONDS, request, "1.1")


def show(client: clients.Client, host: str, request: NameRequest) -> Snapshot:
    """One snapshot with its disks as they are in Ceph now."""
    return client.call(host, "snapshot_show", Snapshot, LOOK_SECONDS, request, "1.1")


def delete(client: clients.Client, host: str, request: NameRequest) -> DeleteReply:
    """Have ``host`` remove a snapshot from all disks."""
    return client.call(host, "snapshot_delete", DeleteReply, ACT_SECONDS, request, "1.1")


def rollback(client: clients.Client, host: str, request: RollbackRequest) -> Job:
    """Have ``host`` begin to roll all disks of a guest back."""
    return client.call(host, "snapshot_rollback", Job, ACT_SECONDS, request, "1.1")


def copy(client: clients.Client, host: str, request: CopyRequest) -> Job:
    """Have ``host`` begin to copy a snapshot, or tell of the copy that it has begun."""
    return client.call(host, "snapshot_copy", Job, ACT_SECONDS, request, "1.1")


def job(client: clients.Client, host: str, job: str) -> Job:
    """How far ``host`` is with a rollback or a copy."""
    return client.call(host, "snapshot_job", Job, LOOK_SECONDS, JobRequest(job=job), "1.1")
