# SPDX-License-Identifier: Apache-2.0
"""What takes long and survives the worker: a row in the journal, a thread that works on it.

The row says for each disk what was about to be done and what was done.  After
a restart every job that has not ended goes on where it was.  What Ceph or
libvirt do not answer is asked again until they do; anything else ends the job
as failed, with the reason.
"""

import dataclasses
import logging
import threading
import typing as ty

from rbd_worker import errors
from rbd_worker.migration.journal import Journal, Work
from rbd_worker.model import RbdImage
from rbd_worker.snapshots.sets import SnapshotSet
from rpcapi import snapshots as contract
from rpcapi.fields import MAX_EXPLANATION

LOG = logging.getLogger(__name__)

_JOB = "snapshot job"
#: Seconds from a question that was not answered to the next.
RETRY_SECONDS = 5.0
#: How long an ended job is remembered, in seconds.
MEMORY_SECONDS = 7 * 86400

DiskState = ty.Literal["todo", "doing", "done", "back"]


@dataclasses.dataclass
class Job:
    """One rollback or copy; changed by the thread that works on it only.

    :ivar states: of each disk of the set.
    :ivar safety: of a rollback, the name of the snapshot before it.
    :ivar pool: of a copy, where to.
    :ivar protected: of a copy, the disks whose snapshot it has protected.
    """

    id: str
    kind: ty.Literal["rollback", "copy"]
    set: SnapshotSet
    at: float
    states: list[DiskState]
    state: ty.Literal["doing", "done", "failed"] = "doing"
    reason: str = ""
    safety: str = ""
    pool: str = ""
    protected: list[RbdImage] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        return f"[instance: {self.set.instance}] {self.kind} {self.id} of {self.set.name}"

    def target(self, image: RbdImage) -> RbdImage:
        """What a copy of ``image`` is called when it is whole."""
        return RbdImage(self.pool, f"{image.name.rpartition('/')[2]}.{self.set.name}")

    def own(self, number: int) -> RbdImage:
        """What it is called before that: a name that only this job can have."""
        return RbdImage(self.pool, f"rbd-worker.copying.{self.id}.{number}")


class Jobs:
    """Thread-safe.

    :param work: does a job to its end, from wherever it is; by its kind.
    """

    def __init__(self, journal: Journal, clock: ty.Callable[[], float],
                 shutdown: threading.Event) -> None:
        self._journal = journal
        self._clock = clock
        self._shutdown = shutdown
        self._lock = threading.Lock()
        self._running: dict[str, Job] = {}
        self._shares: dict[tuple[str, int], float] = {}
        self.work: dict[str, ty.Callable[[Job], None]] = {}

    def write(self, job: Job) -> None:
        """Durable when it returns.

        :raises errors.JournalUnusable: nothing may be done then.
        """
        self._journal.keep_work(Work(job.id, _JOB, job.set.instance, job.state, job.at,
                                     _to_dict(job)))

    def mark(self, job: Job, number: int, state: DiskState) -> None:
        """What is about to be done with a disk, or was done; durable."""
        job.states[number] = state
        self.write(job)

    def begin(self, job: Job, then: ty.Callable[[], None] = lambda: None) -> None:
        """Work on a job that was written, in a thread of its own.

        :param then: called when it has ended, or this worker does.
        """
        with self._lock:
            self._running[job.id] = job
        threading.Thread(target=self._run, args=(job, then), daemon=True,
                         name=f"{job.kind}-{job.id[:8]}").start()

    def open_jobs(self) -> list[Job]:
        """Those that have not ended, by the journal."""
        return [job for job in self._all() if job.state == "doing"]

    def need(self, one: SnapshotSet) -> str:
        """What is under way with a snapshot, so that it has to stay; empty for nothing."""
        for job in self.open_jobs():
            if one.id == job.set.id or (one.instance, one.name) == (job.set.instance, job.safety):
                return f"{job.kind} {job.id}"
        return ""

    def of(self, one: SnapshotSet) -> list[contract.Job]:
        """What was done with a snapshot, oldest first."""
        return [self._told(job) for job in self._all() if job.set.id == one.id]

    def tell(self, id_: str) -> contract.Job | None:
        return next((self._told(job) for job in self._all() if job.id == id_), None)

    def progress(self, job: Job, number: int, share: float) -> None:
        """How far a disk is, for who asks; not worth a write."""
        self._shares[job.id, number] = min(max(share, 0.0), 1.0)

    def pause(self, job: Job, error: errors.Error) -> None:
        """Before the same is tried again; ``reason`` tells of it meanwhile."""
        if job.reason != error.sentence:
            LOG.warning("%s waits: %s", job, error.sentence)
            job.reason = error.sentence
        self._shutdown.wait(RETRY_SECONDS)

    def forget_old(self) -> None:
        """Jobs that ended long ago are not remembered."""
        for job in self._all():
            if job.state != "doing" and self._clock() - job.at > MEMORY_SECONDS:
                self._journal.forget_work(job.id)

    # -- inside --------------------------------------------------------------

    def _all(self) -> list[Job]:
        """Running ones as they are, the others as they were written."""
        with self._lock:
            running = dict(self._running)
        return [running.get(work.id) or job for work in self._journal.works(_JOB)
                if (job := _from_dict(work)) is not None]

    def _run(self, job: Job, then: ty.Callable[[], None]) -> None:
        try:
            self._to_its_end(job)
        except errors.JournalUnusable as e:
            LOG.error("%s stands still until the next start: %s", job, e.sentence)
        except Exception:
            LOG.exception("%s ended in a way that is not foreseen; it goes on after the next "
                          "start", job)
        finally:
            with self._lock:
                self._running.pop(job.id, None)
                for number in range(len(job.states)):
                    self._shares.pop((job.id, number), None)
            then()

    def _to_its_end(self, job: Job) -> None:
        LOG.info("%s goes on: %s", job, ", ".join(job.states))
        while not self._shutdown.is_set():
            try:
                self.work[job.kind](job)
                job.state, job.reason = "done", ""
            except errors.JournalUnusable:
                raise
            except errors.Error as e:
                if may_pass(e):
                    self.pause(job, e)
                    continue
                LOG.error("%s failed: %s", job, e.sentence)
                job.state, job.reason = "failed", e.sentence
            self.write(job)
            LOG.info("%s is %s", job, job.state)
            return

    def _told(self, job: Job) -> contract.Job:
        return contract.Job(
            id=job.id, kind=job.kind, instance=job.set.instance, name=job.set.name,
            state=job.state, reason=job.reason[:MAX_EXPLANATION], safety=job.safety,
            disks=tuple(contract.JobDisk(
                image=str(image), target=str(job.target(image)) if job.pool else "", state=state,
                share=1.0 if state == "done" else self._shares.get((job.id, number), 0.0))
                for number, (image, state) in enumerate(zip(job.set.images, job.states,
                                                            strict=True))))


def may_pass(error: errors.Error) -> bool:
    """Whether the same may succeed later; an image that is missing stays away."""
    if isinstance(error, errors.ImageMissing):
        return False
    return isinstance(error, (errors.Transient, errors.Undecided, errors.JournalUnusable))


def _to_dict(job: Job) -> dict[str, ty.Any]:
    return dataclasses.asdict(job) | {"set": job.set.to_dict()}


def _from_dict(work: Work) -> Job | None:
    try:
        data = dict(work.data)
        one = SnapshotSet.from_dict(data.pop("set"))
        protected = [RbdImage(**image) for image in data.pop("protected")]
        job = Job(**data, set=one, protected=protected)
        if len(job.states) != len(one.images) or job.kind not in ("rollback", "copy"):
            raise ValueError("its disks are not those of its snapshot")
        return job
    except (KeyError, TypeError, ValueError, errors.BadInput) as e:
        LOG.error("a job's row in the journal makes no sense and is left alone: %s", e)
        return None
