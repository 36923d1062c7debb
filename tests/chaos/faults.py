# SPDX-License-Identifier: Apache-2.0
"""What may go wrong, one function a fault: done to the arena at a random moment.

A fault leaves the arena as it broke it, for a random time; ``Arena.mend``
brings every part back.  Choices within a fault come from the scene's own
random numbers, so that a round can be repeated.
"""

import contextlib
import dataclasses
import random
import typing as ty

from devstack import lab as labs
from devstack.conductor import LiveMigration
from tests.chaos.arena import Arena


@dataclasses.dataclass(frozen=True)
class Scene:
    """One migration that is under way."""

    arena: Arena
    guest: labs.Guest
    order: LiveMigration
    choice: random.Random

    @property
    def source(self) -> labs.Host:
        return self.arena.lab.host(self.order.source)

    @property
    def destination(self) -> labs.Host:
        return self.arena.lab.host(self.order.destination)

    @property
    def some_host(self) -> labs.Host:
        return self.choice.choice((self.source, self.destination))


@dataclasses.dataclass(frozen=True)
class Fault:
    """:ivar most: longest time in seconds until what it broke is mended."""

    name: str
    strike: ty.Callable[[Scene], None]
    most: float


ALL: dict[str, Fault] = {}


def _fault(most: float = 2.0) -> ty.Callable[[ty.Callable[[Scene], None]], None]:
    def listed(strike: ty.Callable[[Scene], None]) -> None:
        ALL[strike.__name__] = Fault(strike.__name__, strike, most)
    return listed


@_fault()
def nothing(_scene: Scene) -> None:
    """A round without any fault has to complete."""


@_fault()
def kill_source_worker(scene: Scene) -> None:
    scene.arena.kill_worker(scene.order.source)


@_fault()
def kill_destination_worker(scene: Scene) -> None:
    scene.arena.kill_worker(scene.order.destination)


@_fault()
def kill_both_workers(scene: Scene) -> None:
    for name in (scene.order.source, scene.order.destination):
        scene.arena.kill_worker(name)


@_fault(most=12)
def freeze_worker(scene: Scene) -> None:
    """Longer than a caller waits for a sign of life."""
    scene.arena.workers[scene.some_host.name].service.pause()


@_fault()
def jump_clock(scene: Scene) -> None:
    scene.arena.jump(scene.some_host, scene.choice.choice((-86400, -3600, 3600, 90000)))


@_fault(most=8)
def fill_source_disk(scene: Scene) -> None:
    scene.arena.fill_disk(scene.source)


@_fault(most=8)
def fill_destination_disk(scene: Scene) -> None:
    scene.arena.fill_disk(scene.destination)


@_fault()
def kill_broker_node(scene: Scene) -> None:
    """Of a cluster one of three; else all there is."""
    scene.choice.choice(scene.arena.lab.brokers).kill9()


@_fault()
def restart_broker_node(scene: Scene) -> None:
    scene.choice.choice(scene.arena.lab.brokers).stop()


@_fault(most=6)
def freeze_broker_node(scene: Scene) -> None:
    """Shorter than the other nodes wait: what they then do is RabbitMQ's own matter."""
    scene.choice.choice(scene.arena.lab.brokers).service.pause()


@_fault(most=15)
def lose_broker_quorum(scene: Scene) -> None:
    """Of a cluster two of three: the last one has no majority and stops to serve."""
    nodes = scene.arena.lab.brokers
    for node in scene.choice.sample(nodes, len(nodes) // 2 + 1):
        node.kill9()


@_fault()
def restart_source_libvirtd(scene: Scene) -> None:
    """As systemd does it: libvirtd may wait for its migration and is then killed."""
    libvirtd = scene.arena.lab.libvirt(scene.source)
    try:
        libvirtd.service.stop(seconds=5)
    except labs.TookTooLong:
        libvirtd.kill9()
    libvirtd.start()


@_fault()
def kill_source_libvirtd(scene: Scene) -> None:
    scene.arena.lab.libvirt(scene.source).kill9()


@_fault()
def kill_destination_libvirtd(scene: Scene) -> None:
    scene.arena.lab.libvirt(scene.destination).kill9()


@_fault()
def kill_destination_qemu(scene: Scene) -> None:
    """Only where it is still receiving: a guest that has arrived is not to be killed."""
    if scene.guest.state(scene.destination) == "paused":
        with contextlib.suppress(labs.LabError):
            scene.destination.kill9(scene.guest.qemu_pid(scene.destination))


@_fault(most=12)
def freeze_ceph_monitor(scene: Scene) -> None:
    scene.arena.lab.ceph.mon.pause()


@_fault(most=12)
def freeze_ceph(scene: Scene) -> None:
    """Guests wait for their disks, and so does who asks for watchers."""
    scene.arena.lab.ceph.pause()


@_fault(most=12)
def cut_between_hosts(scene: Scene) -> None:
    """The broker and Ceph stay reachable."""
    scene.arena.lab.cut(scene.source, scene.destination)


@_fault(most=12)
def unplug_source(scene: Scene) -> None:
    scene.source.plug(connected=False)


@_fault(most=12)
def unplug_destination(scene: Scene) -> None:
    scene.destination.plug(connected=False)
