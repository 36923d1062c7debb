# SPDX-License-Identifier: Apache-2.0
"""What may go wrong beside Nova: most of the lab's own faults, and those of Nova's parts.

A fault leaves what it broke for a random time; ``NovaArena.mend`` brings every
part back.
"""

import contextlib
import typing as ty

from devstack import gate
from devstack import lab as labs
from devstack.gate import services
from tests.chaos import faults
from tests.chaos.faults import Fault, Scene

#: What the steps before, after and instead of a migration ask of neutron.
_NEUTRON = "[A-Z]+ /network/v2.0/"

#: None of these may make a migration of Nova's fail.
HARMLESS = frozenset({"nothing", "kill_source_worker", "kill_destination_worker",
                      "kill_both_workers", "freeze_worker"})

_OF_THE_LAB = (*sorted(HARMLESS), "kill_broker_node", "freeze_broker_node",
               "restart_source_libvirtd", "kill_source_libvirtd", "kill_destination_libvirtd",
               "kill_destination_qemu", "freeze_ceph_monitor", "cut_between_hosts")

ALL: dict[str, Fault] = {name: faults.ALL[name] for name in _OF_THE_LAB}


def _fault(most: float = 4.0) -> ty.Callable[[ty.Callable[[Scene], None]], None]:
    def listed(strike: ty.Callable[[Scene], None]) -> None:
        ALL[strike.__name__] = Fault(strike.__name__, strike, most)
    return listed


@_fault(most=8)
def kill_source_compute(scene: Scene) -> None:
    scene.arena.cloud.compute(scene.order.source).kill9()


@_fault(most=8)
def kill_destination_compute(scene: Scene) -> None:
    scene.arena.cloud.compute(scene.order.destination).kill9()


@_fault()
def kill_conductor(scene: Scene) -> None:
    services.conductor(scene.arena.lab).kill9()


@_fault()
def kill_source_qemu(scene: Scene) -> None:
    """The guest dies; where it has left already, what is left of it."""
    with contextlib.suppress(labs.LabError):
        scene.source.kill9(scene.guest.qemu_pid(scene.source))


@_fault()
def abort(scene: Scene) -> None:
    with contextlib.suppress(gate.ApiError):  # none is under way
        scene.arena.cloud.abort(scene.guest.uuid)


@_fault()
def force_complete(scene: Scene) -> None:
    with contextlib.suppress(gate.ApiError, IndexError):
        scene.arena.cloud.force_complete(scene.guest.uuid)


@_fault(most=8)
def fail_neutron_for_source(scene: Scene) -> None:
    scene.arena.cloud.inject(scene.source, _NEUTRON)


@_fault(most=8)
def fail_neutron_for_destination(scene: Scene) -> None:
    scene.arena.cloud.inject(scene.destination, _NEUTRON)
