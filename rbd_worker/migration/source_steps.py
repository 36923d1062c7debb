# SPDX-License-Identifier: Apache-2.0
"""The source's steps, in the order of its plan.

Each brings about the state it is named for, may be repeated, and answers with
a :mod:`results`.  The only removal is the last step's, and it is made of
proof: see :mod:`rbd_worker.host.evidence`.
"""

import logging
import typing as ty

from rbd_worker import errors
from rbd_worker.host import instances
from rbd_worker.host.hypervisor import MoveOrder
from rbd_worker.migration import attempts, pins, proof, quarrel, records, results, rivals
from rbd_worker.migration.task import Task
from rbd_worker.model import GuestState, Outcome
from rpcapi import payloads

LOG = logging.getLogger(__name__)

_ABORTED = results.TurnBack(Outcome.CANCELLED, "aborted before the guest began to move")


def ensure_files_pinned(task: Task) -> results.Result:
    """Hold every file by an open descriptor, so that nothing is lost when Nova removes them."""
    if task.abort_requested and not task.is_nova:  # also while libvirtd is away
        return _ABORTED
    here = _state_here(task)
    if isinstance(here, results.Wait):
        return here
    if here is GuestState.ABSENT and not _has_moved(task):
        error = errors.GuestNotHere(instance=task.migration.instance, host=task.migration.source)
        return results.TurnBack(Outcome.FAILED, error.sentence)
    files = pins.pinned(task)
    if files is None:
        return results.Done({"files": 0})
    return results.Done({"files": len(files.entries), "identity": files.lasting_identity})


def _state_here(task: Task) -> GuestState | results.Wait:
    """The order may come while libvirtd is restarted; Nova does not wait for anybody then."""
    def asked() -> GuestState:
        return task.ports.hypervisor.state(task.migration.instance)
    return asked() if task.is_nova else attempts.attempt(task, asked)


def _has_moved(task: Task) -> bool:
    """A cast may be heard late, when the destination has the guest already."""
    try:
        there = task.ports.peers.testify(task.migration.destination, task.migration.instance)
    except errors.Error:
        return False
    return there.state in (GuestState.RUNNING, GuestState.PAUSED, GuestState.SHUTOFF)


def ensure_files_released(task: Task) -> None:
    """No file is held any more; what nothing else holds is in the trash first.

    The guest is here, yet the directory that was pinned may be gone: the guest
    had left and come back with a later migration while the peer's worker was
    away, or nova-compute took one that died for one that had moved.
    """
    instance, files = task.migration.instance, task.files
    if files is not None and not rivals.has_carried(task):
        with task.ports.directories.pin(instance) or _nothing() as directory:
            if not files.is_of(directory):
                pins.keep(task)  # what the guest wrote until its end is in them as well
                item = task.ports.trash.save(
                    files, instance, "nova-compute removed this directory before its files were "
                    "handed over; these are the copies that rbd-worker still held",
                    task.migration.key)
                LOG.warning("%s turns back although its directory is gone; its files are in the "
                            "trash as %s", task.migration, item.id)
    task.release()


def ensure_destination_prepared(task: Task) -> results.Result:
    """The destination has a copy of every file; with executor libvirt also the directory.

    An order that comes while the guest moves on an earlier one is not Nova's, or late: its
    destination is left alone until it is seen where the guest goes.  Then all is handed over.
    """
    if rivals.is_second(task):
        here = task.ports.hypervisor.state(task.migration.instance)
        if here is GuestState.OUTGOING:
            return results.Wait(task.ports.settings.settle_interval,
                                "the guest moves already, and another order was there first")
        if here is GuestState.ABSENT:
            return results.Done({"skipped": "the guest has left already"})
    reply = attempts.attempt_with_nonce(task, lambda laid: _prepare(task, laid))
    if isinstance(reply, results.Wait):
        return reply
    if reply is None:
        return _ABORTED
    return results.Done({
        "shared": reply.shared, "staged": reply.staged, "attempts": task.tries,
        "inbound_address": reply.inbound_address, "graphics_listen": reply.graphics_listen})


def _prepare(task: Task, laid: payloads.PathProbe) -> payloads.PrepareReply | None:
    """One attempt, with the files as they are now; None where nobody wants it any more."""
    migration = task.migration
    if task.abort_requested and not task.is_nova:
        return None
    if pins.are_lost(task):  # an empty list would take the place of what is staged there
        raise errors.DirectoryLost(instance=migration.instance, host=migration.source)
    files = pins.pinned(task)
    if files is not None and task.tries > 1:
        files.refresh()
    request = payloads.PrepareRequest(
        migration=migration.key, instance=migration.instance, source=migration.source,
        destination=migration.destination, executor=migration.executor.value,
        request_id=migration.request_id, probe=laid, **pins.listed(files, {}))
    task.listed = payloads.fingerprint(request)  # before it is sent: the peer asks for it
    try:
        return task.ports.peers.pre_live_migration(migration.destination, request)
    except errors.Transient as e:
        if task.is_nova and _has_left(task):  # Nova did not wait; nor does the peer's own cast
            raise errors.GuestNotHere(instance=migration.instance, host=migration.source) from e
        raise


def _has_left(task: Task) -> bool:
    return task.ports.hypervisor.state(task.migration.instance) is GuestState.ABSENT


def ensure_destination_rolled_back(task: Task) -> None:
    """Tell the destination that the guest stays, without depending on its answer.

    What the destination staged or made is its own to remove: where it does not
    hear this, it asks this host before it does anything.
    """
    migration = task.migration
    request = payloads.RollbackRequest(
        migration=migration.key, instance=migration.instance, source=migration.source,
        destination=migration.destination, executor=migration.executor.value,
        outcome="cancelled" if _is_cancelled(task) else "failed")
    try:
        reply = task.ports.peers.rollback_live_migration(migration.destination, request)
    except errors.Error as e:
        LOG.warning("%s the destination will find out by itself: %s", migration, e.sentence)
        return
    if not reply.done:
        LOG.info("%s the destination is not done yet: %s", migration, reply.reason)


def _is_cancelled(task: Task) -> bool:
    return bool(task.notes.get("turned_back", {}).get("outcome") == Outcome.CANCELLED.value)


def ensure_guest_moved(task: Task) -> results.Result:
    """Order the move from libvirt (executor libvirt) and wait for its end.

    A worker that was killed meanwhile finds the move still running
    (peer-to-peer migrations outlive their client), finished, or never begun;
    so does one that stood still for so long that libvirtd closed its connection.
    """
    migration, movers = task.migration, task.ports.movers
    if movers.is_moving(migration.key):
        return results.Wait(task.ports.settings.settle_interval, "the guest is moving")
    end = movers.end_of(migration.key)  # asked second: an end in between is not missed
    state = task.ports.hypervisor.state(migration.instance)
    if state is GuestState.OUTGOING and task.ports.hypervisor.has_job(migration.instance):
        movers.adopt(migration)  # also where only the connection of its order has ended
        if task.abort_requested:  # libvirt may not have heard of it before this worker's restart
            movers.abort(migration)
        return results.Wait(2, "libvirt still works on an earlier order")
    if end is not None:
        return results.Done(end)
    if state is GuestState.OUTGOING:
        return results.Done({"found": "its end left open, or reached just now"})
    if not state.is_active:
        return results.Done({"found": state.value})
    if task.abort_requested:
        return _ABORTED
    if task.age() > task.ports.settings.prepare_timeout:
        return results.TurnBack(Outcome.FAILED, "it did not begin within prepare_timeout")
    consumers = task.ports.nova_consumers()
    if consumers:
        raise errors.NovaComputeRuns(queue=f"compute.{migration.source}", consumers=consumers)
    prepared = task.notes["ensure_destination_prepared"]
    order = MoveOrder(destination=migration.destination,
                      inbound_address=prepared.get("inbound_address") or None,
                      graphics_listen=prepared.get("graphics_listen") or None)
    movers.start(migration, order)
    return results.Wait(task.ports.settings.settle_interval, "the guest is moving")


def ensure_files_handed_over(task: Task) -> results.Result:
    """The destination has placed every file as it ended here, durably, by digest."""
    staged = task.notes.get("ensure_destination_prepared", {}).get("staged", {})
    try:
        reply = attempts.attempt_with_nonce(task, lambda laid: _hand_over(task, laid, staged))
    except errors.UnsafeDirectory as e:
        if "skipped" not in task.notes.get("ensure_destination_prepared", {}):
            raise  # the destination waits for them, and this host for the destination
        return results.Done({"skipped": e.sentence})  # the guest has moved all the same
    if isinstance(reply, results.Wait):
        return reply
    if reply.shared:
        return results.Done({"shared": True})
    return results.Done({"placed": reply.placed, "own": list(reply.own)})


def _hand_over(task: Task, laid: payloads.PathProbe,
               staged: ty.Mapping[str, str]) -> payloads.FinishReply:
    """One attempt, with the files as they are now; every one of them is acknowledged."""
    migration = task.migration
    files = None if task.is_shared else pins.pinned(task)
    if files is not None:
        files.refresh()
    request = payloads.FinishRequest(
        migration=migration.key, instance=migration.instance, source=migration.source,
        destination=migration.destination, executor=migration.executor.value,
        probe=laid, **pins.listed(files, staged))
    task.listed = payloads.fingerprint(request)
    reply = task.ports.peers.post_live_migration(migration.destination, request)
    if not reply.shared:
        for entry in request.entries:
            if (entry.kind == "file" and entry.path not in reply.own
                    and reply.placed.get(entry.path) != entry.digest):
                raise errors.DigestMismatch(path=entry.path)
    return reply


def ensure_source_removed(task: Task) -> results.Result:
    """Nothing of the instance is left in instances_path; what was, is in the trash."""
    migration, ports = task.migration, task.ports
    if task.is_shared:
        return results.Done({"kept": "the path is shared"})
    with ports.directories.pin(migration.instance) or _nothing() as directory:
        if directory is None:
            return results.Done({"removed": "nothing was left"})
        if _is_another(task, directory):
            LOG.info("%s a newer directory has its name here by now; it is left to the audit",
                     migration)
            return results.Done({"kept": "it is not the directory that the guest left"})
        if task.is_nova and _nova_may_still_clean_up(task):
            return results.Wait(max(2, task.seconds_since("settled") / 4),
                                "nova-compute is given time to remove the directory")
        if task.is_nova:
            opinion = task.ports.records.opinion(
                migration.instance, records.Found(migration.destination))
            _say_that_nova_has_not_finished(task, opinion)
        try:
            if task.is_nova and not opinion.allows:
                raise errors.NovaDisagrees(instance=migration.instance, reason=opinion.sentence)
            item = proof.trash_when_proven(
                task, directory, holder=migration.destination, asking_for=migration.key,
                demand_active=task.is_nova)
        except errors.NotProven as e:
            if not _runs_there_no_more(task):
                raise
            LOG.warning("%s the guest does not run on %s any more; its directory here is left to "
                        "the audit", migration, migration.destination)
            return results.Done({"kept": e.sentence})
    return results.Done({"trash": item})


def _is_another(task: Task, directory: instances.PinnedDirectory) -> bool:
    """Nova may have made it since: for a cold migration that comes here, say.

    Of a directory whose files were never held nobody knows which one it was.
    """
    held = task.notes.get("ensure_files_pinned", {})
    return "identity" not in held or pins.is_another(task, directory)


def _runs_there_no_more(task: Task) -> bool:
    """The destination is no witness any more; beside Nova not before it starts the guest again."""
    there = task.ports.peers.testify(task.migration.destination, task.migration.instance)
    return there.state == GuestState.ABSENT or (
        task.is_nova and there.state == GuestState.SHUTOFF)


class _nothing:
    """A ``with`` target for a directory that does not exist."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _nova_may_still_clean_up(task: Task) -> bool:
    return task.seconds_since("settled") < task.ports.settings.nova_cleanup_grace


def _say_that_nova_has_not_finished(task: Task, opinion: quarrel.Opinion) -> None:
    """Nova removes the directory in its last steps: they failed, or never ran."""
    migration = task.migration
    if "advice" in task.notes:
        return
    sentence = (
        f"the guest is on {migration.destination}, but nova-compute here did not remove its "
        "directory: it was stopped or failed in its last steps, or a stale "
        f"{migration.instance}_del is in its way. {_advice(task, opinion)}")
    LOG.warning("%s %s", migration, sentence)
    task.note("advice", sentence=sentence)


def _advice(task: Task, opinion: quarrel.Opinion) -> str:
    """What mends the server: exact where Nova's record was read, else for either case."""
    migration = task.migration
    if task.ports.records.are_asked and opinion.stance is not quarrel.Stance.SILENT:
        return opinion.sentence or f"Nova's record agrees that it is on {migration.destination}"
    return (
        "Nova's record may be wrong: compare "
        f"'openstack server show {migration.instance} -c OS-EXT-SRV-ATTR:host'. Where it says "
        f"{migration.destination}: openstack server set --state active. Where it says "
        f"{migration.source}: do not start or reboot it, Nova would start a second guest on the "
        "same disks; rbd-workerctl trash restore here, then virsh migrate --live --p2p "
        f"--undefinesource --persistent on {migration.destination} back to {migration.source}")
