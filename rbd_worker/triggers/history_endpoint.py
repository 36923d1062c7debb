# SPDX-License-Identifier: Apache-2.0
"""What operators read of this host's journal and trash (RPC API 1.1)."""

import typing as ty

import oslo_messaging

from rbd_worker.host.trash_pages import TrashPages
from rbd_worker.migration.history import History
from rbd_worker.triggers.edge import answer, expected
from rpcapi import history as contract
from rpcapi import trash as trash_contract


class HistoryEndpoint:
    """Reads only."""

    target = oslo_messaging.Target(version="1.1")

    def __init__(self, history: History, trash: TrashPages) -> None:
        self._history = history
        self._trash = trash

    @expected
    def history(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(contract.HistoryRequest, request, self._history.page)

    @expected
    def refusals(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(contract.RefusalsRequest, request, self._history.refusals)

    @expected
    def trash(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(trash_contract.TrashRequest, request, self._trash.page)
