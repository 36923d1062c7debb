# SPDX-License-Identifier: Apache-2.0
"""What an operator and other workers ask about the way between hosts (RPC API 1.1)."""

import typing as ty

import oslo_messaging

from rbd_worker.preflight.pair import Preflight
from rbd_worker.preflight.survey import Surveyor
from rbd_worker.triggers.edge import answer, expected
from rpcapi import preflight as contract


class PreflightEndpoint:
    """Changes nothing on any host."""

    target = oslo_messaging.Target(version="1.1")

    def __init__(self, surveyor: Surveyor, preflight: Preflight) -> None:
        self._surveyor = surveyor
        self._preflight = preflight

    @expected
    def survey(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(contract.SurveyRequest, request, self._surveyor.survey)

    @expected
    def preflight(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(contract.PreflightRequest, request, self._preflight.run)
