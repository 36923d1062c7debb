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

from rbd_worker import errors
from rbd_worker.host import peers
from rbd_worker.preflight import routes
from rbd_worker.preflight.gathering import Gathering
from rbd_worker.preflight.survey import Surveyor
from rpcapi import client as clients
from rpcapi import preflight as contract

LOG = logging.getLogger(__name__)

#: Seconds for the tries of the ring, which all go on at the same time.
ROUTES_SECONDS = 4.5


class Matrix:
    """Thread-safe; one matrix at a time, a second asker waits."""

    def __init__(self, surveyor: Surveyor, client: clients.Client) -> None:
        self._surveyor = surveyor
        self._host = surveyor.bench.settings.host
        self._client = client
        self._one_at_a_time = threading.Lock()
        self._gathering: Gathering | None = None

    # -- what others ask and answer ------------------------------------------------

    def survey_all(self, request: contract.SurveyAllRequest) -> None:
        """Tell the asker that it was heard, look at this host, and tell it what was found."""
        said = contract.Surveyed(token=request.token, host=self._host)
        with peers.translated(request.asker):
            contract.surveyed(self._client, request.asker, said)
            found = self._surveyor.survey(contract.SurveyRequest(
                asker=request.asker, salt=request.salt, listens=True))
            contract.surveyed(self._client, request.asker, contract.Surveyed(
                token=request.token, host=self._host, survey=found))

    def surveyed(self, answer: contract.Surveyed) -> None:
        """Take an answer; one to an older question is dropped."""
        if (gathering := self._gathering) is not None:
            gathering.surveyed(answer)

    def try_routes(self, request: contract.TryRoutesRequest) -> None:
        """Try the way to one other host, and tell the asker."""
        rows = tuple(routes.rows(self._surveyor.bench, request.traits.host, request.traits))
        with peers.translated(request.asker):
            contract.routes_tried(self._client, request.asker, contract.RoutesTried(
                token=request.token, source=self._host, destination=request.traits.host,
                rows=rows))

    def routes_tried(self, answer: contract.RoutesTried) -> None:
        """Take an answer; one to an older question is dropped."""
        if (gathering := self._gathering) is not None:
            gathering.routes_tried(answer)

    # -- the matrix ------------------------------------------------------------------

    def run(self, request: contract.MatrixRequest) -> contract.MatrixReply:
        """Ask all hosts.

        :param request: its ``seconds`` end the wait for surveys, however many still come.
        :raises errors.PeerUnreachable: the broker is away.
        """
        with self._one_at_a_time:
            gathering = Gathering(self._host, secrets.token_hex(16))
            self._gathering = gathering
            try:
                with peers.translated("any host"):
                    contract.survey_all(self._client, contract.SurveyAllRequest(
                        asker=self._host, token=gathering.token, salt=secrets.token_hex(16)))
                gathering.wait_for_surveys(request.seconds)
                asked = self._ask_ring(gathering.token, gathering.complete())
                gathering.wait_for_routes(asked, ROUTES_SECONDS)
            finally:
                self._gathering = None
        return contract.MatrixReply(surveys=gathering.surveys(), routes=gathering.routes())

    def _ask_ring(self, token: str, surveys: list[contract.Survey]) -> int:
        """Have each host try the next one; returns how many were asked."""
        asked = 0
        if len(surveys) < 2:
            return asked
        for source, destination in zip(surveys, surveys[1:] + surveys[:1], strict=True):
            try:
                with peers.translated(source.traits.host):
                    contract.try_routes(self._client, source.traits.host,
                                        contract.TryRoutesRequest(
                                            asker=self._host, token=token,
                                            traits=destination.traits))
                asked += 1
            except errors.Error as e:
                LOG.warning("%s is not asked for its way to %s: %s", source.traits.host,
                            destination.traits.host, e.sentence)
        return asked
