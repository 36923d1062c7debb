# SPDX-License-Identifier: Apache-2.0
"""Messages as the broker delivers them: the envelope, and the call inside it."""

import dataclasses
import json

from rbd_worker import errors, model
from rbd_worker.triggers import casts, envelope
from tests.fixtures import wire
from tests.fuzz import oracle
from tests.fuzz.targets import Target

_HOST = "node01"
_WORDS = (b"oslo.version", b"oslo.message", b"2.0", b"method", b"args", b"live_migration",
          b"live_migration_abort", b"live_migration_force_complete",
          b"check_can_live_migrate_destination", b"rollback_live_migration_at_destination",
          b"post_live_migration_at_destination", b"_unique_id", b"_context_request_id", b"dest",
          b"instance", b"migration", b"uuid", b"nova_object.data", b"versioned_object.data",
          b"migration_type", b"live-migration", b"source_compute", b"instance_uuid", b"host",
          b"id", b"migration_id", b"migrate_data", b"image_type", b"namespace", b"null", b"true",
          b"block_migration", b"\\u006c", b"9223372036854775808", b"1e400", b"NaN", b"\\ud800")


def whole() -> Target:
    """The body as a whole."""
    nasty = (b"", b"{", b"[" * 5000, b'{"oslo.version": "3.0"}', b"\xff\xfe{\0}\0",
             wire.enveloped("[" * 5000), wire.enveloped(wire.enveloped("{}").decode()))
    return Target(_body, (*map(_small, wire.NAMES), *nasty), _WORDS, 8192)


def inner() -> Target:
    """What is inside the envelope: every input gets past the outer layer."""
    seeds = [json.dumps(_shortened(wire.message(name))).encode() for name in wire.NAMES]
    deep = json.dumps(wire.message(wire.NAMES[0]) | {"args": {"instance": {"uuid": 0}}})
    nested = [deep.replace('"uuid": 0', f'"uuid": {"[" * n}{"]" * n}').encode()
              for n in (10, 300, 900, 950, 970, 980)]
    return Target(lambda data: _body(wire.enveloped(data.decode("utf-8", "replace"))),
                  (*seeds, *nested), _WORDS, 8192, is_json=True)


def _small(name: str) -> bytes:
    return wire.enveloped(_shortened(wire.message(name)))


def _shortened(message: wire.Message) -> wire.Message:
    """Without most of what is never read, so that mutations hit what is."""
    data = message["args"].get("instance", {}).get("nova_object.data", {})
    for name in [n for n in data if n not in ("uuid", "host", "id")]:
        del data[name]
    return {name: value for name, value in message.items()
            if not name.startswith("_context") or name in ("_context_request_id",
                                                           "_context_auth_token")}


def _body(body: bytes) -> None:
    heard = oracle.outcome_of(lambda: casts.parse(body, host=_HOST), errors.BadInput)
    if heard is None or isinstance(heard, Exception):
        return
    oracle.require(envelope.may_concern(body), "a message of concern would be dropped unseen")
    _check(heard)


def _check(heard: casts.Heard) -> None:
    """What goes on is in the one form that may become part of a path, a key or a URI."""
    model.canonical_uuid(heard.instance)
    for name, value in dataclasses.asdict(heard).items():
        if name in ("destination", "source_hint") and value is not None:
            model.host_name(value)
        if name == "migration_id" and value is not None:
            oracle.require(type(value) is int and 0 < value < 1 << 63, "an id is out of range")
        if isinstance(value, str):
            oracle.require(len(value) <= 255, f"{name} is too long")
            oracle.check_line(value)
