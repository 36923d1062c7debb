# SPDX-License-Identifier: Apache-2.0
"""From a captured message to a typed hint, or to nothing, or to a typed error.

Pure: no broker, no disk, no clock.  What leaves this file is a frozen
dataclass with checked fields; after it no dict crosses a module's boundary.
Everything in a message is a hint and may be forged, so a value that becomes
part of a path, a routing key or a URI is refused unless it is in the one form
that Nova writes.  No error quotes a value: they may hold tokens and secrets.

Two generations are read alike: versioned objects (``nova_object.data``) and
the plain dicts of Icehouse and Juno, which send no migration.
"""

import dataclasses
import hashlib
import re
import typing as ty
from collections import abc

from rbd_worker import errors, model
from rbd_worker.triggers import envelope, values
from rbd_worker.triggers.envelope import BadEnvelope, MessageTooLarge

__all__ = ["AbortCast", "BadCast", "BadCastDestination", "BadCastInstance", "BadCastMigration",
           "BadEnvelope", "CheckDestination", "DestinationIsHere", "ForceCompleteCast", "Heard",
           "LiveMigrationCast", "MessageTooLarge", "PostAtDestination",
           "RollbackAtDestination", "parse"]

_REQUEST_ID = re.compile(r"req-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_UNIQUE_ID = re.compile(r"[A-Za-z0-9._-]{1,120}\Z")
_IMAGE_TYPE = re.compile(r"[a-z0-9_-]{1,32}\Z")


class BadCast(errors.BadInput):
    """One of our methods, with arguments that cannot be used.

    ``data["unique_id"]`` tells which message it was.
    """

    msg = "a {method} message cannot be used: {reason}"


class BadCastInstance(BadCast):
    """No instance, or its UUID is not written as Nova writes directory names."""


class BadCastDestination(BadCast):
    """No destination, or not a host's name."""


class DestinationIsHere(BadCastDestination):
    """The guest would move to the host it is said to leave."""


class BadCastMigration(BadCast):
    """The migration's record contradicts the message."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heard:
    """What every message says.

    :ivar instance: canonical UUID.
    :ivar unique_id: the message's own id, ``[A-Za-z0-9._-]{1,120}``, the same
        again where the broker delivers the message again.
    :ivar request_id: ``req-<uuid>``, or empty.
    """

    instance: str
    unique_id: str
    request_id: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class LiveMigrationCast(Heard):
    """``live_migration``: this host is asked to send the instance to ``destination``.

    :ivar source_hint: the source as Nova's record has it, None where unknown.
    :ivar migration_key: ``[A-Za-z0-9._-]{1,128}``; the migration's UUID, else
        its id with the instance, else the message's id.
    :ivar image_type: the destination's ``images_type``, None where not sent.
    """

    destination: str
    source_hint: str | None
    migration_key: str
    migration_id: int | None
    block_migration: bool | None
    image_type: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbortCast(Heard):
    """``live_migration_abort``, heard on the source."""

    migration_id: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForceCompleteCast(Heard):
    """``live_migration_force_complete``, heard on the source; since Ocata without an id."""

    migration_id: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckDestination(Heard):
    """``check_can_live_migrate_destination``: the earliest sign, heard on the destination.

    :ivar asked: when somebody asked Nova for the migration, by the clock of its API's host,
        in seconds since the epoch; None where not sent.
    """

    source_hint: str | None
    migration_key: str
    migration_id: int | None
    asked: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RollbackAtDestination(Heard):
    """``rollback_live_migration_at_destination``, heard on the destination."""

    source_hint: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class PostAtDestination(Heard):
    """``post_live_migration_at_destination``, heard on the destination."""

    source_hint: str | None


def parse(body: bytes | str, *, host: str, max_body: int = envelope.MAX_BODY) -> Heard | None:
    """Return what ``body`` says, or None where it is none of our business.

    Cold migration, resize and evacuation are not ours, also where they come in
    one of our methods.

    :param host: this host's name, as in the routing key.
    :param max_body: bytes; a longer body is not looked into.
    :raises MessageTooLarge, BadEnvelope, BadCast: all are ``errors.BadInput``.
    """
    if len(body) > max_body:
        raise MessageTooLarge(size=len(body), limit=max_body)
    message = envelope.opened(body)
    method = message.get("method")
    if not isinstance(method, str):
        raise BadEnvelope(reason="it names no method")
    reader = _READERS.get(method)
    if reader is None or message.get("namespace"):
        return None  # Nova's compute API has no namespace; others name methods alike
    call = _Call(method, message, _unique_id(message, body))
    if not call.is_live_migration():
        return None
    return reader(call, host)


def _unique_id(message: values.Object, body: bytes | str) -> str:
    """The message's id; a digest stands for one that is missing or strange."""
    value = message.get("_unique_id")
    if isinstance(value, str) and _UNIQUE_ID.match(value):
        return value
    raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    return "digest-" + hashlib.sha256(raw).hexdigest()


class _Call:
    """One RPC message, read field by field."""

    def __init__(self, method: str, message: values.Object, unique_id: str) -> None:
        self.method = method
        self.unique_id = unique_id
        args = message.get("args")
        self.args: values.Object = args if isinstance(args, dict) else {}
        request_id = message.get("_context_request_id")
        self.request_id = values.if_matches(_REQUEST_ID, request_id) or ""
        self.asked = values.moment(message.get("_context_timestamp"))
        self.migration = values.data(self.args.get("migration"))

    def refused(self, cls: type[BadCast], reason: str) -> BadCast:
        return cls(method=self.method, reason=reason, unique_id=self.unique_id)

    def is_live_migration(self) -> bool:
        """True where the migration's record says so, or is absent as in old releases."""
        return self.migration.get("migration_type") in (None, "live-migration")

    def instance(self) -> str:
        value = values.data(self.args.get("instance")).get("uuid")
        if value is None:
            raise self.refused(BadCastInstance, "it names no instance")
        if not values.is_good(model.canonical_uuid, value):
            raise self.refused(BadCastInstance, "the instance's UUID is not a canonical UUID "
                                                f"but {values.shape(value)}")
        instance = ty.cast(str, value)
        owner = self.migration.get("instance_uuid")
        if owner is not None and owner != instance:
            raise self.refused(BadCastMigration, "its migration is another instance's")
        return instance

    def destination(self, host: str) -> str:
        value = self.args.get("dest")
        if value is None:
            raise self.refused(BadCastDestination, "it names no destination")
        if not values.is_good(model.host_name, value):
            raise self.refused(BadCastDestination, "the destination is not a host name "
                                                   f"but {values.shape(value)}")
        if value == host:
            raise self.refused(DestinationIsHere, "the destination is this host itself")
        return ty.cast(str, value)

    def source_hint(self) -> str | None:
        """Who Nova thinks has the guest; only a hint, so a strange one is none."""
        for value in (self.migration.get("source_compute"),
                      values.data(self.args.get("instance")).get("host")):
            if values.is_good(model.host_name, value):
                return ty.cast(str, value)
        return None

    def migration_key(self, instance: str) -> str:
        uuid, number = self.migration.get("uuid"), self.migration_id()
        if values.is_good(model.canonical_uuid, uuid):
            return ty.cast(str, uuid)
        return f"msg-{self.unique_id}" if number is None else f"id-{number}-{instance}"

    def migration_id(self) -> int | None:
        return values.number(self.migration.get("id"))

    def block_migration(self) -> bool | None:
        value = self.args.get("block_migration")
        return value if isinstance(value, bool) else None

    def image_type(self) -> str | None:
        sent = values.data(self.args.get("migrate_data"))
        return values.if_matches(_IMAGE_TYPE, sent.get("image_type"))

    def common(self) -> dict[str, str]:
        return {"instance": self.instance(), "unique_id": self.unique_id,
                "request_id": self.request_id}


def _live_migration(call: _Call, host: str) -> Heard:
    common = call.common()
    return LiveMigrationCast(
        **common, destination=call.destination(host), source_hint=call.source_hint(),
        migration_key=call.migration_key(common["instance"]), migration_id=call.migration_id(),
        block_migration=call.block_migration(), image_type=call.image_type())


def _abort(call: _Call, _host: str) -> Heard:
    number = values.number(call.args.get("migration_id"))
    if number is None:
        raise call.refused(BadCastMigration, "it names no migration")
    return AbortCast(**call.common(), migration_id=number)


def _force_complete(call: _Call, _host: str) -> Heard:
    number = values.number(call.args.get("migration_id"))
    return ForceCompleteCast(**call.common(), migration_id=number)


def _check_destination(call: _Call, _host: str) -> Heard:
    common = call.common()
    return CheckDestination(
        **common, source_hint=call.source_hint(), migration_id=call.migration_id(),
        migration_key=call.migration_key(common["instance"]), asked=call.asked)


def _rollback(call: _Call, _host: str) -> Heard:
    return RollbackAtDestination(**call.common(), source_hint=call.source_hint())


def _post(call: _Call, _host: str) -> Heard:
    return PostAtDestination(**call.common(), source_hint=call.source_hint())


_READERS: dict[str, abc.Callable[[_Call, str], Heard]] = {
    "live_migration": _live_migration,
    "live_migration_abort": _abort,
    "live_migration_force_complete": _force_complete,
    "check_can_live_migrate_destination": _check_destination,
    "rollback_live_migration_at_destination": _rollback,
    "post_live_migration_at_destination": _post,
}
