# SPDX-License-Identifier: Apache-2.0
"""Threads that move guests through libvirt, one for each move (executor libvirt).

``migrateToURI3`` blocks until the move is over; a thread of its own keeps it
away from everything else.  What it raises is never the outcome: the plan asks
both hosts afterwards.  Only an order that libvirt did not begin, with the
guest still here, is repeated.
"""

import logging
import threading
import typing as ty

from rbd_worker import errors, request_context, retries
from rbd_worker.host.hypervisor import Hypervisor, MoveOrder, Progress
from rbd_worker.model import GuestState, Migration, Role

LOG = logging.getLogger(__name__)

#: Seconds until a move that could not be followed is adopted again.
AGAIN_SECONDS = 2.0


class Movers:
    """Thread-safe.

    :param limit: ``max_concurrent_live_migrations`` (0: no limit); further
        moves wait for a slot.
    :param retry_count: ``live_migration_retry_count``.
    """

    def __init__(self, hypervisor: Hypervisor, limit: int, retry_count: int,
                 shutdown: threading.Event) -> None:
        self._hypervisor = hypervisor
        self._slots = threading.Semaphore(limit) if limit else None
        self._retry_count = retry_count
        self._shutdown = shutdown
        self._lock = threading.Lock()
        self._moving: dict[str, threading.Thread] = {}
        self._ends: dict[str, dict[str, ty.Any]] = {}
        self._progress: dict[str, Progress] = {}
        self._aborted: set[str] = set()
        #: Called with a task's key when a move has ended; set by the coordinator.
        self.on_end: ty.Callable[[tuple[str, Role]], None] = lambda key: None

    def start(self, migration: Migration, order: MoveOrder) -> None:
        """Begin to move a guest, if that is not being done already."""
        self._begin(migration, lambda: self._run(migration, order))

    def adopt(self, migration: Migration) -> None:
        """Look after a move that runs since before this worker was started, if nobody does.

        It takes no slot: it has begun already.
        """
        self._begin(migration, lambda: self._follow(migration))

    def is_moving(self, key: str) -> bool:
        with self._lock:
            return key in self._moving

    def end_of(self, key: str) -> dict[str, ty.Any] | None:
        """What libvirt said at the end (JSON types), None before it or after a restart."""
        with self._lock:
            return self._ends.get(key)

    def progress_of(self, key: str) -> Progress | None:
        with self._lock:
            return self._progress.get(key)

    def forget(self, key: str) -> None:
        with self._lock:
            self._ends.pop(key, None)
            self._progress.pop(key, None)
            self._aborted.discard(key)

    def abort(self, migration: Migration) -> None:
        """End the move at its next safe point; harmless if there is none."""
        with self._lock:
            self._aborted.add(migration.key)
        self._end(migration)

    def force_complete(self, migration: Migration) -> None:
        try:
            self._hypervisor.force_complete(migration.instance)
        except errors.Error as e:
            LOG.warning("%s cannot be forced to complete now: %s", migration, e.sentence)

    def _begin(self, migration: Migration, action: ty.Callable[[], None]) -> None:
        """A thread for it; where none can be started, nobody is moving it."""
        with self._lock:
            if migration.key in self._moving:
                return
            thread = threading.Thread(target=action, daemon=True,
                                      name=f"move-{migration.instance[:8]}")
            self._moving[migration.key] = thread
        try:
            thread.start()
        except RuntimeError:
            with self._lock:
                del self._moving[migration.key]
            raise

    def _end(self, migration: Migration) -> None:
        try:
            self._hypervisor.abort(migration.instance)
        except errors.Error as e:
            LOG.warning("%s cannot be aborted now: %s", migration, e.sentence)

    def _run(self, migration: Migration, order: MoveOrder) -> None:
        with request_context.of(migration.request_id):
            end = self._end_of_move(migration, order)
        with self._lock:
            self._moving.pop(migration.key, None)
            self._ends[migration.key] = end
        self.on_end((migration.key, migration.role))

    def _end_of_move(self, migration: Migration, order: MoveOrder) -> dict[str, ty.Any]:
        try:
            return self._moved(migration, order)
        except errors.Error as e:
            LOG.warning("%s %s", migration, e.sentence)
            return {"error": e.sentence}
        except Exception as e:
            LOG.exception("%s the move ended in a way that is not foreseen", migration)
            return {"error": f"internal error {type(e).__name__}"}

    def _follow(self, migration: Migration) -> None:
        """An adopted move has an end as any other, unless libvirt cannot be asked for it."""
        with request_context.of(migration.request_id):
            end = self._end_of_adopted(migration)
        if end is None:
            self._shutdown.wait(AGAIN_SECONDS)
        with self._lock:
            self._moving.pop(migration.key, None)
            if end is not None:  # why its order ended earlier stays told
                self._ends[migration.key] = self._ends.get(migration.key, {}) | end
        self.on_end((migration.key, migration.role))

    def _end_of_adopted(self, migration: Migration) -> dict[str, ty.Any] | None:
        try:
            said = self._hypervisor.follow(migration.instance,
                                           lambda p: self._keep(migration, p))
            return {"error": said} if said else {"adopted": True}
        except errors.Error as e:
            LOG.warning("%s %s", migration, e.sentence)
        except Exception:
            LOG.exception("%s the move is not watched any more", migration)
        return None

    def _moved(self, migration: Migration, order: MoveOrder) -> dict[str, ty.Any]:
        if self._slots is None:
            return self._attempts(migration, order)
        while not self._slots.acquire(timeout=1):
            self._check_wanted(migration)
            if self._shutdown.is_set():
                raise errors.MoveInterrupted(instance=migration.instance, reason="shutdown")
        try:
            return self._attempts(migration, order)
        finally:
            self._slots.release()

    def _attempts(self, migration: Migration, order: MoveOrder) -> dict[str, ty.Any]:
        retrying = retries.each_second(self._retry_count, self._shutdown)
        result = retrying(self._attempt, migration, order)
        return {"downtime_ms": result.downtime_ms, "total_ms": result.total_ms,
                "memory_bytes": result.memory_bytes} if result is not None else {}

    def _attempt(self, migration: Migration, order: MoveOrder) -> ty.Any:
        self._check_wanted(migration)
        try:
            return self._hypervisor.move(migration.instance, order,
                                         lambda p: self._keep(migration, p))
        except errors.Transient:
            if self._hypervisor.state(migration.instance) is GuestState.RUNNING:
                raise
            return None  # it is on its way or gone: asking both hosts will tell

    def _check_wanted(self, migration: Migration) -> None:
        if migration.key in self._aborted:
            raise errors.MoveRefused(instance=migration.instance, reason="it was aborted", fix="")

    def _keep(self, migration: Migration, progress: Progress) -> None:
        with self._lock:
            self._progress[migration.key] = progress
        if migration.key in self._aborted:  # asked for before libvirt had a job to end
            self._end(migration)
