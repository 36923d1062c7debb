# SPDX-License-Identifier: Apache-2.0
"""What may go wrong, one function a fault: done to the lab at a random moment.

Each returns nothing and leaves the lab as it broke it; ``mend`` brings every
part back, as init systems and operators do.
"""

import contextlib
import random
import typing as ty

from devstack import lab as labs
from devstack.conductor import LiveMigration
from tests.functional.fleet import Fleet

Fault = ty.Callable[[Fleet, labs.Guest, LiveMigration, random.Random], None]


def nothing(*_: object) -> None:
    """A round without any fault has to complete."""


def kill_source_worker(fleet: Fleet, _guest: labs.Guest, order: LiveMigration,
                       _random: random.Random) -> None:
    fleet.workers[order.source].kill9()


def kill_destination_worker(fleet: Fleet, _guest: labs.Guest, order: LiveMigration,
                            _random: random.Random) -> None:
    fleet.workers[order.destination].kill9()


def kill_both_workers(fleet: Fleet, *_: object) -> None:
    for worker in fleet.workers.values():
        worker.kill9()


def kill_broker(fleet: Fleet, *_: object) -> None:
    fleet.lab.broker.kill9()


def restart_source_libvirtd(fleet: Fleet, _guest: labs.Guest, order: LiveMigration,
                            _random: random.Random) -> None:
    fleet.lab.libvirt(fleet.lab.host(order.source)).restart()


def kill_destination_libvirtd(fleet: Fleet, _guest: labs.Guest, order: LiveMigration,
                              _random: random.Random) -> None:
    fleet.lab.libvirt(fleet.lab.host(order.destination)).kill9()


def kill_destination_qemu(fleet: Fleet, guest: labs.Guest, order: LiveMigration,
                          _random: random.Random) -> None:
    """Only where it is still receiving: a guest that has arrived is not to be killed."""
    destination = fleet.lab.host(order.destination)
    if guest.state(destination) == "paused":
        with contextlib.suppress(labs.LabError):
            destination.kill9(guest.qemu_pid(destination))


def cut_network(fleet: Fleet, *_: object) -> None:
    fleet.lab.cut(fleet.one, fleet.two)


ALL: dict[str, Fault] = {
    fault.__name__: fault for fault in (
        nothing, kill_source_worker, kill_destination_worker, kill_both_workers, kill_broker,
        restart_source_libvirtd, kill_destination_libvirtd, kill_destination_qemu, cut_network)}


def mend(fleet: Fleet) -> None:
    """Everything runs and is connected again."""
    fleet.lab.heal()
    fleet.lab.broker.start()
    for host in (fleet.one, fleet.two):
        fleet.lab.libvirt(host).start()
        if not fleet.workers[host.name].is_running():
            fleet.workers[host.name] = fleet.lab.start_worker(host)
