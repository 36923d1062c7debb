# SPDX-License-Identifier: Apache-2.0
"""What comes in while all hosts are asked at once: who heard, who answered, which ways were tried.

A host says at once that it heard, and later what it found.  So the asker knows
whom to wait for, and one that is too slow is told as such rather than missed.
Answers to an older question are dropped by its token.
"""

import threading
import time
import typing as ty

from rbd_worker.preflight import comparisons
from rbd_worker.preflight.bench import Say
from rpcapi import preflight as contract

#: Seconds in which every worker says that it heard, and of silence after which all have.
HEARD_SECONDS, QUIET_SECONDS = 1.0, 0.5
_POLL = 0.02


class Gathering:
    """One round of asking; thread-safe.

    :param host: this host, whose clock the others' are compared with.
    """

    def __init__(self, host: str, token: str) -> None:
        self.token = token
        self._host = host
        self._lock = threading.Lock()
        self._began = time.time()
        self._last = 0.0
        self._heard: dict[str, contract.Survey | None] = {}
        self._routes: dict[str, contract.RoutesTried] = {}

    def surveyed(self, answer: contract.Surveyed) -> None:
        """Take what a host says."""
        came = time.time()
        if answer.token != self.token:
            return
        with self._lock:
            self._last = time.monotonic()
            if answer.survey is None:
                self._heard.setdefault(answer.host, None)
                return
            clock = comparisons.clocks(self._host, answer.survey.traits, self._began, came)
            self._heard[answer.host] = contract.Survey(
                traits=answer.survey.traits, rows=(*answer.survey.rows, clock))

    def routes_tried(self, answer: contract.RoutesTried) -> None:
        """Take how a way was found."""
        if answer.token == self.token:
            with self._lock:
                self._routes[answer.source] = answer

    def wait_for_surveys(self, seconds: float) -> None:
        """Return once all that heard have answered, or after ``seconds``."""
        begin = time.monotonic()
        _wait(lambda: time.monotonic() > begin + HEARD_SECONDS
              and time.monotonic() > self._last + QUIET_SECONDS
              and all(survey is not None for survey in self._heard.copy().values()), seconds)

    def wait_for_routes(self, count: int, seconds: float) -> None:
        """Return once so many ways were tried, or after ``seconds``."""
        _wait(lambda: len(self._routes) >= count, seconds)

    def complete(self) -> list[contract.Survey]:
        """The surveys that are here, by host."""
        with self._lock:
            return [survey for _, survey in sorted(self._heard.items()) if survey is not None]

    def surveys(self) -> tuple[contract.Survey, ...]:
        """One for each host that heard, by host."""
        with self._lock:
            return tuple(survey or _late(host) for host, survey in sorted(self._heard.items()))

    def routes(self) -> tuple[contract.RoutesTried, ...]:
        """The ways that were tried, by source."""
        with self._lock:
            return tuple(route for _, route in sorted(self._routes.items()))


def _late(host: str) -> contract.Survey:
    row = Say("worker.peer", host).unknown(
        f"{host} heard the question and did not answer in time",
        f"rbd-workerctl preflight --source {host}, to see what it is that takes so long")
    return contract.Survey(traits=contract.Traits(host=host), rows=(row,))


def _wait(is_over: ty.Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_over() and time.monotonic() < deadline:
        time.sleep(_POLL)
