# SPDX-License-Identifier: Apache-2.0
"""Steps that ask again what failed, in Nova's rhythm, and give their thread back in between.

There are many hosts without a worker during a rollout.  Threads that slept between two
attempts to ask them would be missing for guests that go elsewhere.  Where a worker has ended
just now and its queue still stands an attempt itself takes some seconds.
"""

import logging
import typing as ty

from rbd_worker import retries
from rbd_worker.host import probe
from rbd_worker.migration import results
from rbd_worker.migration.task import Task
from rpcapi import payloads

LOG = logging.getLogger(__name__)

T = ty.TypeVar("T")


def attempt(task: Task, action: ty.Callable[[], T]) -> T | results.Wait:
    """Do it once; it is worth ``live_migration_retry_count`` more attempts, a second apart.

    They are counted since the step began, or the worker.  Once they are used up each look at
    the task is one attempt.

    :returns: what ``action`` returned, or that another attempt comes.
    :raises errors.Error: it was not ``Transient``, or this was the last attempt.
    """
    ports = task.ports
    left = max(0, ports.settings.live_migration_retry_count - task.tries)
    if left and (wait := _too_early(task)) is not None:
        return wait
    task.tries += 1
    once = retries.without_pause(left, ports.shutdown)
    try:
        return once(action)
    except retries.Later as later:
        task.tried_at = ports.clock()
        LOG.info("%s %s; it is tried again", task.migration, later.error.sentence)
        return results.Wait(later.seconds, later.error.sentence)


def attempt_with_nonce(task: Task,
                       action: ty.Callable[[payloads.PathProbe], T]) -> T | results.Wait:
    """The same with a nonce for the peer to look for, the same one for all attempts.

    The peer may come to an earlier one late: it has to find the nonce all the same.
    """
    if task.nonce is None:
        task.nonce = probe.Nonce(task.ports.directories, task.migration.instance)
    nonce = task.nonce

    def asked() -> T:
        nonce.renew()  # the step may have waited for long for something else
        return action(nonce.probe)
    result: T | results.Wait | None = None
    try:
        result = attempt(task, asked)
    finally:
        if not isinstance(result, results.Wait):
            task.lift_nonce()
    return result


def _too_early(task: Task) -> results.Wait | None:
    """Whatever woke the task since the last attempt, the next one comes in its time."""
    since = task.ports.clock() - task.tried_at
    if task.waits_for and task.tries and 0 <= since < retries.PAUSE * 0.9:
        return results.Wait(retries.PAUSE - since, task.waits_for)
    return None
