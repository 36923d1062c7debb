# SPDX-License-Identifier: Apache-2.0
"""The way of a guest from this host to another, looked at from both ends.

This host asks the destination for its survey while it takes its own, then
compares the two and tries the routes.  The answer has every row in the order
of the tables: this host's, the other's, what both have to agree in, the way.
"""

import concurrent.futures
import secrets
import time

import msgspec

from rbd_worker import errors
from rbd_worker.host import names, peers, probe
from rbd_worker.preflight import comparisons, guest, image_checks, routes, traits
from rbd_worker.preflight.bench import Say
from rbd_worker.preflight.survey import Surveyor
from rpcapi import client as clients
from rpcapi import preflight as contract


class Preflight:
    """Thread-safe; raises the errors of the peers and of bad input only."""

    def __init__(self, surveyor: Surveyor, client: clients.Client) -> None:
        self._surveyor = surveyor
        self._bench = surveyor.bench
        self._client = client

    def run(self, request: contract.PreflightRequest) -> contract.PreflightReply:
        """All rows of one pair.

        :raises errors.BadInput: the destination is this host, or the guest is not here.
        """
        own = self._bench.settings.host
        if request.destination == own:
            raise errors.BadInput(what=f"preflight to {own}",
                                  reason="source and destination are the same host")
        travelling = None
        if request.instance is not None:
            bench = self._bench.afresh()
            travelling = image_checks.with_images(bench, guest.of(bench, request.instance))
        survey_request = contract.SurveyRequest(
            asker=own, salt=secrets.token_hex(16), guest=travelling, listens=True)
        found_at = _found_at(request.destination)
        with concurrent.futures.ThreadPoolExecutor(1) as beside:
            ours = beside.submit(self._surveyor.survey, survey_request)
            theirs, clock = self._ask(request.destination, msgspec.structs.replace(
                survey_request, found_at=found_at))
            mine = ours.result()
        rows = [*mine.rows]
        if theirs is not None:
            rows += [*theirs.rows, *comparisons.compare(mine.traits, theirs.traits)]
        rows += clock
        rows += routes.rows(self._bench, request.destination,
                            theirs.traits if theirs else None)
        return contract.PreflightReply(rows=tuple(rows))

    def _ask(self, destination: str, request: contract.SurveyRequest,
             ) -> tuple[contract.Survey | None, list[contract.Row]]:
        say = Say("worker.peer", self._bench.settings.host)
        before = time.time()
        try:
            instance = request.guest.instance if request.guest else traits.NOBODY
            with (probe.lay(self._bench.directories, instance) as laid,
                  peers.translated(destination)):
                survey = contract.survey(self._client, destination,
                                         msgspec.structs.replace(request, probe=laid))
        except errors.PeerTooNew as e:
            return None, [say.failed(str(e), e.remedy.format(**e.data))]
        except errors.Error as e:
            return None, [say.failed(str(e), f"Start rbd-worker on {destination}, or look at "
                                             "its log")]
        after = time.time()
        own = self._bench.settings.host
        return survey, [say.ok(f"the worker of {destination} answered in "
                               f"{after - before:.2f} s"),
                        comparisons.clocks(own, survey.traits, before, after)]


def _found_at(destination: str) -> tuple[str, ...]:
    """The addresses behind the name, for the destination to recognise as its own."""
    try:
        return tuple(names.addresses(destination))
    except errors.NameUnresolved:
        return ()  # the row about the name tells
