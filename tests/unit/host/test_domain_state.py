# SPDX-License-Identifier: Apache-2.0
"""libvirt's state, reason and job, as libvirt 9.0 gave them on both hosts of real moves."""

import typing as ty

import libvirt
import pytest

from rbd_worker.host.domain_state import Job, guest_state, job_of, state_of
from rbd_worker.model import GuestState

#: libvirt's numbers (libvirt-domain.h), written out.
RUNNING, PAUSED, SHUTDOWN, SHUTOFF, CRASHED, PMSUSPENDED = 1, 3, 4, 5, 6, 7

SEEN = [
    ("running, nothing going on", RUNNING, 1, Job.NONE, GuestState.RUNNING),
    ("sent from here", RUNNING, 1, Job.OUTGOING, GuestState.OUTGOING),
    ("stopped for its last memory", PAUSED, 2, Job.OUTGOING, GuestState.OUTGOING),
    ("sent after it runs there", PAUSED, 12, Job.OUTGOING, GuestState.OUTGOING),
    ("QEMU starts to receive", PAUSED, 11, Job.INCOMING, GuestState.INCOMING),
    ("received", PAUSED, 2, Job.INCOMING, GuestState.INCOMING),
    ("resumed while still being received", RUNNING, 2, Job.INCOMING, GuestState.INCOMING),
    ("runs here, memory still there", RUNNING, 10, Job.INCOMING, GuestState.INCOMING),
    ("moved here", RUNNING, 2, Job.NONE, GuestState.RUNNING),
    ("back after a failed move", RUNNING, 5, Job.NONE, GuestState.RUNNING),
    ("paused by its owner", PAUSED, 1, Job.NONE, GuestState.PAUSED),
    ("paused by its owner and sent", PAUSED, 1, Job.OUTGOING, GuestState.OUTGOING),
    ("its end left open", PAUSED, 2, Job.NONE, GuestState.OUTGOING),
    ("post-copy left open", PAUSED, 12, Job.NONE, GuestState.OUTGOING),
    ("post-copy failed here", PAUSED, 13, Job.NONE, GuestState.STRANDED),
    ("post-copy failed here, its job stays", PAUSED, 13, Job.OUTGOING, GuestState.STRANDED),
    ("post-copy failed and is received", PAUSED, 13, Job.INCOMING, GuestState.INCOMING),
    ("post-copy failed there", RUNNING, 11, Job.NONE, GuestState.INCOMING),
    ("receiving without a job", RUNNING, 10, Job.NONE, GuestState.INCOMING),
    ("stopped by a disk error", PAUSED, 5, Job.NONE, GuestState.PAUSED),
    ("asleep", PMSUSPENDED, 0, Job.NONE, GuestState.PAUSED),
    ("shutting down", SHUTDOWN, 0, Job.NONE, GuestState.RUNNING),
    ("a snapshot is made", RUNNING, 1, Job.OTHER, GuestState.RUNNING),
]


@pytest.mark.parametrize(("state", "reason", "job", "means"), [row[1:] for row in SEEN],
                         ids=[row[0] for row in SEEN])
def test_what_was_seen_means(state: int, reason: int, job: Job, means: GuestState):
    assert guest_state(state, reason, job, is_active=True) is means


@pytest.mark.parametrize("reason", range(9))
def test_a_guest_without_qemu_is_shut_off_whatever_the_reason(reason: int):
    assert guest_state(SHUTOFF, reason, Job.NONE, is_active=False) is GuestState.SHUTOFF


def test_a_crash_without_qemu_is_shut_off_and_with_it_is_paused():
    assert guest_state(CRASHED, 0, Job.NONE, is_active=False) is GuestState.SHUTOFF
    assert guest_state(CRASHED, 0, Job.NONE, is_active=True) is GuestState.PAUSED


def test_no_state_with_a_migration_is_a_place_to_conclude_from():
    reasons = {RUNNING: range(12), PAUSED: range(14), SHUTDOWN: range(2), SHUTOFF: range(9)}
    for state, all_reasons in reasons.items():
        for reason in all_reasons:
            for job in (Job.INCOMING, Job.OUTGOING):
                judged = guest_state(state, reason, job, is_active=True)
                assert not judged.is_active, (state, reason, job)


def test_the_numbers_above_are_libvirts():
    assert (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_SHUTDOWN,
            libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED,
            libvirt.VIR_DOMAIN_PMSUSPENDED) == (
                RUNNING, PAUSED, SHUTDOWN, SHUTOFF, CRASHED, PMSUSPENDED)


class Domain:
    """A domain that answers by a script: each look takes the next pair of job and state."""

    def __init__(self, *looks: tuple[int | str, tuple[int, int]]) -> None:
        self._looks = list(looks)

    def _job(self) -> int:
        """The operation of the job (virDomainJobOperation), 0 for no job."""
        job = self._looks[0][0]
        if isinstance(job, str):
            error = libvirt.libvirtError(job)
            error.err = (int(job), 10, "said no", 2, None, None, None, -1, -1)
            raise error
        return job

    def jobInfo(self) -> list[int]:
        return [2 if self._job() else 0]

    def jobStats(self) -> dict[str, ty.Any]:
        return {"type": 2, "operation": self._job()}

    def state(self) -> list[int]:
        look = self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]
        return list(look[1])


@pytest.mark.parametrize(("answer", "job"), [
    (0, Job.NONE), (1, Job.OTHER), (4, Job.INCOMING), (5, Job.OUTGOING), (6, Job.OTHER),
    ("84", Job.INCOMING),   # statistics of a migration are on its source only
    ("55", Job.NONE),       # not running
    ("3", Job.NONE),        # a driver without jobs
])
def test_a_job_is_known_by_its_operation_or_by_libvirts_refusal(answer: int | str, job: Job):
    assert job_of(Domain((answer, (RUNNING, 1)))) is job


@pytest.mark.parametrize("code", ["1", "38", "42", "68"])
def test_what_libvirt_cannot_tell_of_a_job_is_not_no_job(code: str):
    with pytest.raises(libvirt.libvirtError):
        job_of(Domain((code, (RUNNING, 1))))


def test_a_job_that_ended_between_the_two_questions_is_not_an_open_end():
    """Asked for its job just before it began, for its state just before it ended."""
    assert state_of(Domain((0, (PAUSED, 2)), (0, (RUNNING, 2)))) is GuestState.RUNNING
    assert state_of(Domain((0, (PAUSED, 2)), (5, (PAUSED, 2)))) is GuestState.OUTGOING


def test_an_end_that_stays_open_is_one():
    assert state_of(Domain((0, (PAUSED, 2)), (0, (PAUSED, 2)))) is GuestState.OUTGOING


def test_a_guest_that_was_just_resumed_here_is_still_received():
    assert state_of(Domain(("84", (RUNNING, 2)))) is GuestState.INCOMING
