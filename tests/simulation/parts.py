# SPDX-License-Identifier: Apache-2.0
"""libvirt, QEMU and Ceph as they are, and as one worker sees them.

A move goes on whatever becomes of who ordered it.  What libvirt says of a
guest in each moment follows the table in ``rbd_worker.host.domain_state``.
"""

import dataclasses
import os
import typing as ty

from rbd_worker import errors
from rbd_worker.model import GuestState, RbdImage
from tests.simulation.schedule import LEFT_OPEN

if ty.TYPE_CHECKING:
    from tests.simulation.hosts import Host

#: Seconds that the guest's memory takes, and that the source's QEMU needs to end.
TRANSFER_SECONDS = 2.0
LINGER_SECONDS = 0.7
#: Seconds after which an operator looks after a guest whose move libvirt has left open.
MENDED_AFTER = 300.0
#: Nova's live_migration_completion_timeout, after which whoever ordered a move ends it.
COMPLETION_SECONDS = 800.0


@dataclasses.dataclass(eq=False)
class Transfer:
    """QEMU sends a guest to QEMU; ``end`` is as ``schedule.Move.end``.

    :ivar key: of Nova's migration; empty where a worker ordered it.
    :ivar error: why it did not happen, as the one who ordered it is told.
    """

    instance: str
    source: "Host"
    destination: "Host"
    end: str
    key: str = ""
    is_over: bool = False
    has_moved: bool = False
    error: str = ""

    def run(self) -> None:
        """In a task of the world."""
        here, there = self.source.libvirt, self.destination.libvirt
        world = self.source.world
        if here.is_down or there.is_down or not world.bus.are_connected(self.source,
                                                                       self.destination):
            return self._refused("the other libvirtd cannot be reached")
        self.destination.ask_hook(self.instance)
        if self.is_over:
            return None  # it was aborted before it began
        if here.states.get(self.instance) is not GuestState.RUNNING or (
                self.instance in there.states):
            return self._refused("the guest is not there, or there already")
        try:
            there.qemu_starts(self.instance)
        except FileNotFoundError as e:
            return self._refused(f"cannot open {e.filename}")
        here.states[self.instance] = GuestState.OUTGOING
        there.states[self.instance] = GuestState.INCOMING
        here.say(self.instance, "I am leaving")
        self._tell("begins to move")
        world.scheduler.wait(TRANSFER_SECONDS / 2)
        if self.end == "source dies":
            here.crash(self.instance)
        elif self.end == "fail":
            self.fail("the destination's QEMU ended")
        world.scheduler.wait(TRANSFER_SECONDS / 2)
        if self.end == "abort":
            self._never_converge()
        if self.end in LEFT_OPEN and not self.is_over:
            return self._leave_open()
        return self._finish()

    def _leave_open(self) -> None:
        """libvirt keeps a copy without a job, and waits for somebody who can ask both hosts."""
        there = self.destination.libvirt
        self.is_over, self.error = True, "connection lost at the end"
        there.states[self.instance] = GuestState.OUTGOING
        if self.end != LEFT_OPEN[0]:
            there.states[self.instance] = GuestState.RUNNING
            there.say(self.instance, "I have arrived")
            self.source.world.scheduler.after(MENDED_AFTER, self._mend)
        self._tell("is left open")

    def _mend(self) -> None:
        """An operator ends the stopped copy, as the worker's sentence tells."""
        here, there = self.source.libvirt, self.destination.libvirt
        if self.instance in here.states and (
                there.states.get(self.instance) is GuestState.RUNNING):
            self.has_moved = True
            del here.states[self.instance]
            here.linger(self.instance)
            self._tell("is rid of its copy")

    def _never_converge(self) -> None:
        limit = self.source.world.scheduler.now + COMPLETION_SECONDS
        while self.end == "abort" and not self.is_over:
            self.source.world.scheduler.wait(5)
            if self.source.world.scheduler.now > limit:
                self.fail("live_migration_completion_timeout is over")

    def fail(self, reason: str) -> None:
        if not self.is_over:
            self.is_over, self.error = True, reason
            self.destination.libvirt.states.pop(self.instance, None)
            self.source.libvirt.states[self.instance] = GuestState.RUNNING
            self._tell("stays")

    def source_died(self) -> None:
        self.is_over, self.error = True, "the guest's QEMU ended"
        self.source.libvirt.states[self.instance] = GuestState.SHUTOFF
        self.destination.libvirt.states.pop(self.instance, None)
        self._tell("has died on its way")

    def force(self) -> None:
        self.end = "succeed"

    def _finish(self) -> None:
        if self.is_over:
            return
        here, there = self.source.libvirt, self.destination.libvirt
        there.states[self.instance] = GuestState.RUNNING
        there.say(self.instance, "I have arrived")
        self.source.world.scheduler.wait(0.1)
        if self.is_over:
            return
        self.is_over = self.has_moved = True
        del here.states[self.instance]
        here.linger(self.instance)
        self._tell("has moved")

    def _refused(self, reason: str) -> None:
        self.is_over, self.error = True, reason
        self.source.world.tell(f"libvirt does not move {self.instance[:4]}: {reason}")

    def _tell(self, what: str) -> None:
        self.source.world.tell(f"the guest {self.instance[:4]} {what}: {self.source.name} to "
                               f"{self.destination.name}")
        for side in (self.source, self.destination):
            side.libvirt_event(self.instance)


class Libvirt:
    """One host's libvirt and QEMU, as the world knows them."""

    def __init__(self, host: "Host") -> None:
        self.host = host
        self.states: dict[str, GuestState] = {}
        self.is_down = False
        #: What workers ordered, in order: ("move", instance), ("abort", instance), ...
        self.orders: list[tuple[str, str]] = []
        self.transfers: list[Transfer] = []
        #: Instances whose QEMU has not let go of its images yet.
        self.lingering: set[str] = set()

    def qemu_starts(self, instance: str) -> None:
        """QEMU opens its console log and empties it."""
        log = f"{self.host.directory(instance)}/console.log"
        if os.path.exists(log):
            self.host.world.qemu_empties(log)
        with open(log, "w"):
            pass
        self.host.world.dates.touched(self.host)

    def say(self, instance: str, line: str) -> None:
        """The guest writes a line to its console: QEMU holds the file open."""
        world = self.host.world
        marker = f"<{self.host.name} {instance[:4]} {len(world.lines)}>"
        try:
            with open(f"{self.host.directory(instance)}/console.log", "a") as log:
                log.write(f"{marker} {line}\n")
        except FileNotFoundError:
            world.breach("directory", f"the directory of {instance[:4]} is gone under the guest "
                                      f"on {self.host.name}")
        world.lines.append((instance, marker))

    def crash(self, instance: str) -> None:
        """The guest's QEMU is gone."""
        for transfer in self.transfers:
            if transfer.instance == instance and not transfer.is_over:
                return transfer.source_died()
        self.states[instance] = GuestState.SHUTOFF
        self.host.libvirt_event(instance)

    def without_power(self) -> None:
        """Guests end, and those that are on their way here stay where they were."""
        world = self.host.world
        for instance, state in self.states.items():
            if state is not GuestState.SHUTOFF:  # QEMU flushes nothing of what the guest says
                own = f"<{self.host.name} {instance[:4]} "
                world.lost |= {marker for _, marker in world.lines if marker.startswith(own)}
        for host in world.hosts:
            for transfer in host.libvirt.transfers:
                if transfer.destination is self.host:
                    transfer.fail("the destination is gone")
        for instance, state in list(self.states.items()):
            if state is not GuestState.SHUTOFF:
                world.dead.add(instance)
                self.crash(instance)

    def linger(self, instance: str) -> None:
        self.lingering.add(instance)
        self.host.world.scheduler.after(LINGER_SECONDS,
                                        lambda: self.lingering.discard(instance))

    def begin(self, instance: str, destination: "Host", end: str, key: str = "") -> Transfer:
        """Order a move; it then happens by itself."""
        transfer = Transfer(instance, self.host, destination, end, key)
        self.transfers.append(transfer)
        self.host.world.scheduler.spawn(self.host.world.life, transfer.run, f"move {instance[:4]}")
        return transfer

    def running_transfers(self, instance: str) -> list[Transfer]:
        return [t for t in self.transfers if t.instance == instance and not t.is_over]


class Hypervisor:
    """The methods of ``rbd_worker.host.hypervisor.Hypervisor`` for one worker."""

    def __init__(self, host: "Host") -> None:
        self._host = host
        self._libvirt = host.libvirt

    def state(self, instance: str) -> GuestState:
        self._ask()
        return self._libvirt.states.get(instance, GuestState.ABSENT)

    def has_job(self, instance: str) -> bool:
        return self.state(instance) in (GuestState.INCOMING, GuestState.OUTGOING) and any(
            host.libvirt.running_transfers(instance) for host in self._host.world.hosts)

    def images(self, instance: str) -> tuple[RbdImage, ...]:
        if self.state(instance) is GuestState.ABSENT:
            raise errors.GuestNotHere(instance=instance, host=self._host.name)
        return (RbdImage("vms", f"{instance}_disk"),)

    def domains(self) -> dict[str, GuestState]:
        self._ask()
        return dict(self._libvirt.states)

    def instances(self) -> frozenset[str]:
        self._ask()
        return frozenset(self._libvirt.states)

    def agent_trouble(self, _instance: str) -> str:
        self._ask()
        return "it has no channel for a guest agent"

    def freeze(self, instance: str, _seconds: float) -> int:
        """No guest of this world has an agent."""
        self._ask()
        raise errors.FreezeRefused(instance=instance, reason="no agent")

    def thaw(self, instance: str) -> bool:
        self._ask()
        return self._libvirt.states.get(instance) is GuestState.RUNNING

    def abort(self, instance: str) -> None:
        self._ask()
        self._libvirt.orders.append(("abort", instance))
        for transfer in self._libvirt.running_transfers(instance):
            transfer.fail("aborted")

    def force_complete(self, instance: str) -> None:
        self._ask()
        self._libvirt.orders.append(("force_complete", instance))
        for transfer in self._libvirt.running_transfers(instance):
            transfer.force()

    def move(self, instance: str, order: ty.Any, _on_progress: ty.Any) -> None:
        """As ``migrateToURI3``: returns when the guest has moved, raises otherwise."""
        self._ask()
        world, host = self._host.world, self._host
        self._libvirt.orders.append(("move", instance))
        end = world.ends.get(instance, "succeed")
        transfer = self._libvirt.begin(instance, world.host(order.destination), end)
        while not transfer.is_over:
            world.scheduler.wait(0.5)
        host.life_check()
        if not transfer.has_moved or end == "left alone":
            raise errors.MoveUnsettled(instance=instance,
                                       reason=transfer.error or "connection lost at the end")

    def follow(self, instance: str, _on_progress: ty.Any) -> str:
        """Returns when the guest does not move any more; the world ends what takes too long."""
        while self.has_job(instance) and self.state(instance) is GuestState.OUTGOING:
            self._host.world.scheduler.wait(0.5)
        return ""

    def close(self) -> None:
        return None

    def _ask(self) -> None:
        if self._host.strikes("libvirt") or self._libvirt.is_down:
            raise errors.HypervisorUnavailable(uri="qemu:///system", reason="it is down")


class Images:
    """The methods of ``rbd_worker.host.rbd.ImageStore`` for one worker.

    Watchers follow from which QEMU has which guest, wherever it is.
    """

    def __init__(self, host: "Host") -> None:
        self._host = host
        self.own = frozenset({host.address})

    def own_addresses(self) -> frozenset[str]:
        self._ask()
        return self.own

    def watchers(self, image: RbdImage) -> frozenset[str]:
        self._ask()
        instance = image.name.removesuffix("_disk")
        return frozenset(host.address for host in self._host.world.hosts
                         if instance in host.libvirt.lingering
                         or host.libvirt.states.get(instance) not in (None, GuestState.SHUTOFF))

    def close(self) -> None:
        return None

    def _ask(self) -> None:
        if self._host.strikes("ceph") or self._host.ceph_is_down:
            raise errors.CephUnavailable(what="an image", reason="it is down", conf="ceph.conf",
                                         user="nova")


class Secrets:
    """libvirt's secrets on a host that has all of them."""

    def refresh(self) -> None:
        return None

    def missing(self, _uuid: str) -> str:
        return ""
