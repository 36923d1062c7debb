# SPDX-License-Identifier: Apache-2.0
"""Images in another pool that are as all disks were, and depend on nothing.

All disks are cloned at once, which takes moments and keeps the snapshot from
being removed; then each clone is flattened, which takes as long as its data
does, and gets its name.  A copy is never in the pool of Nova's disks: with an
instance Nova removes everything there whose name begins with its UUID.
"""

import dataclasses
import functools
import json
import logging
import uuid

from rbd_worker import errors
from rbd_worker.host.rbd_copies import Copies
from rbd_worker.model import RbdImage
from rbd_worker.snapshots.jobs import Job, Jobs, may_pass
from rbd_worker.snapshots.ledger import Ledger
from rbd_worker.snapshots.removing import Remover
from rbd_worker.snapshots.sets import SnapshotSet

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Copying:
    """Begins copies and does them.

    :ivar nova_pool: where Nova keeps the disks of its guests.
    """

    nova_pool: str
    copies: Copies
    remover: Remover
    ledger: Ledger
    jobs: Jobs

    def planned(self, one: SnapshotSet, pool: str) -> Job:
        """Everything is looked at, and the job is written; nothing was made yet.

        :raises errors.CopyRefused: it cannot be.
        :raises errors.CopyInTheWay: an image has the name of a copy.
        """
        self._check(one, pool)
        job = Job(str(uuid.uuid4()), "copy", one, self.ledger.clock(),
                  ["todo"] * len(one.images), pool=pool)
        targets = [job.target(image) for image in one.images]
        if len(set(targets)) < len(targets):
            raise errors.CopyRefused(name=one.name, instance=one.instance,
                                     reason="two of its disks have the same name in two pools")
        for target in targets:
            if self.copies.look(target) is not None:
                raise errors.CopyInTheWay(image=target)
        self.jobs.write(job)
        return job

    def running(self, one: SnapshotSet, pool: str) -> Job | None:
        """The same copy, where it has begun and not ended."""
        return next((job for job in self.jobs.open_jobs()
                     if (job.kind, job.set.id, job.pool) == ("copy", one.id, pool)), None)

    def work(self, job: Job) -> None:
        """To its end, from wherever it is; what failed leaves nothing.

        :raises errors.Error: why it failed.
        """
        try:
            for number, image in enumerate(job.set.images):
                if job.states[number] == "todo":
                    self._clone(job, number, image)
            for number, image in enumerate(job.set.images):
                if job.states[number] == "doing":
                    self.copies.flatten(
                        job.own(number), functools.partial(self.jobs.progress, job, number))
                    self._name(job, number, image)
        except errors.Error as e:
            if not may_pass(e):
                self._drop(job)
            raise
        self._release(job)

    # -- inside --------------------------------------------------------------

    def _check(self, one: SnapshotSet, pool: str) -> None:
        reason = ""
        missing = [str(image) for image in one.images if not self.remover.is_on(one, image)]
        if pool == self.nova_pool:
            reason = (f"when Nova removes an instance it removes every image of pool {pool} whose "
                      "name begins with its UUID")
        elif not self.copies.has_pool(pool):
            reason = f"there is no pool {pool}"
        elif missing:
            reason = f"{', '.join(missing)} has it no more"
        if reason:
            raise errors.CopyRefused(name=one.name, instance=one.instance, reason=reason)

    def _clone(self, job: Job, number: int, image: RbdImage) -> None:
        mark = json.dumps({"id": job.id, "of": str(image), "snapshot": job.set.name,
                           "instance": job.set.instance, "at": job.set.at, "by": job.set.by},
                          sort_keys=True)
        try:
            self.copies.clone(image, job.set.name, job.own(number), mark)
        except errors.SnapshotInUse:
            if image not in job.protected:
                job.protected.append(image)
                self.jobs.write(job)
            self.copies.protect(image, job.set.name)
            self.copies.clone(image, job.set.name, job.own(number), mark)
        self.jobs.mark(job, number, "doing")

    def _name(self, job: Job, number: int, image: RbdImage) -> None:
        """Whole, under its name; a kill between the two is seen by the mark."""
        target = job.target(image)
        if self.copies.look(job.own(number)) is not None:
            self.copies.map_objects(job.own(number), image)
            self.copies.rename(job.own(number), target)
        else:
            found = self.copies.look(target)
            if found is None or job.id not in found.mark:
                raise errors.CopyRefused(
                    name=job.set.name, instance=job.set.instance,
                    reason=f"{job.own(number)} was removed by somebody else")
        self.jobs.mark(job, number, "done")

    def _drop(self, job: Job) -> None:
        """What has no name yet is removed; whole copies stay."""
        for number in range(len(job.states)):
            self.copies.remove(job.own(number))
        self._release(job)

    def _release(self, job: Job) -> None:
        """The snapshot may be removed again."""
        for image in job.protected:
            try:
                self.copies.unprotect(image, job.set.name)
            except errors.ImageMissing:
                LOG.info("%s %s is gone", job, image)
