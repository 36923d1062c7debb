# SPDX-License-Identifier: Apache-2.0
"""Nova's own part of one live migration (Nova 34, ``images_type = rbd``).

What its conductor and both nova-computes do on the wire, in libvirt and on
the disk, step by step, as the functional tests see it; slow, fast, or dead
after any step.  A source whose QEMU ended is taken for one that has moved.
"""

import shutil
import typing as ty

from devstack import conductor
from rbd_worker.model import GuestState
from tests.simulation.schedule import LEFT_OPEN, Move
from tests.simulation.scheduler import Task

if ty.TYPE_CHECKING:
    from tests.simulation.hosts import Host
    from tests.simulation.parts import Transfer
    from tests.simulation.world import World


class NovaDied(Exception):
    """nova-compute is gone; nobody goes on with this migration."""


class Nova:
    """One migration; ``run`` in a task of the world."""

    def __init__(self, world: "World", move: Move, order: conductor.LiveMigration) -> None:
        self.world = world
        self.move = move
        self.order = order
        self.instance = order.instance
        self.source = world.host(order.source)
        self.destination = world.host(order.destination)
        self.task: Task | None = None

    def run(self) -> None:
        try:
            self._migrate()
        except NovaDied:
            self.world.tell(f"nova-compute is gone after: {self.move.dead_after}")
        finally:
            self.world.migrating.discard(self.instance)

    def _migrate(self) -> None:
        self.world.bus.nova_says(self.destination, conductor.check_destination(self.order))
        self._done("check", 0.1)
        self.world.bus.nova_says(self.source, conductor.live_migration(self.order))
        self._done("cast", 0.05)
        if not self._prepare():
            return
        self._done("mkdir", 0.3)
        transfer = self.source.libvirt.begin(self.instance, self.destination, self.move.end,
                                             self.order.uuid)
        self._done("move", 0)
        self._watch(transfer)
        if transfer.end in LEFT_OPEN:
            return  # nova-compute waits for a guest that neither stays nor goes
        self._done("transfer", 0.2)
        if transfer.has_moved or self._has_ended():
            self._post(transfer)
        else:
            self._roll_back()

    def _prepare(self) -> bool:
        """``pre_live_migration`` on the destination."""
        directory = self.destination.path / self.instance
        if self.world.cloud.is_shared or not self.world.cloud.nova_makes_directory:
            return True
        if directory.exists():
            self.world.tell(f"Nova: DestinationDiskExists on {self.destination.name}")
            self.world.disk_exists += 1
            self._roll_back(keep=True)
            return False
        directory.mkdir(mode=0o755)
        self._touched(self.destination)
        return True

    def _watch(self, transfer: "Transfer") -> None:
        aborted = False
        while not transfer.is_over:
            self.world.scheduler.wait(0.5)
            if self.move.end == "abort" and not aborted and transfer.source.libvirt.states.get(
                    self.instance) is GuestState.OUTGOING:
                aborted = True
                self.world.bus.nova_says(self.source, conductor.abort(self.order))
                transfer.fail("aborted")

    def _has_ended(self) -> bool:
        """libvirt's job is gone and so is the guest: nova-compute calls that a success."""
        return self.source.libvirt.states.get(self.instance) is GuestState.SHUTOFF

    def _post(self, transfer: "Transfer") -> None:
        if self.move.end == "post error":
            self.world.bus.nova_says(self.destination, conductor.post_at_destination(self.order))
            return
        self.source.libvirt.states.pop(self.instance, None)
        self.source.libvirt_event(self.instance)
        if not self.world.cloud.is_shared:
            self._remove(self.source)
        self._done("removal", 0.1)
        self.world.bus.nova_says(self.destination, conductor.post_at_destination(self.order))

    def _roll_back(self, keep: bool = False) -> None:
        self.world.bus.nova_says(self.destination, conductor.rollback_at_destination(self.order))
        self._pause(0.1)
        if not self.world.cloud.is_shared and not keep:
            self._remove(self.destination)

    def _remove(self, host: "Host") -> None:
        """As nova-compute does: rename, then delete."""
        directory = host.path / self.instance
        if not directory.exists():
            return
        self.world.nova_removes(host, self.instance)
        doomed = directory.with_name(f"{directory.name}_del")
        directory.rename(doomed)
        shutil.rmtree(doomed)
        self._touched(host)

    def _touched(self, host: "Host") -> None:
        self.world.dates.touched(host)

    def _done(self, step: str, pause: float) -> None:
        self.world.tell(f"Nova: {step} of {self.instance[:4]} is done")
        if self.move.dead_after == step:
            raise NovaDied
        self._pause(pause)

    def _pause(self, seconds: float) -> None:
        if seconds:
            self.world.scheduler.wait(seconds * self.move.pace)
