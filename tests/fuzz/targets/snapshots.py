# SPDX-License-Identifier: Apache-2.0
"""An operator's calls about snapshots, as a stranger with the broker's password makes them.

An input is JSON, ``[method, request]``.  What a well-formed request asks for is
done: whoever may call may take and remove snapshots.  But no call changes what
is on a running guest's disks, or anything of an image that is not the guest's.
"""

import copy
import json
import logging
import threading
import typing as ty

import oslo_messaging

from rbd_worker.model import GuestState, RbdImage
from rbd_worker.snapshots.desk import Desk
from rbd_worker.triggers.snapshot_endpoint import SnapshotEndpoint
from rpcapi import fields
from rpcapi import snapshots as contract
from tests.fuzz import oracle
from tests.fuzz.targets import Target, shapes
from tests.unit.snapshots import parts

_REQUESTS: dict[str, dict[str, ty.Any]] = {
    "snapshot_create": {"name": "first", "freeze": "auto", "note": "n", "by": "me",
                        "expires_in": 60},
    "snapshot_list": {}, "snapshot_show": {"name": "first"}, "snapshot_delete": {"name": "first"},
    "snapshot_rollback": {"name": "first"}, "snapshot_copy": {"name": "first", "pool": "backups"}}
_WORDS = (b"first", b"second", b"backups", b"vms", b"volumes", b"auto", b"always", b"never",
          b"job", b"pool", b"name", b"expires_in", b"freeze", b"note", b"by", b"rbd-worker.first",
          b"rbd-worker..before", b"snapshot_create", b"snapshot_delete",
          b"snapshot_rollback", b"snapshot_copy", b"snapshot_job", b"snapshot_list")
#: Another guest's, with a snapshot of the same name.
_OTHER = RbdImage("vms", "22222222-2222-4333-8444-000000000002_disk")
_CALLS_PER_WORLD = 200


def whole() -> Target:
    """The edge with everything behind it, on images in memory."""
    seeds = [[method, request | {"instance": parts.INSTANCE}]
             for method, request in _REQUESTS.items()]
    seeds.append(["snapshot_job", {"job": "0" * 32}])
    return Target(_World().call, tuple(json.dumps(each).encode() for each in seeds),
                  (*_WORDS, *shapes.WORDS), 2048, is_json=True)


class _World:
    """A running guest with two disks."""

    def __init__(self) -> None:
        logging.disable(logging.CRITICAL)
        self._box = oracle.Sandbox()
        self._worker: parts.Worker | None = None
        self._calls = 0

    def call(self, data: bytes) -> None:
        match shapes.decoded(data):
            case [str(method), request] if hasattr(SnapshotEndpoint, method) and (
                    method.startswith("snapshot_")):
                self._called(method, request)

    def _called(self, method: str, request: object) -> None:
        if self._calls % _CALLS_PER_WORLD == 0 or self._worker is None:
            self._worker = self._fresh()
            self._endpoint = SnapshotEndpoint(_desk(self._worker))
            self._before = self._kept(self._worker)
        self._calls += 1
        try:
            answer = getattr(self._endpoint, method)({}, request=request)
        except oslo_messaging.ExpectedException as e:
            oracle.check_refusal(e)
        else:
            oracle.require(method != "snapshot_rollback", "a running guest is rolled back")
            _check_answer(method, json.loads(json.dumps(answer)))
        for thread in threading.enumerate():
            if thread.name.startswith(("copy-", "rollback-")):
                thread.join()
        self._worker.now += 1
        oracle.require(self._kept(self._worker) == self._before,
                       "a call changed what is not the worker's")
        self._box.check()

    def _kept(self, worker: parts.Worker) -> ty.Any:
        contents = [image.content for image in worker.ceph.images.values()]
        return copy.deepcopy((contents, worker.ceph.images[_OTHER], worker.libvirt.orders,
                              worker.libvirt.states))

    def _fresh(self) -> parts.Worker:
        if self._worker is not None:
            self._worker.journal.close()
        path = self._box.emptied() / f"w{self._calls}"
        worker = parts.Worker(path, parts.ROOT, parts.DATA)
        worker.libvirt.states[parts.INSTANCE] = GuestState.RUNNING
        worker.ceph.images[_OTHER] = parts.Image(snapshots={"first": 7})
        return worker


def _check_answer(method: str, answer: object) -> None:
    """It keeps the contract that the caller reads it by."""
    kinds: dict[str, type[fields.Payload]] = {
        "snapshot_create": contract.CreateReply, "snapshot_list": contract.ListReply,
        "snapshot_show": contract.Snapshot, "snapshot_delete": contract.DeleteReply,
        "snapshot_copy": contract.Job, "snapshot_job": contract.Job}
    kinds[method].from_wire(answer)


def _desk(worker: parts.Worker) -> Desk:
    """The desk of these parts; its own way to make them needs a real Ceph."""
    desk = Desk.__new__(Desk)
    vars(desk).update(
        _host="node1", _quiet=worker.quiet, _jobs=worker.jobs, _remover=worker.remover,
        _maker=worker.maker, _teller=worker.teller, _rollback=worker.rollback,
        _copying=worker.copying)
    return desk
