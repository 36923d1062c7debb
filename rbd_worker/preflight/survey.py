# SPDX-License-Identifier: Apache-2.0
"""One host looks at itself: every check beside the others, within one time limit.

A check that raises, or that is not back in time, is a row that says so.
"""

import concurrent.futures
import logging
import time
import typing as ty

from rbd_worker import errors
from rbd_worker.preflight import (
    ceph_checks,
    files_checks,
    guest_checks,
    hook_checks,
    image_checks,
    libvirt_checks,
    listener_checks,
    moving_checks,
    traits,
    worker_checks,
)
from rbd_worker.preflight.bench import Bench, Check, Say
from rpcapi import preflight as contract

LOG = logging.getLogger(__name__)

#: Seconds for all checks together.  They take a tenth of it unless something hangs; libvirt,
#: for one, takes seconds to describe a host right after its start.
SECONDS = 4.0

CHECKS: tuple[Check, ...] = (
    *worker_checks.CHECKS, *libvirt_checks.CHECKS,
    *listener_checks.CHECKS, *moving_checks.CHECKS,
    *ceph_checks.CHECKS, *files_checks.CHECKS, *hook_checks.CHECKS,
    *guest_checks.CHECKS, *image_checks.CHECKS,
)


class Surveyor:
    """Thread-safe.

    :param checks, seconds: other ones in tests.
    """

    def __init__(self, bench: Bench, checks: ty.Sequence[Check] = CHECKS,
                 seconds: float = SECONDS) -> None:
        self.bench = bench
        self._checks = tuple(checks)
        self._seconds = seconds

    def survey(self, request: contract.SurveyRequest) -> contract.Survey:
        """Everything that is to be known of this host now; raises none of our errors."""
        bench = self.bench.afresh()
        # a thread for each: those that hang in a library may not keep others from theirs
        pool = concurrent.futures.ThreadPoolExecutor(
            len(self._checks) + len(traits.GATHERERS), thread_name_prefix="survey")
        deadline = time.monotonic() + self._seconds
        gathered = {what: pool.submit(gather, bench, request)
                    for what, gather in traits.GATHERERS.items()}
        looks = [(check, pool.submit(_look, bench, check, request)) for check in self._checks]
        rows: list[contract.Row] = []
        for check, look in looks:
            rows += self._in_time(check, look, deadline)
        known = traits.together(bench, gathered, deadline)
        pool.shutdown(wait=False, cancel_futures=True)
        return contract.Survey(traits=known, rows=tuple(rows))

    def _in_time(self, check: Check, look: "concurrent.futures.Future[list[contract.Row]]",
                 deadline: float) -> list[contract.Row]:
        say = Say(check.name, self.bench.settings.host)
        try:
            return look.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            return [say.unknown(f"not measured within {self._seconds:g} s",
                                "Ask again; if it stays so, what it asks does not answer")]
        except Exception as e:
            LOG.exception("the check %s failed in a way that is not foreseen", check.name)
            return [say.unknown(f"internal error {type(e).__name__}, see the log of "
                                f"{self.bench.settings.host}")]


def _look(bench: Bench, check: Check, request: contract.SurveyRequest) -> list[contract.Row]:
    say = Say(check.name, bench.settings.host)
    try:
        return list(check.measure(bench, request, say))
    except errors.Error as e:
        return [say.error(e)]
