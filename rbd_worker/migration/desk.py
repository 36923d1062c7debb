# SPDX-License-Identifier: Apache-2.0
"""Answers the calls of other hosts' workers, in terms of this host's tasks.

A call is a hint like any message: it opens or wakes an entry, and what then
happens follows from what this host itself observes.
"""

import logging

from rbd_worker import errors, request_context
from rbd_worker.migration import destination_steps, engine
from rbd_worker.migration.coordinator import Coordinator
from rbd_worker.migration.journal import StepState
from rbd_worker.migration.task import Task
from rbd_worker.model import Executor, GuestState, Migration, Outcome, Phase, Role
from rpcapi import payloads

LOG = logging.getLogger(__name__)

#: How often one worker is asked to prepare for one migration: a source asks
#: live_migration_retry_count (30) times, and each time adds to the journal.
MAX_PREPARES = 300

#: Seconds for which Ceph takes a client for alive that died: until then a destination's QEMU
#: that ended keeps what was made for it from being removed.
WATCH_SECONDS = 30

_STAGED, _PLACED = "ensure_files_staged", "ensure_files_placed"


class Desk:
    """Called from the RPC server's threads; a call returns when its part of the plan ran.

    :raises errors.Permanent: the source need not ask again.
    :raises errors.Transient: it may.
    :raises errors.Undecided: nobody can tell yet.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._ports = coordinator.ports

    def pre_live_migration(self, request: payloads.PrepareRequest) -> payloads.PrepareReply:
        """Stage the files of a coming guest; make its directory with executor libvirt."""
        migration = self._as_destination(request)
        self._check_executor(request.executor)
        task = self._known(migration)
        self._check_source_sent_it(request, Phase.PRE)
        if task is None:
            self._check_free(migration)
            task = self._open(migration)
        with self._coordinator.holding(task):
            if task.is_closed or task.phase not in (Phase.PRE, Phase.LIVE):
                raise errors.BadInput(what=f"migration {migration.key}",
                                      reason=f"it is over here: {task.outcome} {task.reason}")
            task.prepared += 1
            if task.prepared > MAX_PREPARES:
                raise errors.BadInput(what=f"migration {migration.key}",
                                      reason=f"it was prepared {MAX_PREPARES} times")
            if task.states.get(_STAGED) is StepState.DONE:  # the source asks again
                task.record((_STAGED, StepState.DOING, {}), phase=Phase.PRE)
            task.prepare, task.error = request, None
            task.skipped.pop(_STAGED, None)
            try:
                self._coordinator.run(task)
            finally:
                task.prepare = None
            self._raise_unless(task, _STAGED, Phase.LIVE)
            if _STAGED in task.skipped:  # open all the same: Nova may move the guest without it
                raise task.skipped[_STAGED]
            note = task.notes[_STAGED]
        libvirt = self._ports.settings.libvirt
        return payloads.PrepareReply(
            shared=task.is_shared, staged=note.get("staged", {}),
            inbound_address=libvirt.live_migration_inbound_addr or "",
            graphics_listen=self._ports.settings.vnc_listen)

    def read_chunk(self, request: payloads.ChunkRequest) -> payloads.Chunk:
        """A piece of a file that an open task of this host has pinned."""
        task = self._find(request.migration, Role.SOURCE, request.instance)
        files = task.files
        if files is None:
            raise errors.BadInput(what=f"migration {request.migration}",
                                  reason="its files are not pinned on this host")
        return files.read_chunk(request.path, request.offset)

    def post_live_migration(self, request: payloads.FinishRequest) -> payloads.FinishReply:
        """Place what was staged and the end of what was still written."""
        migration = self._as_destination(request)
        self._check_executor(request.executor)
        task = self._known(migration)
        if task is None or not task.is_closed:
            self._check_source_sent_it(request, Phase.POST)
        if task is None:  # it could not be prepared, or this host's journal is new
            task = self._open(migration)
        with self._coordinator.holding(task):
            if not task.is_closed:
                if task.phase is Phase.ROLLBACK and self._has(migration.instance):
                    engine.turn_forward(task)
                task.finish, task.error = request, None
                self._coordinator.run(task)
            if task.outcome is Outcome.COMPLETED and _PLACED in task.notes:
                note = task.notes[_PLACED]
                return payloads.FinishReply(shared=bool(note.get("shared")),
                                            placed=note["placed"], own=tuple(note["own"]))
            self._raise_unless(task, _PLACED, None)
        raise errors.OutcomeUnknown(instance=migration.instance,
                                    reason="the files are not placed yet")

    def rollback_live_migration(self, request: payloads.RollbackRequest,
                                ) -> payloads.RollbackReply:
        """Find out whether the guest stays at the source; if so, drop what was staged or made."""
        task = self._known(self._as_destination(request))
        if task is None:
            return payloads.RollbackReply(done=True, reason="nothing was staged here")
        with self._coordinator.holding(task):
            if not task.is_closed:
                task.rollback_requested = True
                task.rollback_outcome = Outcome(request.outcome)
                self._coordinator.run(task)
            if task.is_closed:
                return payloads.RollbackReply(done=True, reason=str(task.outcome))
            return payloads.RollbackReply(done=False, reason=task.reason[:1024])

    def look_again(self, request: payloads.LookRequest) -> payloads.LookReply:
        """Wake the migration if it is open here; it then asks both hosts what is true."""
        tasks = [t for t in self._coordinator.tasks_of(request.instance)
                 if t.migration.key == request.migration]
        for task in tasks:
            self._coordinator.wake(task.key)
        return payloads.LookReply(known=bool(tasks))

    # -- inside --------------------------------------------------------------

    def _as_destination(self, request: payloads.PrepareRequest | payloads.FinishRequest
                        | payloads.RollbackRequest) -> Migration:
        own = self._ports.settings.host
        if request.destination != own or request.source == own:
            raise errors.BadInput(what="a call of a peer",
                                  reason=f"{request.source} to {request.destination} is not "
                                         f"a migration to {own}")
        return Migration(request.migration, request.instance, Role.DESTINATION, request.source,
                         request.destination, Executor(request.executor),
                         getattr(request, "request_id", ""))

    def _has(self, instance: str) -> bool:
        state = self._ports.hypervisor.state(instance)
        return state.is_active or state is GuestState.SHUTOFF

    def _check_executor(self, theirs: str) -> None:
        own = self._ports.settings.executor
        if theirs != own:
            raise errors.BadConfiguration(
                option="[rbd_worker] executor",
                reason=f"the source has {theirs}, the destination has {own}",
                fix="Set the same executor on both hosts")

    def _known(self, migration: Migration) -> Task | None:
        """:raises errors.KnownOtherwise: asking the call's own source would prove nothing then."""
        entry = self._coordinator.known(migration)
        return None if entry is None else self._coordinator.adopt(entry.migration)

    def _open(self, migration: Migration) -> Task:
        self._coordinator.check_room(migration)
        with self._coordinator.opening:
            is_beside = any(other.migration.role is Role.DESTINATION
                            for other in self._coordinator.tasks_of(migration.instance))
            self._ports.journal.open(
                migration, notes=destination_steps.note_of_area(migration) if is_beside else {})
            task = self._coordinator.adopt(migration)
        with request_context.of(migration.request_id):
            LOG.info("%s begins as destination, the guest is on %s", migration, migration.source)
        return task

    def _check_source_sent_it(self, request: payloads.PrepareRequest | payloads.FinishRequest,
                              phase: Phase) -> None:
        """A call alone neither puts files on this disk nor ends a migration.

        Anybody on the bus can send one.  The source, asked by a call of this host's own, has to
        be that far with the migration, and to have sent this very list; before 1.2 it tells the
        phase only.
        """
        there = self._ports.peers.testify(request.source, request.instance)
        entry = next((e for e in there.entries if not e.closed and
                      (e.migration, e.role) == (request.migration, Role.SOURCE.value)), None)
        reason = ""
        if entry is None:
            reason = f"{request.source} does not have it open"
        elif entry.phase != phase.value:
            reason = f"{request.source} says that it is in {entry.phase}, this is of {phase}"
        elif entry.listed not in (None, payloads.fingerprint(request)):
            reason = f"{request.source} has sent another list of files than this one"
        if reason:
            raise errors.BadInput(what=f"migration {request.migration}", reason=reason)

    def _check_free(self, migration: Migration) -> None:
        for other in self._coordinator.tasks_of(migration.instance):
            other.is_superseded = True
            if migration.executor is Executor.LIBVIRT and _is_unresolved_rollback(other):
                self._undo_for(migration, other)
            if not other.is_closed:
                self._coordinator.wake(other.key)
                kind = errors.NotUndone if self._is_stuck(other) else errors.OtherMigrationOpen
                raise kind(migration=other.migration.key, instance=migration.instance,
                           host=migration.host,
                           reason=other.reason or other.waits_for or "it goes on")
        if migration.executor is Executor.LIBVIRT:
            state = self._ports.hypervisor.state(migration.instance)
            if state is not GuestState.ABSENT:
                raise errors.BadInput(
                    what=f"migration {migration.key}",
                    reason=f"libvirt on {migration.destination} has that guest: {state}")

    def _undo_for(self, migration: Migration, failed: Task) -> None:
        """Remove what a failed migration left here, on behalf of the next one.

        By itself it cannot: the next one is open where the guest is, and waits for this host.
        """
        failed.undone_for = migration
        try:
            self._coordinator.run(failed)
        finally:
            failed.undone_for = None

    def _is_stuck(self, task: Task) -> bool:
        """Whether what it left here cannot be undone, and not for a moment only."""
        if not _is_unresolved_rollback(task) or task.is_nova or (
                isinstance(task.error, errors.Transient)):
            return False
        turned = [r.at for r in self._ports.journal.records(task.migration)
                  if r.step == "turned_back"]
        return self._ports.clock() - turned[-1] > WATCH_SECONDS

    def _find(self, key: str, role: Role, instance: str) -> Task:
        for task in self._coordinator.tasks_of(instance):
            if task.key == (key, role):
                return task
        raise errors.BadInput(what=f"migration {key}", reason="it is not open here")

    def _raise_unless(self, task: Task, step: str, phase: Phase | None) -> None:
        """Pass on why the plan did not come as far as the caller needs it."""
        if task.states.get(step) is StepState.DONE and phase in (None, task.phase):
            return
        if task.error is not None:
            raise task.error
        if task.is_closed:
            raise errors.BadInput(what=f"migration {task.migration.key}",
                                  reason=f"it is over here: {task.outcome} {task.reason}")
        raise errors.OutcomeUnknown(instance=task.migration.instance,
                                    reason="the destination is not ready yet")


def _is_unresolved_rollback(task: Task) -> bool:
    return task.phase is Phase.ROLLBACK and task.outcome is Outcome.UNRESOLVED
