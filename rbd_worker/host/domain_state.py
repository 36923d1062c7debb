# SPDX-License-Identifier: Apache-2.0
"""What libvirt's state, reason and job mean for a guest: a pure table.

Seen with libvirt 9.0 and QEMU 7.2 on both hosts during migrations (a reason
stands behind the slash; *in* is a job of which libvirt tells nothing, error
84: it is an incoming migration; *out* is one of operation MIGRATION_OUT)::

    moment                         source                   destination
    before                         running/booted           absent
    begun, nothing sent            running/booted out       absent
    QEMU starts there              running/booted out       paused/starting up in
    memory is sent                 running/booted out       paused/migration in
    last memory, guest stopped     paused/migration out     paused/migration in
    guest resumed there            paused/migration out     running/migrated in
    source lets go                 shutoff/migrated         running/migrated
    after                          absent                   running/migrated
    post-copy                      paused/post-copy out     running/post-copy in
    post-copy, sent                paused/post-copy out     running/migrated in
    aborted, or failed             running/booted           absent
    failing, for some 200 ms       running/booted out       paused/migration in
    destination's QEMU killed      running/booted           absent
    source's QEMU killed           shutoff/crashed          absent
    destination's QEMU killed
      during post-copy             paused/post-copy failed  shutoff/crashed
      (its job stays, the guest's memory is lost)
    a libvirtd killed before the
      last phase, back again       running/booted           absent
    guest paused by its owner      paused/user out, absent  paused/migration in, paused/user

So a job tells more than a state: a guest that is sent looks as one that just
runs, and one that has just been resumed at its destination is still being
received.  A guest paused for migration or post-copy without any job is an end
that libvirt leaves open, for whoever can ask both hosts.  One whose post-copy
failed is stranded, whatever libvirt says of its job: that job never ends.
"""

import enum

import libvirt

from rbd_worker.model import GuestState


class Job(enum.Enum):
    """What runs on a domain, as far as it matters here."""

    NONE = enum.auto()
    INCOMING = enum.auto()
    OUTGOING = enum.auto()
    OTHER = enum.auto()


_PAUSED = libvirt.VIR_DOMAIN_PAUSED

#: libvirt has not closed a migration: nothing may be concluded.
LEFT_OPEN = frozenset({
    (_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION),
    (_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY),
})
#: At the source: post-copy broke, libvirt keeps the guest and its job for ever.
_BROKEN = (_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED)
#: At the destination: the guest runs there, and needs the source's memory still.
_RECEIVING = frozenset({
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY),
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED),
    (_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP),
})
_HALTED = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PMSUSPENDED, libvirt.VIR_DOMAIN_CRASHED)


def guest_state(state: int, reason: int, job: Job, *, is_active: bool) -> GuestState:
    """Judge one domain.

    :param state, reason: of ``virDomainGetState``.
    :param is_active: libvirt has a QEMU process for it.
    """
    if job is Job.INCOMING:
        return GuestState.INCOMING
    if (state, reason) == _BROKEN:
        return GuestState.STRANDED
    if job is Job.OUTGOING:
        return GuestState.OUTGOING
    if not is_active:
        return GuestState.SHUTOFF
    if (state, reason) in LEFT_OPEN:
        return GuestState.OUTGOING
    if (state, reason) in _RECEIVING:
        return GuestState.INCOMING
    return GuestState.PAUSED if state in _HALTED else GuestState.RUNNING


def state_of(domain: libvirt.virDomain) -> GuestState:
    """Ask libvirt for the job and the state of ``domain`` and judge them.

    The job is asked first: what the state says was true after it.  A guest
    that seems left open is looked at twice, since its job may have ended
    between the two questions.

    :raises libvirt.libvirtError: libvirt cannot tell, or knows no such domain.
    """
    for _ in range(2):
        job = job_of(domain)
        state, reason = domain.state()
        if job is not Job.NONE or (state, reason) not in LEFT_OPEN:
            break
    return guest_state(state, reason, job, is_active=_is_active(domain, state))


def _is_active(domain: libvirt.virDomain, state: int) -> bool:
    """Whether QEMU has it; asked only where the state leaves that open."""
    if state in (libvirt.VIR_DOMAIN_NOSTATE, libvirt.VIR_DOMAIN_CRASHED):
        return bool(domain.isActive())
    return bool(state != libvirt.VIR_DOMAIN_SHUTOFF)


def job_of(domain: libvirt.virDomain) -> Job:
    """Ask libvirt what runs on ``domain``.

    :raises libvirt.libvirtError: libvirt cannot tell, or knows no such domain.
    """
    try:
        if domain.jobInfo()[0] == libvirt.VIR_DOMAIN_JOB_NONE:
            return Job.NONE
        operation = domain.jobStats().get("operation")
    except libvirt.libvirtError as e:
        code = e.get_error_code()
        if code == libvirt.VIR_ERR_OPERATION_UNSUPPORTED:
            return Job.INCOMING  # statistics exist on the source only
        if code in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_SUPPORT):
            return Job.NONE  # not running; or libvirt's test driver
        raise
    return _OPERATIONS.get(operation, Job.OTHER)


_OPERATIONS = {
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN: Job.INCOMING,
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT: Job.OUTGOING,
}
