# SPDX-License-Identifier: Apache-2.0
"""All open migrations of this host: who is woken when, and by what.

A cast, a peer's call, a libvirt event or a timer never acts by itself; it
wakes the tasks of its instance, and the engine looks at what is true.  No
open migration holds a thread while it waits.  After a restart ``recover``
puts every open journal entry back and wakes it.
"""

import concurrent.futures
import contextlib
import logging
import threading
import time
import typing as ty

from rbd_worker import errors, request_context
from rbd_worker.migration import (
    destination_steps,
    engine,
    rivals,
    rollback_hints,
    source_steps,
    timers,
)
from rbd_worker.migration.journal import Entry
from rbd_worker.migration.task import Ports, Task
from rbd_worker.model import Executor, Migration, Outcome, Phase, Role

LOG = logging.getLogger(__name__)

TaskKey = tuple[str, Role]

#: Seconds that a stop waits for steps in hand; the service manager's limit is longer.
STOP_SECONDS = 15.0
#: Seconds after which a journal that could not be written is tried again, and what failed in a
#: way that is not foreseen.
JOURNAL_SECONDS = 30.0
#: Seconds until a plan for which no thread could be started is woken again.
THREAD_SECONDS = 2.0

#: Most entries that may be open at a time.  Evacuating a host opens some hundred;
#: each costs descriptors here and room in staging at the other end.
MAX_OPEN = 1000


class Coordinator:
    """Thread-safe.

    :param pool, alarms: where plans run and what wakes them later; a
        simulation gives its own, so that it decides what happens when.
    """

    def __init__(self, ports: Ports, pool: concurrent.futures.Executor | None = None,
                 alarms: timers.Timers | None = None) -> None:
        self.ports = ports
        #: Held from the look for a guest's other migrations until a new one is among them.
        self.opening = threading.Lock()
        self._lock = threading.Lock()
        self._tasks: dict[TaskKey, Task] = {}
        self._queued: set[TaskKey] = set()
        self._hints = rollback_hints.RollbackHints(ports.clock)
        self._pool = pool or concurrent.futures.ThreadPoolExecutor(
            ports.settings.workers, thread_name_prefix="plan")
        self._timers = alarms or timers.Timers()
        ports.movers.on_end = self.wake

    # -- life ----------------------------------------------------------------

    def recover(self) -> int:
        """Put every open entry of the journal back to work; how many there were."""
        entries = self.ports.journal.open_entries()
        for entry in entries:
            with request_context.of(entry.migration.request_id):
                LOG.info("%s is picked up again as %s, in %s", entry.migration,
                         entry.migration.role, entry.phase)
            self.ports.told.resumed(entry.migration, entry.opened,
                                    entry.outcome is Outcome.UNRESOLVED)
            self._add(entry)
        for entry in entries:
            self.wake((entry.migration.key, entry.migration.role))
        return len(entries)

    def stop(self, seconds: float = STOP_SECONDS) -> bool:
        """Let the running steps end; open entries stay in the journal as they are.

        :returns: False where a step still waits for a peer after ``seconds``;
            the process may end all the same, the journal knows the step.
        """
        self.ports.shutdown.set()
        self._timers.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        deadline = time.monotonic() + seconds
        is_quiet = True
        for task in self.tasks():
            if task.lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                task.release()
                task.lock.release()
            else:
                is_quiet = False
                LOG.warning("%s is still busy; it goes on after the next start", task.migration)
        return is_quiet

    # -- beginning -----------------------------------------------------------

    def begin(self, migration: Migration, unique_id: str = "") -> Task | None:
        """Journal a new entry and start its plan; durable when this returns.

        :returns: None where this migration or message is known already.
        :raises errors.BadInput: the migration is known here with another guest or other hosts;
            or another one of the instance is open here and the executor is libvirt, where
            nobody else keeps them apart.
        :raises errors.TooManyOpen: as ``check_room``.
        """
        known = self.known(migration)  # or it is refused
        with self.opening:
            others = [t for t in self.tasks_of(migration.instance)
                      if t.migration.key != migration.key and not t.is_closed]
            if others and migration.executor is Executor.LIBVIRT:
                if unique_id and self.ports.journal.has_heard(unique_id):
                    return None
                raise errors.BadInput(
                    what=f"migration {migration.key}",
                    reason=f"migration {others[0].migration.key} of the same guest is still open")
            self.check_room(migration)
            if not self.ports.journal.open(migration, unique_id, rivals.note(others)):
                if known is not None and known.is_open:
                    self._pick_up(known)
                return None
            task = self.adopt(migration)
        for other in others:
            # to the same host: the new one does all that the older one would, should its guest
            # not have begun to move; to another: where the guest goes decides between them
            other.is_superseded |= other.migration.destination == migration.destination
            self.wake(other.key)
        self.wake((migration.key, migration.role))
        return task

    def known(self, migration: Migration) -> Entry | None:
        """The journal's entry of a migration in its role.

        One key is one guest's way from one host to one other, in either role.

        :raises errors.KnownOtherwise: the journal has it with another guest or other hosts.
        """
        entries = self.ports.journal.entries_with(migration.key)
        for entry in entries:
            if (entry.migration.instance, *entry.migration.hosts) != (
                    migration.instance, *migration.hosts):
                raise errors.KnownOtherwise(
                    migration=migration.key, instance=entry.migration.instance,
                    source=entry.migration.source, destination=entry.migration.destination)
        return next((e for e in entries if e.migration.role is migration.role), None)

    def check_room(self, migration: Migration) -> None:
        """Whether one more entry may be opened.

        :raises errors.TooManyOpen: Nova moves the guest without this worker then.
        """
        if len(self.tasks()) >= MAX_OPEN:
            raise errors.TooManyOpen(migration=migration.key, limit=MAX_OPEN)

    def adopt(self, migration: Migration) -> Task:
        """The task of an entry that the journal has; kept only while it is open."""
        with self._lock:
            task = self._tasks.get((migration.key, migration.role))
        if task is not None:
            return task
        entry = self.ports.journal.entry(migration.key, migration.role)
        if entry is None:
            raise errors.BadInput(what=f"migration {migration.key}", reason="it is not known here")
        return self._add(entry) if entry.is_open else Task(entry, self.ports)

    # -- waking --------------------------------------------------------------

    def wake(self, key: TaskKey) -> None:
        """Have a task looked at soon; many wakes before that are one."""
        with self._lock:
            if key not in self._tasks or key in self._queued or self.ports.shutdown.is_set():
                return
            self._queued.add(key)
            try:
                self._pool.submit(self._run_queued, key)
            except RuntimeError as e:  # no thread can be started; or the pool was shut down
                LOG.warning("migration %s is looked at later: %s", key[0], e)
                self._timers.after(THREAD_SECONDS, ("woken", key), lambda: self._wake_anew(key))

    def _wake_anew(self, key: TaskKey) -> None:
        with self._lock:
            self._queued.discard(key)
        self.wake(key)

    def submit(self, action: ty.Callable[[], None]) -> None:
        """Run something that may block, beside the plans."""
        if not self.ports.shutdown.is_set():
            self._pool.submit(action)

    def wake_instance(self, instance: str) -> None:
        for task in self.tasks_of(instance):
            self.wake(task.key)

    def wake_all(self) -> None:
        for task in self.tasks():
            self.wake(task.key)

    @contextlib.contextmanager
    def holding(self, task: Task) -> ty.Iterator[None]:
        """Have a task for oneself; who wanted to look at it meanwhile gets to it afterwards.

        What could not be journaled, or failed in a way that is not foreseen, is looked at
        again, whoever wanted it.  What is logged meanwhile carries the id of its request.
        """
        with task.lock, request_context.of(task.migration.request_id):
            try:
                yield
            except Exception as e:
                if isinstance(e, errors.JournalUnusable) or not isinstance(e, errors.Error):
                    self._timers.after(JOURNAL_SECONDS, task.key, lambda: self.wake(task.key))
                raise
        if task.is_wanted:
            self.wake(task.key)

    def run(self, task: Task) -> None:
        """Run a task now, in the calling thread, after whoever runs it already.

        :raises errors.JournalUnusable: nothing was done.
        """
        key = task.key
        with self.holding(task):
            if self.ports.shutdown.is_set():
                return
            parked = engine.run(task)
            if parked is not None and parked.seconds > 0:  # before anybody else's look sets it
                self._timers.after(parked.seconds, key, lambda: self.wake(key))
        if parked is None:
            self._forget(key)
            self.wake_instance(task.migration.instance)  # others may wait for its end

    # -- requests about open migrations ----------------------------------------

    def abort(self, instance: str, number: int | None = None) -> bool:
        """An abort was asked for: with executor libvirt it is done. False if nothing is open.

        :param number: Nova's id of the migration that is meant, where known.
        """
        for task in self._at_source(instance, number):
            self.abort_task(task)
            return True
        return False

    def abort_task(self, task: Task) -> None:
        """Durable before anything is done, so that a restart does not forget it."""
        with request_context.of(task.migration.request_id):
            task.note("abort_requested")
            task.abort_requested = True
            if not task.is_nova and task.phase is Phase.LIVE:
                self.ports.movers.abort(task.migration)
        self.wake(task.key)

    def resolve(self, task: Task, outcome: Outcome, note: str) -> None:
        """Close an unresolved task on an operator's word; no step runs, nothing is undone.

        :raises errors.BadInput: it is not unresolved.
        :raises errors.NoSpace: the trash has no room for what was staged here, or for files
            that only their open descriptors hold.
        """
        with self.holding(task):
            if task.outcome is not Outcome.UNRESOLVED or task.is_closed:
                raise errors.BadInput(
                    what=f"migration {task.migration.key}",
                    reason="it is not unresolved: it goes on by itself, wait for it or abort it")
            if task.migration.role is Role.DESTINATION:
                destination_steps.ensure_staging_saved(task)
            else:
                source_steps.ensure_files_released(task)
            LOG.warning("%s was unresolved (%s) and is closed as %s by an operator: %s",
                        task.migration, task.reason, outcome, note or "no reason given")
            task.note("resolved_by_operator", outcome=outcome.value, was=task.reason, note=note)
            task.close(outcome, f"resolved by an operator: {note or 'no reason given'}")
        self._forget(task.key)

    def force_complete(self, instance: str, number: int | None = None) -> bool:
        """Executor libvirt: make the move end now. False if nothing is open."""
        for task in self._at_source(instance, number):
            if not task.is_nova and task.phase is Phase.LIVE:
                with request_context.of(task.migration.request_id):
                    self.ports.movers.force_complete(task.migration)
            return True
        return False

    def rolled_back(self, instance: str) -> None:
        """A hint that Nova gave a migration to this host up: open tasks ask both hosts.

        A source hears of it from its destination, which sees what Nova does there.
        Where nothing is open yet the hint is kept.
        """
        tasks = self.tasks_of(instance)
        for task in tasks:
            task.rollback_requested |= task.migration.role is Role.DESTINATION
            self.wake(task.key)
        if tasks:
            self._hints.take(instance)
        else:
            self._hints.keep(instance)

    def checked(self, instance: str) -> None:
        """Another migration of the instance begins: what was given up was an earlier one."""
        self._hints.take(instance)

    def tasks(self) -> list[Task]:
        with self._lock:
            return list(self._tasks.values())

    def tasks_of(self, instance: str) -> list[Task]:
        return [task for task in self.tasks() if task.migration.instance == instance]

    def listed(self, migration: Migration) -> str:
        """Fingerprint of the list of files that this source last sent its peer; empty for none."""
        with self._lock:
            task = self._tasks.get((migration.key, migration.role))
        return "" if task is None else task.listed

    # -- inside --------------------------------------------------------------

    def _at_source(self, instance: str, number: int | None) -> list[Task]:
        return [t for t in self.tasks_of(instance) if t.migration.role is Role.SOURCE
                and (number is None or t.migration.number in (None, number))]

    def _add(self, entry: Entry) -> Task:
        with self._lock:
            key = (entry.migration.key, entry.migration.role)
            task = self._tasks.setdefault(key, Task(entry, self.ports))
            task.others = lambda: [t for t in self.tasks_of(entry.migration.instance)
                                   if t is not task]
            if entry.migration.role is Role.DESTINATION:
                task.rollback_requested |= self._hints.take(entry.migration.instance)
            return task

    def _pick_up(self, entry: Entry) -> None:
        """What is written may not be in memory: it could not be read back then."""
        task = self.adopt(entry.migration)
        self.wake(task.key)

    def _forget(self, key: TaskKey) -> None:
        self._timers.cancel(key)
        with self._lock:
            self._tasks.pop(key, None)
        self.ports.movers.forget(key[0])

    def _run_queued(self, key: TaskKey) -> None:
        with self._lock:
            if key not in self._queued:
                return  # queued twice for want of a thread, and looked at by now
            self._queued.discard(key)
            task = self._tasks.get(key)
        if task is not None:
            with request_context.of(task.migration.request_id):
                self._run_wanted(task)

    def _run_wanted(self, task: Task) -> None:
        key = task.key
        task.is_wanted = True
        if not task.lock.acquire(blocking=False):
            return  # no thread of the pool waits: whoever has the task wakes it again
        try:
            task.is_wanted = False
            self.run(task)
        except errors.JournalUnusable as e:
            LOG.error("%s stands still: %s", task.migration, e.sentence)
        except Exception:
            LOG.exception("%s a step failed in a way that is not foreseen", task.migration)
        finally:
            task.lock.release()
            if task.is_wanted:
                self.wake(key)


