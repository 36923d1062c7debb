# SPDX-License-Identifier: Apache-2.0
"""Where an operator's wishes about snapshots arrive; the parts behind it are built here."""

import threading
import typing as ty

from rbd_worker.host.hypervisor import Hypervisor
from rbd_worker.host.rbd import ImageStore
from rbd_worker.host.rbd_snapshots import Snapshots
from rbd_worker.migration.journal import Journal
from rbd_worker.migration.task import Task
from rbd_worker.snapshots.freezer import Freezer
from rbd_worker.snapshots.keeper import Keeper
from rbd_worker.snapshots.ledger import Ledger
from rbd_worker.snapshots.making import Maker
from rbd_worker.snapshots.quiet import Quiet
from rbd_worker.snapshots.removing import Remover
from rbd_worker.snapshots.sets import line
from rbd_worker.snapshots.telling import Teller
from rpcapi import snapshots as contract


class Desk:
    """Called from the RPC server's threads.

    :param freeze_limit: seconds that a guest is held still at most.
    :param tasks_of: the open migrations of an instance on this host.
    :param doubt: why ages mean nothing at the moment; empty where they do.
    """

    def __init__(self, host: str, hypervisor: Hypervisor, images: ImageStore, journal: Journal,
                 freeze_limit: float, tasks_of: ty.Callable[[str], ty.Sequence[Task]],
                 doubt: ty.Callable[[], str], shutdown: threading.Event) -> None:
        ledger, snapshots = Ledger(journal), Snapshots(images)
        self._quiet = Quiet(hypervisor, tasks_of)
        self._remover = Remover(snapshots, ledger)
        freezer = Freezer(ledger, hypervisor, freeze_limit)
        self._maker = Maker(host, hypervisor, snapshots, ledger, freezer, self._remover,
                            self._quiet)
        self._teller = Teller(host, hypervisor, snapshots, ledger)
        self.keeper = Keeper(ledger, freezer, self._remover, self._quiet, doubt, shutdown)

    def create(self, request: contract.CreateRequest) -> contract.CreateReply:
        """:raises errors.Error: it was not taken, and why."""
        made, warnings = self._maker.create(request)
        return contract.CreateReply(snapshot=self._teller.told(made),
                                    warnings=tuple(map(line, warnings)))

    def list(self, request: contract.ListRequest) -> contract.ListReply:
        return self._teller.listed(request.instance)

    def show(self, request: contract.NameRequest) -> contract.Snapshot:
        """:raises errors.SnapshotMissing: there is none of that name."""
        return self._teller.show(request.instance, request.name)

    def delete(self, request: contract.NameRequest) -> contract.DeleteReply:
        """:raises errors.Error: it stays, and why."""
        with self._quiet.alone(request.instance):
            one = self._teller.find(request.instance, request.name)
            self._quiet.state(request.instance)
            self._remover.remove(one)
        return contract.DeleteReply(
            done=f"snapshot {one.name} of {one.instance} is removed from "
                 f"{len(one.images)} disk(s)")
