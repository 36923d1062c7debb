# SPDX-License-Identifier: Apache-2.0
"""Retry policies, each with its reason; all end at once at shutdown."""

import logging
import threading

import tenacity

from rbd_worker import errors

LOG = logging.getLogger(__name__)

#: Seconds between two attempts.
PAUSE = 1.0


def each_second(retry_count: int, shutdown: threading.Event) -> tenacity.Retrying:
    """Nova's own rhythm for a live migration: ``live_migration_retry_count`` times, 1 s apart.

    Only ``Transient`` errors are repeated.  The last error is raised as it is,
    also where the shutdown ended the attempts.
    """
    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(retry_count + 1) | tenacity.stop_when_event_set(shutdown),
        wait=tenacity.wait_fixed(PAUSE),
        retry=tenacity.retry_if_exception_type(errors.Transient),
        sleep=tenacity.sleep_using_event(shutdown),
        before_sleep=tenacity.before_sleep_log(LOG, logging.INFO),
        reraise=True)


class Later(Exception):
    """Another attempt is due.

    :ivar seconds: from now.
    :ivar error: why the last one failed.
    """

    def __init__(self, seconds: float, error: errors.Error) -> None:
        super().__init__(error.sentence)
        self.seconds = seconds
        self.error = error


def without_pause(retry_count: int, shutdown: threading.Event) -> tenacity.Retrying:
    """The rhythm of :func:`each_second`, for who does something else between two attempts.

    :raises Later: where a pause would begin; whoever comes again has one attempt less.
    """
    return each_second(retry_count, shutdown).copy(before_sleep=_later)


def _later(state: tenacity.RetryCallState) -> None:
    assert state.outcome is not None and state.next_action is not None
    error = state.outcome.exception()
    assert isinstance(error, errors.Error)
    raise Later(state.next_action.sleep, error)
