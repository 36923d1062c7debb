# SPDX-License-Identifier: Apache-2.0
"""Removal by proof: pin, ask, take; again for a few seconds, then *unresolved*."""

import logging
import typing as ty

import tenacity

from rbd_worker import errors
from rbd_worker.host import instances, trash
from rbd_worker.migration.task import Ports, Task
from rbd_worker.model import Evidence

LOG = logging.getLogger(__name__)

#: The source's QEMU lets go of its images some hundred milliseconds after the
#: guest has moved; doubt that lasts longer is not a matter of waiting.
PROOF_SECONDS = 5
#: As many attempts as their pauses (0.1 s, 0.2 s, ... 1 s) fill that time.
PROOF_ATTEMPTS = 9


def trash_when_proven(task: Task, directory: instances.PinnedDirectory, *, holder: str,
                      asking_for: str, demand_active: bool = False) -> str:
    """Move the pinned directory to the trash as soon as all witnesses agree.

    :param demand_active: see :func:`proven`.
    :returns: the id of the trash item.
    :raises errors.NotProven: the doubt that remained after ``PROOF_SECONDS``, or, where that
        has happened before, that there still is.
    """
    retrying = tenacity.Retrying(
        stop=(tenacity.stop_after_delay(PROOF_SECONDS)
              | tenacity.stop_after_attempt(PROOF_ATTEMPTS if task.attempts == 0 else 1)
              | tenacity.stop_when_event_set(task.ports.shutdown)),
        wait=tenacity.wait_exponential(multiplier=0.1, max=1),
        retry=tenacity.retry_if_exception_type((errors.NotProven, errors.DirectoryChanged)),
        sleep=tenacity.sleep_using_event(task.ports.shutdown), reraise=True)
    item = retrying(_trash_if_proven, task.ports, directory, holder, asking_for, demand_active)
    LOG.info("%s the directory is in the trash as %s", task.migration, item.id)
    return str(item.id)


def _trash_if_proven(ports: Ports, directory: instances.PinnedDirectory, holder: str,
                     asking_for: str, demand_active: bool) -> trash.Item:
    """Ask all witnesses once; take the directory if they agree."""
    evidence = proven(ports, directory, holder, asking_for, demand_active=demand_active)
    return take(ports, directory, evidence, asking_for)


def take(ports: Ports, directory: instances.PinnedDirectory, evidence: Evidence,
         asking_for: str) -> trash.Item:
    """Take the directory on evidence that was gathered just now; arguments as below."""
    item = ports.trash.take(directory, evidence, asking_for)
    ports.told.trashed(directory.instance, item.id, "plan" if asking_for else "arrival")
    return item


def proven(ports: Ports, directory: instances.PinnedDirectory, holder: str,
           asking_for: str, *, demand_active: bool = False,
           overtaken: ty.Collection[str] = ()) -> Evidence:
    """What all witnesses agree on, asked once.

    :param asking_for: key of the migration in whose plan this happens; empty
        outside any plan.
    :param demand_active: the guest has to run elsewhere.  Beside Nova one that is shut off may
        be in the middle of a cold migration into this very directory.
    :param overtaken: see :meth:`evidence.Witnesses.ask`.
    :raises errors.NotProven: with the doubt.
    """
    found = ports.witnesses.ask(directory.instance, holder, asking_for, overtaken)
    state = found.holder_state
    if not found.holds:
        raise errors.NotProven(instance=directory.instance, reason=found.doubt)
    if demand_active and (state is None or not state.is_active):
        raise errors.NotProven(
            instance=directory.instance,
            reason=f"{holder} says {state}: only a guest that runs elsewhere proves a leftover")
    return found
