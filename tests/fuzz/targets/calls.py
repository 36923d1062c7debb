# SPDX-License-Identifier: Apache-2.0
"""Calls of peers: the payloads alone, and whole calls to a worker on a small disk.

An input is JSON, ``[method, request]``, as it is on the broker.
"""

import json
import logging
import os
import sqlite3
import typing as ty

import msgspec
import oslo_messaging

from devstack import conductor
from rbd_worker.migration import journal_file
from rpcapi import fields, payloads
from tests import world as worlds
from tests.fuzz import oracle
from tests.fuzz.targets import Target, shapes

#: Has a migration open to the host that is called.
_GUEST = "a05482ec-d71a-48c7-bf99-94d829b20aef"
#: Runs on the host that is called: nothing of it may be touched.
_RUNNING = "5fc717eb-8add-4f06-a2a0-5126081deb02"
#: A directory without a guest: no forged call may prove it away.
_LEFTOVER = "0c9d8e7f-1a2b-4c3d-9e4f-5a6b7c8d9e0f"
_REQUESTS: dict[str, type[fields.Payload]] = {
    "pre_live_migration": payloads.PrepareRequest, "read_chunk": payloads.ChunkRequest,
    "post_live_migration": payloads.FinishRequest,
    "rollback_live_migration": payloads.RollbackRequest, "look_again": payloads.LookRequest,
    "testify": payloads.TestifyRequest, "audit": payloads.AuditRequest,
    "who_holds": payloads.WhoHoldsRequest, "holding": payloads.HoldingReport}
_KINDS: dict[str, type[fields.Payload]] = _REQUESTS | {
    "": payloads.Testimony, "PrepareReply": payloads.PrepareReply, "Chunk": payloads.Chunk,
    "FinishReply": payloads.FinishReply, "RollbackReply": payloads.RollbackReply,
    "TestifyReply": payloads.TestifyReply, "AuditReply": payloads.AuditReply,
    "Description": payloads.Description}
#: Calls after which a new world is made: a journal that grows makes each call slower.
_CALLS_PER_WORLD = 500


def payloads_only() -> Target:
    """Every payload: what is taken is within its bounds, and survives another journey."""
    return Target(_payload, _seeds(_KINDS), shapes.WORDS, 4096, is_json=True)


def whole() -> Target:
    """The edge with everything behind it: desk, journal, staging, witnesses."""
    return Target(_World().call, _seeds(_REQUESTS), shapes.WORDS, 4096, is_json=True)


def _seeds(kinds: ty.Iterable[str]) -> tuple[bytes, ...]:
    made = [(name, shapes.request(name, instance))
            for name in kinds for instance in (_GUEST, _RUNNING, _LEFTOVER)]
    return tuple(json.dumps(each).encode() for each in made if each[1] is not None)


def _decoded(data: bytes) -> tuple[str, object]:
    match shapes.decoded(data):
        case [str(method), request]:
            return method, request
    return "", None


def _payload(data: bytes) -> None:
    method, wire = _decoded(data)
    kind = _KINDS.get(method)
    if kind is None:
        return
    found = oracle.outcome_of(lambda: kind.from_wire(wire), fields.BadPayload)
    if not isinstance(found, Exception):
        again = kind.from_wire(json.loads(json.dumps(found.to_wire())))
        oracle.require(msgspec.to_builtins(again) == msgspec.to_builtins(found),
                       "a payload is another one after a journey")


class _World:
    """Two hosts and a stranger who calls the second one."""

    def __init__(self) -> None:
        logging.disable(logging.CRITICAL)
        self._box = oracle.Sandbox()
        self._world: worlds.World | None = None
        self._calls = 0

    def call(self, data: bytes) -> None:
        method, request = _decoded(data)
        if method not in _REQUESTS:
            return
        world = self._fresh() if self._calls % _CALLS_PER_WORLD == 0 else self._world
        assert world is not None
        self._calls += 1
        there = world.hosts[1]
        before = self._kept(world)
        endpoint = there.alive.endpoint
        try:
            answer = getattr(endpoint, method)({}, request=request)
        except oslo_messaging.ExpectedException as e:
            oracle.check_refusal(e)
        else:
            json.dumps(answer)
        if self._calls % 16 == 0:
            world.timeline.pass_time(60)
        oracle.require(self._kept(world) == before, "a stranger's call changed a directory")
        oracle.require(not there.libvirt.orders, "a stranger's call was followed")
        self._box.check()

    def _kept(self, world: worlds.World) -> list[object]:
        """What may not change: three directories, and that the trash is empty."""
        here, there = world.hosts
        trash = there.path / ".rbd-worker" / "trash"
        return [oracle.tree_of(str(here.directory(_GUEST))),
                oracle.tree_of(str(there.directory(_RUNNING))),
                oracle.tree_of(str(there.directory(_LEFTOVER))),
                os.listdir(trash) if trash.exists() else []]

    def _fresh(self) -> worlds.World:
        if self._world is not None:
            self._world.close()
        _without_syncs()
        path = self._box.emptied() / f"w{self._calls}"
        path.mkdir()
        world = self._world = worlds.World(path, "nova")
        world.boot(world.hosts[1], _RUNNING)
        world.boot(world.hosts[1], _LEFTOVER)
        world.hosts[1].libvirt.states.pop(_LEFTOVER)
        world.boot(world.hosts[0], _GUEST)
        world.hosts[0].cast(conductor.live_migration(conductor.LiveMigration(
            _GUEST, shapes.SOURCE, shapes.DESTINATION, uuid=shapes.MIGRATION)))
        world.timeline.pass_time(1)
        return world


def _without_syncs() -> None:
    """The disk is memory: waiting for it proves nothing here."""
    real = journal_file.opened

    def opened(path: ty.Any) -> sqlite3.Connection:
        db = real(path)
        db.execute("PRAGMA synchronous=OFF")
        return db
    if journal_file.opened.__module__ == journal_file.__name__:
        journal_file.opened = opened
