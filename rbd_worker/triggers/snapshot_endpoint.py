# SPDX-License-Identifier: Apache-2.0
"""An operator's wishes about snapshots of this host's guests (RPC API 1.1)."""

import typing as ty

import oslo_messaging

from rbd_worker.snapshots.desk import Desk
from rbd_worker.triggers.edge import answer, expected
from rpcapi import snapshots as contract


class SnapshotEndpoint:
    """What takes long is begun here and goes on by itself."""

    target = oslo_messaging.Target(version="1.1")

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @expected
    def snapshot_create(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(contract.CreateRequest, request, self._desk.create)

    @expected
    def snapshot_list(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(contract.ListRequest, request, self._desk.list)

    @expected
    def snapshot_show(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(contract.NameRequest, request, self._desk.show)

    @expected
    def snapshot_delete(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(contract.NameRequest, request, self._desk.delete)

    @expected
    def snapshot_rollback(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(contract.RollbackRequest, request, self._desk.rollback)

    @expected
    def snapshot_copy(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(contract.CopyRequest, request, self._desk.copy)

    @expected
    def snapshot_job(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(contract.JobRequest, request, self._desk.job)
