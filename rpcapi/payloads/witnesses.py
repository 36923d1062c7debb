# SPDX-License-Identifier: Apache-2.0
"""What one host asks another about instances, and what that one has observed."""

import typing as ty

import msgspec

from rpcapi.fields import Digest, HostName, InstanceUUID, MigrationKey, Payload, Text
from rpcapi.payloads.files import PathProbe


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


class OpenEntry(Payload, frozen=True, kw_only=True):
    """One journal entry of the answering host about the instance asked for.

    :ivar given_up: that host heard that Nova gave the migration up; a hint.
    :ivar listed: of a source, the ``fingerprint`` of the last list of files that it sent
        its peer, empty for none; None where it does not say so (before 1.2).
    :ivar waits: of a source whose guest nova-compute moves: nothing shows that it ever began
        to move. Since 1.3.
    """

    migration: MigrationKey
    role: ty.Literal["source", "destination"]
    phase: Text
    outcome: Text = ""
    closed: bool = False
    given_up: bool = False
    listed: Digest | None = None
    waits: bool = False


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
    state: ty.Annotated[str, msgspec.Meta(max_length=16, pattern=r"^[a-z_-]*\Z")]
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
