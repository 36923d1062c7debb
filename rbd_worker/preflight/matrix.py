# SPDX-License-Identifier: Apache-2.0
"""The ways between all hosts at once, with the same load on each however many there are.

One question goes to all workers; each takes one survey of itself.  What two
hosts have to agree in is decided from the surveys by whoever asked.  What can
only be tried between two hosts is tried along a ring: each host tries the next
one, so that every host tries one way and is tried once.  Of the other ways
nothing is claimed: they are not tried.
"""

import logging
import secrets
import threading
import time
import typing as ty

from rbd_worker import errors
from rbd_worker.host import peers
from rbd_worker.preflight import comparisons, routes
from rbd_worker.preflight.survey import Surveyor
from rpcapi import client as clients
from rpcapi import preflight as contract

LOG = logging.getLogger(__name__)

#: Seconds for a survey (see survey.SECONDS) and its way here; who answers later is not waited for.
SURVEYS_SECONDS = 2.5
#: Seconds without another answer after which all are taken to have answered.
QUIET_SECONDS = 0.5
#: Seconds for the tries of the ring.
ROUTES_SECONDS = 3.0
_POLL = 0.05


class Matrix:
    """Thread-safe; one matrix at a time, a second asker waits."""

    def __init__(self, surveyor: Surveyor, client: clients.Client) -> None:
        self._surveyor = surveyor
        self._host = surveyor.bench.settings.host
        self._client = client
        self._one_at_a_time = threading.Lock()
        self._lock = threading.Lock()
        self._token = ""
        self._began = 0.0
        self._last = 0.0
        self._surveys: dict[str, contract.Survey] = {}
        self._routes: dict[str, contract.RoutesTried] = {}

    # -- what others ask and answer ------------------------------------------------

    def survey_all(self, request: contract.SurveyAllRequest) -> None:
        """Look at this host, and tell the asker."""
        found = self._surveyor.survey(contract.SurveyRequest(
            asker=request.asker, salt=request.salt, listens=True))
        with peers.translated(request.asker):
            contract.surveyed(self._client, request.asker, contract.Surveyed(
                token=request.token, survey=found))

    def surveyed(self, answer: contract.Surveyed) -> None:
        """Take an answer; one to an older question is dropped."""
        came = time.time()
        with self._lock:
            if answer.token != self._token:
                return
            traits = answer.survey.traits
            clock = comparisons.clocks(self._host, traits, self._began, came)
            self._surveys[traits.host] = contract.Survey(
                traits=traits, rows=(*answer.survey.rows, clock))
            self._last = time.monotonic()

    def try_routes(self, request: contract.TryRoutesRequest) -> None:
        """Try the way to one other host, and tell the asker."""
        rows = tuple(routes.rows(self._surveyor.bench, request.traits.host, request.traits))
        with peers.translated(request.asker):
            contract.routes_tried(self._client, request.asker, contract.RoutesTried(
                token=request.token, source=self._host, destination=request.traits.host,
                rows=rows))

    def routes_tried(self, answer: contract.RoutesTried) -> None:
        """Take an answer; one to an older question is dropped."""
        with self._lock:
            if answer.token == self._token:
                self._routes[answer.source] = answer

    # -- the matrix ------------------------------------------------------------------

    def run(self, request: contract.MatrixRequest) -> contract.MatrixReply:
        """Ask all hosts.

        :param request: its ``seconds`` end the wait for surveys, however many still come.
        :raises errors.PeerUnreachable: the broker is away.
        """
        with self._one_at_a_time:
            with self._lock:
                self._token = secrets.token_hex(16)
                self._surveys, self._routes = {}, {}
                self._began, self._last = time.time(), time.monotonic()
            with peers.translated("any host"):
                contract.survey_all(self._client, contract.SurveyAllRequest(
                    asker=self._host, token=self._token, salt=secrets.token_hex(16)))
            begin = time.monotonic()
            _wait(lambda: time.monotonic() - max(
                self._last, begin + SURVEYS_SECONDS - QUIET_SECONDS) > QUIET_SECONDS,
                request.seconds)
            with self._lock:
                surveys = dict(sorted(self._surveys.items()))
            asked = self._ask_ring(list(surveys.values()))
            _wait(lambda: len(self._routes) >= asked, ROUTES_SECONDS)
            with self._lock:
                tried = tuple(answer for _, answer in sorted(self._routes.items()))
                self._token = ""
        return contract.MatrixReply(surveys=tuple(surveys.values()), routes=tried)

    def _ask_ring(self, surveys: list[contract.Survey]) -> int:
        """Have each host try the next one; returns how many were asked."""
        asked = 0
        if len(surveys) < 2:
            return asked
        for source, destination in zip(surveys, surveys[1:] + surveys[:1], strict=True):
            try:
                with peers.translated(source.traits.host):
                    contract.try_routes(self._client, source.traits.host,
                                        contract.TryRoutesRequest(
                                            asker=self._host, token=self._token,
                                            traits=destination.traits))
                asked += 1
            except errors.Error as e:
                LOG.warning("%s is not asked for its way to %s: %s", source.traits.host,
                            destination.traits.host, e.sentence)
        return asked


def _wait(is_over: ty.Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_over() and time.monotonic() < deadline:
        time.sleep(_POLL)
