# SPDX-License-Identifier: Apache-2.0
"""An operator who gives orders at any moment, as ``rbd-workerctl`` carries them out."""

import pathlib
import typing as ty

from rbd_worker import errors
from rbd_worker.host import instances, trash
from rbd_worker.migration import control
from rpcapi import control as contract

if ty.TYPE_CHECKING:
    from tests.simulation.hosts import Host
    from tests.simulation.world import World


class Operator:
    """At one host, about one guest; what cannot be done is told, as the command tells it."""

    def __init__(self, world: "World", host: "Host", instance: str) -> None:
        self._world = world
        self._host = host
        self._instance = instance

    # -- asked of the worker ---------------------------------------------------

    def abort(self) -> None:
        def order(orders: control.Control, key: str) -> None:
            self._world.aborts[self._instance] += 1
            orders.abort(contract.OrderRequest(migration=key))
        self._ask(order)

    def resolve(self) -> None:
        def order(orders: control.Control, key: str) -> None:
            orders.resolve(contract.ResolveRequest(migration=key, outcome="failed", note="why"))
            self._world.resolved.add(self._instance)
        self._ask(order)

    def _ask(self, order: ty.Callable[[control.Control, str], None]) -> None:
        worker = self._host.worker
        if worker is None:
            return
        for task in worker.coordinator.tasks_of(self._instance):
            worker.spawn(lambda key=task.migration.key: self._told(  # type: ignore[misc]
                lambda: order(control.Control(worker.coordinator), key)), "an operator's order")

    # -- done by the command itself ----------------------------------------------

    def restore(self) -> None:
        self._told(lambda: self._with_newest(lambda bin_, item: bin_.restore(item.id)))

    def discard(self) -> None:
        def order(bin_: trash.Trash, item: trash.Item) -> None:
            place = pathlib.Path(self._host.settings.instances_path, ".rbd-worker/trash", item.id)
            self._world.lost |= self._world.markers_in(place)
            bin_.discard(item.id)
        self._told(lambda: self._with_newest(order))

    def _with_newest(self, order: ty.Callable[[trash.Trash, trash.Item], object]) -> None:
        settings = self._host.settings
        bin_ = trash.Trash(instances.of(settings), settings.trash_retention, self._host.clock)
        for item in [i for i in bin_.list() if i.instance == self._instance][:1]:
            order(bin_, item)
        self._world.dates.touched(self._host)

    def _told(self, order: ty.Callable[[], None]) -> None:
        try:
            order()
        except errors.Error as e:
            self._world.tell(f"the operator is told: {e.sentence}")
