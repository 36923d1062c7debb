# SPDX-License-Identifier: Apache-2.0
"""Directories of a host whose guest is not there."""

import typing as ty

import msgspec

from rpcapi.fields import Explanation, InstanceUUID, Payload, Size, Text


class AuditRequest(Payload, frozen=True, kw_only=True):
    """Operator to worker: look at every directory without a guest now.

    :ivar act: remove what is proven, where ``audit_action`` allows it too.
    """

    act: bool = False


class Finding(Payload, frozen=True, kw_only=True):
    """One directory without a guest here, or a guest here that Nova takes to be elsewhere.

    :ivar verdict: ``leftover`` (proven), ``trashed`` or ``kept``.
    :ivar holder: the host whose libvirt has the guest; empty where none said so.
    :ivar reason: why it is kept, or the id of the trash item.
    :ivar nova: where Nova's record disagrees with what is true, and what mends it; empty
        where it agrees or is not asked for.
    """

    instance: InstanceUUID
    verdict: ty.Literal["leftover", "trashed", "kept"]
    holder: Text = ""
    reason: Explanation = ""
    nova: Explanation = ""


class AuditReply(Payload, frozen=True, kw_only=True):
    """:ivar directories: how many instance directories there are."""

    directories: Size
    findings: ty.Annotated[tuple[Finding, ...], msgspec.Meta(max_length=100_000)] = ()
