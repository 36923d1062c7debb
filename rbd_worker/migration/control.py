# SPDX-License-Identifier: Apache-2.0
"""An operator's orders about this host's migrations.

Orders go to whoever moves the guest: with executor libvirt that is this
worker, with executor nova it is nova-compute, and the refusal names Nova's own
command.  Nothing here removes a file: what an operator declares *resolved*
leaves every directory where it is, and the audit asks for proof as ever.
"""

import logging
import typing as ty
import uuid

from rbd_worker import errors, request_context
from rbd_worker.host.hypervisor import Progress
from rbd_worker.migration.coordinator import Coordinator
from rbd_worker.migration.journal import Entry
from rbd_worker.migration.task import Task
from rbd_worker.model import Executor, GuestState, Migration, Outcome, Phase, Role
from rpcapi import control as contract
from rpcapi.fields import MAX_EXPLANATION

LOG = logging.getLogger(__name__)


class Control:
    """Called from the RPC server's threads.

    :raises errors.BadInput: what is asked for is not known, or not as it would have to be.
    :raises errors.NotOurs: Nova has to be asked.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._ports = coordinator.ports

    def progress(self, request: contract.ProgressRequest) -> contract.ProgressReply:
        """How far the migration is in each role that this host has in it."""
        return contract.ProgressReply(
            roles=tuple(map(self._progress_of, self._entries(request.migration))))

    def abort(self, request: contract.OrderRequest) -> contract.OrderReply:
        """Give the move up; the plan then turns back by itself."""
        task = self._moving_here(request.migration, "abort")
        self._coordinator.abort_task(task)
        return contract.OrderReply(done=f"the move of {task.migration.instance} is being aborted")

    def force_complete(self, request: contract.OrderRequest) -> contract.OrderReply:
        """Make the move end now: by post-copy where permitted, else by a pause."""
        task = self._moving_here(request.migration, "force-complete")
        if task.phase is not Phase.LIVE:
            raise errors.BadInput(what=f"migration {request.migration}",
                                  reason=f"the guest does not move yet, it is in {task.phase}")
        self._ports.hypervisor.force_complete(task.migration.instance)
        return contract.OrderReply(
            done=f"the move of {task.migration.instance} is being completed")

    def resolve(self, request: contract.ResolveRequest) -> contract.OrderReply:
        """Close unresolved entries of this migration here, with nothing removed."""
        found = [entry for entry in self._entries(request.migration) if entry.is_open]
        if not found:
            raise errors.BadInput(what=f"migration {request.migration}",
                                  reason="it is closed here already")
        for entry in found:
            self._check_still(entry.migration)
            self._coordinator.resolve(self._coordinator.adopt(entry.migration),
                                      Outcome(request.outcome), request.note)
        return contract.OrderReply(
            done=f"closed as {request.outcome} on {self._ports.settings.host}; every directory "
                 "is where it was, the audit decides about leftovers by proof")

    def live_migrate(self, request: contract.LiveMigrateRequest) -> contract.LiveMigrateReply:
        """Begin to move a guest of this host, as after a cast of nova-conductor."""
        own = self._ports.settings.host
        self._check_executor(request.instance)
        if request.destination == own:
            raise errors.BadInput(what=f"live migration of {request.instance}",
                                  reason=f"it is to go to {own}, where it is")
        state = self._ports.hypervisor.state(request.instance)
        if not state.is_active:
            raise errors.BadInput(what=f"live migration of {request.instance}",
                                  reason=f"libvirt on {own} says that it is {state}")
        self._ports.peers.describe(request.destination)
        migration = Migration(str(uuid.uuid4()), request.instance, Role.SOURCE, own,
                              request.destination, Executor.LIBVIRT,
                              request.request_id or f"req-{uuid.uuid4()}")
        if self._coordinator.begin(migration) is None:
            raise errors.BadInput(what=f"migration {migration.key}", reason="it is known already")
        with request_context.of(migration.request_id):
            LOG.info("%s begins as source, to %s, ordered by an operator", migration,
                     migration.destination)
        return contract.LiveMigrateReply(migration=migration.key)

    # -- inside --------------------------------------------------------------

    def _entries(self, key: str) -> list[Entry]:
        found = self._ports.journal.entries_with(key)
        if not found:
            raise errors.UnknownMigration(migration=key, host=self._ports.settings.host)
        return found

    def _moving_here(self, key: str, order: str) -> Task:
        """The open task of a move that this worker does."""
        entry = next((e for e in self._entries(key) if e.migration.role is Role.SOURCE), None)
        if entry is None:
            raise errors.BadInput(what=f"migration {key}",
                                  reason="this is its destination: ask the source")
        if not entry.is_open:
            raise errors.BadInput(what=f"migration {key}", reason=f"it has {entry.outcome}")
        if entry.migration.executor is Executor.NOVA:
            raise errors.NotOurs(
                what=f"migration {key}",
                command=f"openstack server migration {order} {entry.migration.instance} "
                        f"{entry.migration.number or '<id>'}")
        return self._coordinator.adopt(entry.migration)

    def _check_executor(self, instance: str) -> None:
        own = self._ports.settings.host
        is_nova = self._ports.settings.executor is Executor.NOVA
        if is_nova or self._ports.nova_consumers():
            raise errors.NotOurs(
                what=f"a live migration from {own}",
                command=f"openstack server migrate --live-migration {instance}")

    def _check_still(self, migration: Migration) -> None:
        """While libvirt moves the guest nobody knows what will become of it."""
        state = self._ports.hypervisor.state(migration.instance)
        if state in (GuestState.INCOMING, GuestState.OUTGOING):
            raise errors.BadInput(
                what=f"migration {migration.key}",
                reason=f"libvirt on {self._ports.settings.host} says that the guest is {state}: "
                       "wait for its end, or end the job with 'virsh domjobabort'")

    def _progress_of(self, entry: Entry) -> contract.Progress:
        migration, records = entry.migration, self._ports.journal.records(entry.migration)
        last = f"{records[-1].step} {records[-1].state}" if records else ""
        return contract.Progress(
            migration=migration.key, instance=migration.instance, role=migration.role.value,
            source=migration.source, destination=migration.destination,
            executor=migration.executor.value, phase=entry.phase.value,
            outcome=entry.outcome or "", reason=entry.reason[:MAX_EXPLANATION], step=last,
            opened=entry.opened, closed=entry.closed or 0,
            **(self._memory(migration) if entry.is_open else {}))

    def _memory(self, migration: Migration) -> dict[str, ty.Any]:
        """libvirt's figures of a move away from here, whoever ordered it."""
        if migration.role is not Role.SOURCE:
            return {}
        known = self._ports.movers.progress_of(migration.key)
        try:
            now: Progress | None = self._ports.hypervisor.progress(migration.instance)
        except errors.HypervisorUnavailable as e:
            LOG.debug("%s no progress can be told: %s", migration, e)
            return {}
        if now is None:
            return {}
        return {"moving": True, "memory_total": now.memory_total,
                "memory_processed": now.memory_processed,
                "memory_remaining": now.memory_remaining, "rate": now.rate,
                "iteration": now.iteration, "elapsed": now.elapsed, "mode": now.mode,
                "downtime_limit": known.downtime_limit if known else 0}
