# SPDX-License-Identifier: Apache-2.0
"""All disks of a guest that is off are as they were at a snapshot, or as they were before.

A snapshot of what is lost is taken first.  If one disk cannot be rolled back,
the others return to that; where that fails too, the job says of each disk what
is on it.  Nobody may have a disk open: libvirt here says that the guest is off,
and Ceph that no client watches any of its images, right before each of them.
"""

import dataclasses
import datetime
import logging
import typing as ty
import uuid

from rbd_worker import errors
from rbd_worker.host.rbd_snapshots import Snapshots
from rbd_worker.model import GuestState, RbdImage
from rbd_worker.snapshots.jobs import Job, Jobs, may_pass
from rbd_worker.snapshots.making import Maker
from rbd_worker.snapshots.removing import Remover
from rbd_worker.snapshots.sets import SnapshotSet
from rpcapi import snapshots as contract

LOG = logging.getLogger(__name__)

#: Seconds that the snapshot before a rollback is kept.
SAFETY_SECONDS = 7 * 86400


@dataclasses.dataclass(frozen=True)
class Rollback:
    """Begins rollbacks and does them; its callers see to it that one thread has the instance."""

    maker: Maker
    snapshots: Snapshots
    remover: Remover
    jobs: Jobs

    def planned(self, one: SnapshotSet) -> Job:
        """Everything is looked at, what is there now is kept, and the job is written.

        :raises errors.RollbackRefused: nothing was changed.
        :raises errors.InstanceBusy: it moves.
        """
        self._check_set(one)
        self._check_off(one)
        for image in one.images:
            watchers = self._watchers(image)
            if watchers:
                raise errors.RollbackRefused(instance=one.instance,
                                             reason=f"{image} is open at {watchers}")
        now = self.maker.ledger.clock()
        moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
        safety, _ = self.maker.take(contract.CreateRequest(
            instance=one.instance, name=f"before-rollback-{moment:%Y%m%dT%H%M%S}",
            by="rbd-worker", note=f"before the rollback to {one.name}",
            expires_in=SAFETY_SECONDS, freeze="never"))
        job = Job(str(uuid.uuid4()), "rollback", one, now, ["todo"] * len(one.images),
                  safety=safety.name)
        self.jobs.write(job)
        return job

    def work(self, job: Job) -> None:
        """To its end, from wherever it is.

        :raises errors.RollbackRefused: no disk was changed, or each is as before it.
        :raises errors.RollbackIncomplete: some were.
        """
        try:
            self._check_off(job.set)
            for number, image in enumerate(job.set.images):
                if job.states[number] != "done":
                    self._check_unwatched(job.set, image)
                    self.jobs.mark(job, number, "doing")
                    self.snapshots.roll_back(image, job.set.name)
                    self.jobs.mark(job, number, "done")
        except errors.Error as e:
            if may_pass(e):
                raise  # it goes on here when that is over
            self._back(job, e)

    # -- inside --------------------------------------------------------------

    def _back(self, job: Job, cause: errors.Error) -> ty.NoReturn:
        """Every disk that was touched returns to the safety snapshot.

        :raises errors.RollbackRefused: they did.
        :raises errors.RollbackIncomplete: not all of them.
        """
        LOG.error("%s cannot go on, its disks return to %s: %s", job, job.safety, cause.sentence)
        try:
            for number, image in enumerate(job.set.images):
                if job.states[number] in ("doing", "done"):
                    self._check_off(job.set)
                    self._check_unwatched(job.set, image)
                    self.snapshots.roll_back(image, job.safety)
                    self.jobs.mark(job, number, "back")
        except errors.Error as e:
            if may_pass(e):
                raise
            LOG.error("%s a disk does not return: %s", job, e.sentence)
            raise errors.RollbackIncomplete(
                instance=job.set.instance, name=job.set.name, reason=cause,
                states=_states(job), safety=job.safety) from cause
        raise errors.RollbackRefused(
            instance=job.set.instance,
            reason=f"{cause}; every disk is as it was before") from cause

    def _check_set(self, one: SnapshotSet) -> None:
        """The snapshot is whole, and its disks are those of the guest.

        A disk that was detached since may be another guest's by now.
        """
        attached = self.maker.hypervisor.images(one.instance)
        for image in one.images:
            if image not in attached:
                raise errors.RollbackRefused(instance=one.instance,
                                             reason=f"{image} is none of its disks any more")
            if not self.remover.is_on(one, image) or not self.snapshots.find(image, one.name):
                raise errors.RollbackRefused(
                    instance=one.instance,
                    reason=f"{image} has no snapshot {one.name} of this set")
        later = [str(image) for image in attached if image not in one.images]
        if later:
            raise errors.RollbackRefused(
                instance=one.instance,
                reason=f"{', '.join(later)} was attached later and would stay as it is")

    def _check_off(self, one: SnapshotSet) -> None:
        state = self.maker.quiet.state(one.instance)
        if state is not GuestState.SHUTOFF:
            raise errors.RollbackRefused(
                instance=one.instance,
                reason=f"libvirt on {self.maker.host} says that it is {state}")

    def _check_unwatched(self, one: SnapshotSet, image: RbdImage) -> None:
        """Once it has begun it waits: a worker that was killed seems to watch a while longer.

        :raises errors.InstanceBusy: somebody has the image open.
        """
        watchers = self._watchers(image)
        if watchers:
            raise errors.InstanceBusy(instance=one.instance,
                                      reason=f"{image} is open at {watchers}")

    def _watchers(self, image: RbdImage) -> str:
        return ", ".join(sorted(self.snapshots.watchers(image)))


def _states(job: Job) -> str:
    words = {"todo": "as before", "back": "as before", "doing": "partly rolled back",
             "done": f"as at {job.set.name}"}
    return ", ".join(f"{image} is {words[state]}"
                     for image, state in zip(job.set.images, job.states, strict=True))
