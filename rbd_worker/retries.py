# SPDX-License-Identifier: Apache-2.0
"""Retry policies, each with its reason; all end at once at shutdown."""

import logging
import threading

import tenacity

from rbd_worker import errors

LOG = logging.getLogger(__name__)


def each_second(retry_count: int, shutdown: threading.Event) -> tenacity.Retrying:
    """Nova's own rhythm for a live migration: ``live_migration_retry_count`` times, 1 s apart.

    Only ``Transient`` errors are repeated.  The last error is raised as it is,
    also where the shutdown ended the attempts.
    """
    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(retry_count + 1) | tenacity.stop_when_event_set(shutdown),
        wait=tenacity.wait_fixed(1),
        retry=tenacity.retry_if_exception_type(errors.Transient),
        sleep=tenacity.sleep_using_event(shutdown),
        before_sleep=tenacity.before_sleep_log(LOG, logging.INFO),
        reraise=True)
