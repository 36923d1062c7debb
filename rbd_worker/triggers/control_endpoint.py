# SPDX-License-Identifier: Apache-2.0
"""An operator's questions and orders about migrations (RPC API 1.1)."""

import typing as ty

import oslo_messaging

from rbd_worker.migration.control import Control
from rbd_worker.triggers.edge import answer, expected
from rpcapi import control as contract


class ControlEndpoint:
    """Every order is logged with the migration it is about.

    :param begun: as :class:`rbd_worker.triggers.hearing.Hearing`'s.
    """

    target = oslo_messaging.Target(version="1.1")

    def __init__(self, control: Control,
                 begun: ty.Callable[[str, str, str], None] = lambda *_: None) -> None:
        self._control = control
        self._begun = begun

    @expected
    def progress(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(contract.ProgressRequest, request, self._control.progress)

    @expected
    def abort(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(contract.OrderRequest, request, self._control.abort)

    @expected
    def force_complete(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(contract.OrderRequest, request, self._control.force_complete)

    @expected
    def resolve(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(contract.ResolveRequest, request, self._control.resolve)

    @expected
    def live_migrate(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(contract.LiveMigrateRequest, request, self._live_migrate)

    def _live_migrate(self, request: contract.LiveMigrateRequest) -> contract.LiveMigrateReply:
        reply = self._control.live_migrate(request)
        self._begun(request.instance, reply.migration, request.destination)
        return reply
