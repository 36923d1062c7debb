# SPDX-License-Identifier: Apache-2.0
"""What an operator and other workers ask about the way between hosts (RPC API 1.1)."""

import typing as ty

import oslo_messaging

from rbd_worker.preflight.matrix import Matrix
from rbd_worker.preflight.pair import Preflight
from rbd_worker.preflight.survey import Surveyor
from rbd_worker.triggers.edge import answer, expected, heard
from rpcapi import preflight as contract


class PreflightEndpoint:
    """Changes nothing on any host."""

    target = oslo_messaging.Target(version="1.1")

    def __init__(self, surveyor: Surveyor, preflight: Preflight, matrix: Matrix) -> None:
        self._surveyor = surveyor
        self._preflight = preflight
        self._matrix = matrix

    @expected
    def survey(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(contract.SurveyRequest, request, self._surveyor.survey)

    @expected
    def preflight(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(contract.PreflightRequest, request, self._preflight.run)

    @expected
    def preflight_matrix(self, _context: ty.Any, request: object) -> dict[str, ty.Any]:
        return answer(contract.MatrixRequest, request, self._matrix.run)

    def survey_all(self, _context: ty.Any, request: object) -> None:
        heard(contract.SurveyAllRequest, request, self._matrix.survey_all)

    def surveyed(self, _context: ty.Any, request: object) -> None:
        heard(contract.Surveyed, request, self._matrix.surveyed)

    def try_routes(self, _context: ty.Any, request: object) -> None:
        heard(contract.TryRoutesRequest, request, self._matrix.try_routes)

    def routes_tried(self, _context: ty.Any, request: object) -> None:
        heard(contract.RoutesTried, request, self._matrix.routes_tried)
