# SPDX-License-Identifier: Apache-2.0
"""Where an operator's wishes about snapshots arrive; the parts behind it are built here."""

import contextlib
import threading
import typing as ty

from rbd_worker import conf, errors
from rbd_worker.host.hypervisor import Hypervisor
from rbd_worker.host.rbd import ImageStore
from rbd_worker.host.rbd_copies import Copies
from rbd_worker.host.rbd_snapshots import Snapshots
from rbd_worker.migration.journal import Journal
from rbd_worker.migration.task import Task
from rbd_worker.snapshots.before_migration import BeforeMigration, Begun
from rbd_worker.snapshots.copying import Copying
from rbd_worker.snapshots.freezer import Freezer
from rbd_worker.snapshots.jobs import Job, Jobs
from rbd_worker.snapshots.keeper import Keeper
from rbd_worker.snapshots.ledger import Ledger
from rbd_worker.snapshots.making import Maker
from rbd_worker.snapshots.quiet import Quiet
from rbd_worker.snapshots.removing import Remover
from rbd_worker.snapshots.rolling_back import Rollback
from rbd_worker.snapshots.sets import line
from rbd_worker.snapshots.telling import Teller
from rpcapi import snapshots as contract


class Desk:
    """Called from the RPC server's threads.

    :param tasks_of: the open migrations of an instance on this host.
    :param doubt: why ages mean nothing at the moment; empty where they do.
    """

    def __init__(self, settings: conf.Settings, hypervisor: Hypervisor, images: ImageStore,
                 journal: Journal, tasks_of: ty.Callable[[str], ty.Sequence[Task]],
                 doubt: ty.Callable[[], str], shutdown: threading.Event) -> None:
        ledger, snapshots = Ledger(journal), Snapshots(images)
        self._host = settings.host
        self._quiet = Quiet(hypervisor, tasks_of)
        self._jobs = Jobs(journal, ledger.clock, shutdown)
        self._remover = Remover(snapshots, ledger, self._jobs)
        self._freezer = freezer = Freezer(ledger, hypervisor, settings.snapshot_freeze_limit)
        self._maker = Maker(self._host, hypervisor, snapshots, ledger, freezer, self._remover,
                            self._quiet)
        self._teller = Teller(self._host, hypervisor, snapshots, ledger, self._jobs)
        self._rollback = Rollback(self._maker, snapshots, self._remover, self._jobs)
        self._copying = Copying(settings.ceph.pool, Copies(images), self._remover, ledger,
                                self._jobs)
        self._jobs.work = {"rollback": self._rollback.work, "copy": self._copying.work}
        self._before_migrations = BeforeMigration(
            self._maker, self._remover, ledger, self._quiet, journal,
            is_on=settings.snapshot_before_migration)
        self.keeper = Keeper(ledger, freezer, self._remover, self._quiet, self._jobs,
                             self._before_migrations, doubt, shutdown)

    def start(self) -> None:
        """Go on with what an earlier run left, before anybody can ask for more.

        :raises errors.JournalUnusable: it cannot be read.
        """
        for job in self._jobs.open_jobs():
            with contextlib.ExitStack() as stack:
                if job.kind == "rollback":
                    stack.enter_context(self._quiet.alone(job.set.instance))
                self._jobs.begin(job, stack.pop_all().close)
        self.keeper.start()

    def stop(self) -> None:
        """No guest stays frozen; the rest is in the journal.

        :raises errors.JournalUnusable: it cannot be read.
        """
        self._freezer.stop()

    def begun(self, instance: str, migration: str, destination: str) -> None:
        """A migration away from here was journaled; returns at once."""
        self._before_migrations.begun(Begun(instance, migration, destination))

    def create(self, request: contract.CreateRequest) -> contract.CreateReply:
        """:raises errors.Error: it was not taken, and why."""
        made, warnings = self._maker.create(request)
        return contract.CreateReply(snapshot=self._teller.told(made),
                                    warnings=tuple(map(line, warnings)))

    def list(self, request: contract.ListRequest) -> contract.ListReply:
        """:raises errors.Error: libvirt, Ceph or the journal does not answer."""
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

    def rollback(self, request: contract.RollbackRequest) -> contract.Job:
        """Begin it; nobody else gets at the instance's disks before its end.

        :raises errors.Error: nothing was changed, and why.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._quiet.alone(request.instance))
            job = self._rollback.planned(self._teller.find(request.instance, request.name))
            self._jobs.begin(job, stack.pop_all().close)
        return self._told(job)

    def copy(self, request: contract.CopyRequest) -> contract.Job:
        """Begin it, or tell of the same one that is under way.

        :raises errors.Error: nothing was made, and why.
        """
        with self._quiet.alone(request.instance):
            self._quiet.state(request.instance)
            one = self._teller.find(request.instance, request.name)
            job = self._copying.running(one, request.pool)
            if job is None:
                job = self._copying.planned(one, request.pool)
                self._jobs.begin(job)
        return self._told(job)

    def job(self, request: contract.JobRequest) -> contract.Job:
        """:raises errors.JobUnknown: it never was here, or long ago."""
        told = self._jobs.tell(request.job)
        if told is None:
            raise errors.JobUnknown(host=self._host, job=request.job)
        return told

    def _told(self, job: Job) -> contract.Job:
        return self.job(contract.JobRequest(job=job.id))
