# SPDX-License-Identifier: Apache-2.0
"""Where is the guest, and does the other host go on?  Above all the step that ends the live phase.

Settled by asking both hosts' libvirt, never by one event or message.  Events
only say when it is worth asking.
"""

from rbd_worker import errors
from rbd_worker.migration import pins, results, rivals
from rbd_worker.migration.settle import Place, Settlement, settle
from rbd_worker.migration.task import Task
from rbd_worker.model import GuestState, Outcome, Phase, Role
from rpcapi import payloads


def ensure_settled_at_source(task: Task) -> results.Result:
    """The guest is at the destination: go on.  It is here and stays: turn back."""
    ports, migration = task.ports, task.migration
    here = ports.hypervisor.state(migration.instance)
    pause = ports.settings.settle_interval
    if here is not GuestState.ABSENT:
        pins.keep(task)
    elif (won := rivals.winner(task)) is not None:
        return _left_with(won, pause)
    if here is GuestState.OUTGOING:
        task.note("guest_began_to_move")
        _check_for_open_end(task)
        return results.Wait(pause, "the guest is moving")
    may_begin = here.is_active and _may_still_begin(task)
    try:
        there = ports.peers.testify(migration.destination, migration.instance)
    except errors.Transient:
        if not may_begin:
            raise
        return results.Wait(pause, "nova-compute has not begun to move the guest")
    if may_begin and not _given_up(task, there):
        return results.Wait(pause, "nova-compute has not begun to move the guest")
    return _as_source(task, here, there, min(pause, max(5, task.age() / 20)))


def _as_source(task: Task, here: GuestState, there: payloads.Testimony,
               pause: float) -> results.Result:
    ports, migration = task.ports, task.migration
    found = settle(here, _state(there))
    if found.place is Place.BETWEEN:
        task.note("guest_began_to_move")
        return results.Wait(pause, found.sentence)
    if found.place is Place.NOWHERE_KNOWN:
        raise errors.OutcomeUnknown(instance=migration.instance, reason=found.sentence)
    if here is GuestState.SHUTOFF and _nova_may_take_it_as_moved(task):
        return results.Wait(min(pause, 2), "the guest has ended, maybe on its way; nova-compute "
                                           "is given time to say what becomes of it")
    if found.place is Place.DESTINATION and _leaves_again(task, there):
        return results.Wait(pause, f"the guest has ended on {migration.destination}, "
                                   "maybe on its way with a later migration")
    if found.place is Place.DESTINATION:
        first = rivals.first_of_both(task)
        if first is not None:
            return results.Wait(pause, f"migration {first.migration.key} was there first and "
                                       "goes to the same host")
        task.note("settled", at=ports.clock(), place=found.place.value)
        return results.Done({"place": found.place.value, "sentence": found.sentence})
    return results.TurnBack(
        Outcome.CANCELLED if task.abort_requested else Outcome.FAILED, _why(task, found))


def _left_with(won: Task, pause: float) -> results.Result:
    """Another order's plan has the guest; the files are held until it has handed them over."""
    sentence = f"the guest has left with migration {won.migration.key}, to " \
               f"{won.migration.destination}"
    if not won.is_closed:
        return results.Wait(pause, sentence)
    return results.TurnBack(Outcome.FAILED, sentence)


def ensure_settled_at_destination(task: Task) -> results.Result:
    """The guest is here and the source has handed over (or is gone): go on.

    The source usually says what happened; where it is silent, this host asks
    it from time to time.  Its word alone moves nothing: this host's libvirt
    has to agree.
    """
    ports, migration = task.ports, task.migration
    here = ports.hypervisor.state(migration.instance)
    pause = min(ports.settings.settle_interval * 2 ** min(task.attempts, 4), 600)
    task.attempts += 1
    if task.finish is not None and (here.is_active or here is GuestState.SHUTOFF):
        return results.Done({"place": Place.DESTINATION.value})
    if here is GuestState.INCOMING:
        return results.Wait(pause, "the guest is arriving")
    if not task.rollback_requested and task.finish is None and task.attempts == 1:
        return results.Wait(pause, "the source goes on")
    if task.rollback_requested and not _nova_may_go_on(task):
        task.note("given_up", heard=True)
    there = ports.peers.testify(migration.source, migration.instance)
    return _as_destination(task, settle(_state(there), here), there, pause)


def _nova_may_go_on(task: Task) -> bool:
    """Executor nova: whether its rollback was heard, but is not seen.

    The message may be forged, or of an earlier attempt.  Nova's rollback removes the
    directory that it made here; while that stands the source holds its files.
    """
    if not task.is_nova or task.is_shared:
        return False
    try:
        directory = task.ports.directories.pin(task.migration.instance)
    except errors.Error:
        return False  # nothing that Nova made
    if directory is None:
        return False
    directory.close()
    if "rollback_heard" not in task.notes:
        task.note("rollback_heard", at=task.ports.clock())
    return task.seconds_since("rollback_heard") < task.ports.settings.nova_cleanup_grace


def whether_source_goes_on(task: Task) -> results.Result:
    """Before the destination is prepared: the source asks again, or it has given up."""
    ports, migration = task.ports, task.migration
    there = ports.peers.testify(migration.source, migration.instance)
    if _phase_of(task, there) not in (None, Phase.ROLLBACK.value):
        return results.Wait(ports.settings.settle_interval, "the source has to ask again")
    found = settle(_state(there), ports.hypervisor.state(migration.instance))
    if found.place is Place.BETWEEN:
        return results.Wait(ports.settings.settle_interval, found.sentence)
    if found.place is Place.NOWHERE_KNOWN:
        raise errors.OutcomeUnknown(instance=migration.instance, reason=found.sentence)
    return results.TurnBack(task.rollback_outcome,
                            f"{migration.source} does not go on with it; {found.sentence}")


def source_has_it_open(task: Task) -> bool:
    """Whether the source still works on the migration, by its own word."""
    there = task.ports.peers.testify(task.migration.source, task.migration.instance)
    return _phase_of(task, there) is not None


def _phase_of(task: Task, there: payloads.Testimony) -> str | None:
    """How far the peer is with this migration; None where it does not have it open."""
    return next((e.phase for e in there.entries
                 if e.migration == task.migration.key and not e.closed), None)


def _was_given_up_by_source(task: Task, there: payloads.Testimony) -> bool:
    """A guest that is here all the same has come with a later migration, with its files."""
    return any(e.closed and e.outcome in (Outcome.FAILED, Outcome.CANCELLED)
               for e in there.entries
               if (e.migration, e.role) == (task.migration.key, Role.SOURCE.value))


def _as_destination(task: Task, found: Settlement, there: payloads.Testimony,
                    pause: float) -> results.Result:
    phase = _phase_of(task, there)
    if phase is None and _was_given_up_by_source(task, there):
        return results.TurnBack(task.rollback_outcome, "the source has given it up; where the "
                                                       "guest is now is not its doing")
    if found.place is Place.NOWHERE_KNOWN:
        raise errors.OutcomeUnknown(instance=task.migration.instance, reason=found.sentence)
    if found.place is Place.BETWEEN:
        return results.Wait(pause, found.sentence)
    if found.place is Place.DESTINATION:
        if phase is not None:
            return results.Wait(pause, "the source has yet to hand over its files")
        return results.Done({"place": Place.DESTINATION.value,
                             "sentence": "the source closed its entry; its last files are "
                                         "those that were staged"})
    if phase in (None, Phase.ROLLBACK.value):
        return results.TurnBack(task.rollback_outcome, found.sentence)
    if task.rollback_requested:  # the source hears no cast when Nova gives up: tell it
        task.ports.peers.look_again(task.migration.source, payloads.LookRequest(
            migration=task.migration.key, instance=task.migration.instance))
        return results.Wait(min(pause, 5), "the source is looking at it")
    return results.Wait(pause, "the source still works on it")


def _check_for_open_end(task: Task) -> None:
    """Sent, and without a job: libvirt waits for somebody who can ask both hosts.

    To end the copy or to let it run is not the worker's to decide: it never
    stops or starts a guest.

    :raises errors.MoveLeftOpen: with what an operator may do.
    """
    ports, migration = task.ports, task.migration
    if (ports.hypervisor.has_job(migration.instance)
            or ports.hypervisor.state(migration.instance) is not GuestState.OUTGOING):
        return  # the job may have ended between the two questions
    there = ports.peers.testify(migration.destination, migration.instance)
    raise errors.MoveLeftOpen(instance=migration.instance, host=migration.source,
                              destination=migration.destination, state=there.state)


def _given_up(task: Task, there: payloads.Testimony) -> bool:
    """Whether the destination heard that Nova gave up before the guest began to move."""
    return any(e.given_up or e.closed for e in there.entries
               if (e.migration, e.role) == (task.migration.key, Role.DESTINATION.value))


def _may_still_begin(task: Task) -> bool:
    """Executor nova: whether the guest may simply not have begun to move yet."""
    if not task.is_nova or task.is_superseded or task.rollback_requested:
        return False
    if "guest_began_to_move" in task.notes or pins.are_lost(task):
        return False  # it has moved, and is back in a directory that Nova made since
    return task.age() < task.ports.settings.prepare_timeout


def _nova_may_take_it_as_moved(task: Task) -> bool:
    """Executor nova: a guest that died while it moved is no guest that stays.

    nova-compute takes the end of libvirt's job as a success: it then forgets the
    guest here, removes its directory and records the destination as its host.
    Whether the guest had begun to move may have gone unseen: it can have died
    while the destination was still being prepared.
    """
    if not task.is_nova:
        return False
    if "guest_died" not in task.notes:
        task.note("guest_died", at=task.ports.clock())
    return task.seconds_since("guest_died") < task.ports.settings.nova_cleanup_grace


def _leaves_again(task: Task, there: payloads.Testimony) -> bool:
    """Executor nova: whether the destination's nova-compute may be about to forget the guest.

    See :func:`may_be_taken_as_moved`; where it does, the guest belongs to yet another host, or
    to this one again, and only before the settlement can this plan still turn back.
    """
    return task.is_nova and there.state == GuestState.SHUTOFF and any(
        not e.closed and e.role == Role.SOURCE.value and e.migration != task.migration.key
        for e in there.entries)


def may_be_taken_as_moved(task: Task, here: GuestState) -> bool:
    """Executor nova: a guest that ended while another migration was to take it away from here.

    nova-compute takes a guest that is shut off after its job for one that has moved
    (``find_job_type`` in nova/virt/libvirt/migration.py), and removes its directory.  The
    source's entry closes once the guest is seen to stay.
    """
    return task.is_nova and here is GuestState.SHUTOFF and any(
        e.is_open and e.migration.role is Role.SOURCE
        for e in task.ports.journal.entries_of(task.migration.instance))


def _why(task: Task, found: Settlement) -> str:
    error = task.notes.get("ensure_guest_moved", {}).get("error")
    if task.abort_requested:
        return f"aborted on request; {found.sentence}"
    return f"{error} ({found.sentence})" if error else found.sentence


def _state(testimony: payloads.Testimony) -> GuestState:
    try:
        return GuestState(testimony.state)
    except ValueError:
        raise errors.OutcomeUnknown(
            instance=testimony.instance,
            reason=f"{testimony.host} says {testimony.state} {testimony.reason}".rstrip(),
        ) from None
