# SPDX-License-Identifier: Apache-2.0
"""A compute host: its disk, libvirt and Ceph client outlive its worker, which comes and goes."""

import collections
import contextlib
import copy
import functools
import logging
import os
import pathlib
import random
import tempfile
import typing as ty

import rpcapi
from rbd_worker import conf, errors
from rbd_worker.host import clock_guard, evidence, instances, mounted, peers, trash
from rbd_worker.migration import (
    arrival,
    audit,
    coordinator,
    desk,
    janitor,
    mover,
    records,
    task,
    testimony,
)
from rbd_worker.migration.journal import Entry
from rbd_worker.model import Migration
from rbd_worker.triggers import hearing, peer_server
from rpcapi import payloads
from tests.simulation import bus, journals, parts, power, scheduler
from tests.simulation.schedule import Cloud, Failing, Kill
from tests.simulation.scheduler import Killed, Life
from tests.world import settings_of

if ty.TYPE_CHECKING:
    from tests.simulation.world import World

LOG = logging.getLogger(__name__)

#: Virtual seconds; shorter than the defaults only where these would cost turns without end.
_SETTINGS = {"audit_min_age": 900, "audit_interval": 1200, "audit_pause": 30,
             "nova_cleanup_grace": 60, "settle_interval": 30, "unresolved_retry_max": 300,
             "prepare_timeout": 900, "live_migration_retry_count": 6}
#: When the janitor begins: most schedules are over before, those that take long have it.
CLEAN_AFTER = 300.0
#: How long a series of failing calls lasts at most.
FAILING_SECONDS = 200.0
ROOT = "/a/root"


class Worker:
    """One worker's objects, wired as ``rbd_worker.worker`` does it."""

    def __init__(self, host: "Host") -> None:
        world = host.world
        self.host = host
        self.life = life = Life(host.name)
        world.workers[life] = host
        self.journal = journals.Journal(self)
        guests = ty.cast(ty.Any, parts.Hypervisor(host))
        images = ty.cast(ty.Any, parts.Images(host))
        others = Peers(ty.cast(ty.Any, bus.Client(world.bus, host)), host.name)
        directories = Directories(host, mounted.Marker(
            host.settings.instances_path, host.name, self.journal))
        self.shutdown = scheduler.Shutdown(life, world.scheduler)
        self.ports = task.Ports(
            settings=host.settings, journal=self.journal, hypervisor=guests,
            directories=directories,
            trash=trash.Trash(directories, host.settings.trash_retention, host.clock),
            peers=others,
            witnesses=evidence.Witnesses(guests, images, directories, others),
            movers=Movers(self, guests), records=records.Records(None, host.settings),
            shutdown=self.shutdown,
            nova_consumers=lambda: 0, clock=host.clock)
        self.coordinator = Coordinator(self)
        self.hearing = hearing.Hearing(self.coordinator)
        self.janitor = janitor.Janitor(self.ports, clock_guard.ClockGuard(
            host.settings.state_directory, clock_guard.Clocks(
                host.clock, lambda: world.scheduler.now, lambda: "the one boot")))
        self.audit = audit.Audit(self.ports)
        self.audit._lock = ty.cast(ty.Any, scheduler.Lock(world.scheduler))
        self.arrivals = arrival.Arrivals(
            host.settings, directories, ty.cast(ty.Any, parts.Secrets()),
            self.coordinator.tasks_of, self.journal.refuse)
        self.endpoint = peer_server.Endpoint(
            desk.Desk(self.coordinator),
            testimony.Testimonies(host.name, guests, images, directories, self.journal,
                                  self.coordinator.listed),
            self.audit, lambda: payloads.Description(
                host=host.name, worker_version="0", rpc_version=rpcapi.VERSION,
                executor=host.settings.executor.value))

    def start(self) -> None:
        """In a task of its own: ``rbd_worker.worker`` in the same order."""
        self.coordinator.recover()
        self.spawn(self._tap, "tap")
        self.spawn(self._audit_again, "audit")
        self.spawn(self._clean, "janitor")

    def spawn(self, action: ty.Callable[[], ty.Any], name: str, *,
              is_short: bool = False) -> scheduler.Task:
        return self.host.world.scheduler.spawn(self.life, action, name, is_short=is_short)

    def _tap(self) -> None:
        """Acknowledges what it has heard; the rest stays in the queue."""
        queue = self.host.unheard
        self.host.tap = self.host.world.scheduler.current
        while True:
            if not queue:
                self.host.world.scheduler.wait()
                continue
            try:
                self.hearing.heard(queue[0])
                del queue[0]
            except errors.JournalUnusable:
                self.host.world.scheduler.wait(1)

    def _audit_again(self) -> None:
        self.shutdown.wait(1)
        while not self.shutdown.is_set():
            self.run_audit()
            self.shutdown.wait(self.host.settings.audit_interval)

    def run_audit(self) -> None:
        with contextlib.suppress(errors.Error):
            self.audit.run(act=True)

    def _clean(self) -> None:
        self.shutdown.wait(CLEAN_AFTER)
        while not self.shutdown.is_set():
            self.janitor.clean()
            self.shutdown.wait(janitor.PAUSE)


class Host:
    """One of the cloud's hosts."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number
        self.name = f"node{number:02}"
        self.address = f"10.0.0.{number + 1}"
        self.settings = _settings(world.cloud, self.name, world.root)
        self.path = pathlib.Path(self.settings.instances_path)
        self._base = self.settings.instances_path
        os.makedirs(self._base, exist_ok=True)
        self.libvirt = parts.Libvirt(self)
        self.ceph_is_down = self.disk_is_full = False
        self.clock_offset = 0.0
        self.worker: Worker | None = None
        self.unheard: list[bytes] = []
        #: Keys of the migrations that messages in it ordered, heard or not.
        self.ordered: list[str] = []
        self.tap: scheduler.Task | None = None
        #: How often its workers did what, by the words of ``schedule.Kill``.
        self.counts: collections.Counter[str] = collections.Counter()
        self._began: dict[Failing, float] = {}
        mine = [h for h in world.schedule.of(Kill) + world.schedule.of(Failing)
                if h.host == number]
        self._kills = {(k.what, k.number): k for k in mine if isinstance(k, Kill)}
        self._failing = [f for f in mine if isinstance(f, Failing)]
        #: Of the journal, where it is in memory.
        self.database = journals.Database(self.name)
        self.start()

    def directory(self, instance: str) -> str:
        return f"{self._base}/{instance}"

    def clock(self) -> float:
        return self.world.scheduler.now + self.clock_offset + EPOCH

    # -- the worker's life ---------------------------------------------------

    def start(self) -> None:
        if self.worker is not None:
            return
        with contextlib.suppress(Killed, errors.JournalUnusable):
            self.worker = worker = Worker(self)
            worker.life.on_end = lambda: self._bury(worker)
            self.world.tell(f"the worker of {self.name} starts")
            worker.spawn(worker.start, "start", is_short=True)
        if self.worker is None:
            self.world.scheduler.after(5, self.start)

    def kill(self, outage: float | None, *, is_power: bool = False) -> None:
        """The process is gone; None where nobody starts it again."""
        if self.worker is not None:
            self.world.tell(f"the worker of {self.name} is killed")
            self.world.last_kill = self.world.scheduler.now
            if is_power and not self.world.cloud.is_shared:
                self._without_power(self.worker)
            if outage is not None:
                self.world.scheduler.after(outage, self.start)
            self.worker.life.end()

    def _without_power(self, worker: Worker) -> None:
        rng = random.Random(f"{self.world.schedule.seed} power")
        self.world.is_looking, before = True, self.world.is_looking
        try:
            journal_left = power.JournalOnDisk(self.settings.state_directory, worker.journal, rng)
            lost = self.world.unflushed[self.name].take_away(rng, self._base)
        finally:
            self.world.is_looking = before
        self.world.tell(f"{self.name} has no power; lost are {lost or 'no names'}")
        self.libvirt.without_power()
        self.world.dates.touched(self)
        self.world.scheduler.after(0.001, journal_left.lay)

    def _bury(self, worker: Worker) -> None:
        self.worker = self.tap = None
        self.world.lost_with(worker)

        def let_go() -> None:  # not at once: the kill may have come inside of one of these
            for each in worker.coordinator.tasks():
                each.release()
            worker.journal.close()
        self.world.scheduler.after(0, let_go)

    def queue(self, body: bytes) -> None:
        """A message is in the worker's queue: from now on it may not be lost."""
        self.unheard.append(body)
        if self.tap is not None:
            self.tap.ready()

    def libvirt_event(self, instance: str) -> None:
        if self.worker is not None and not self.libvirt.is_down:
            worker = self.worker
            worker.spawn(lambda: worker.coordinator.wake_instance(instance), "libvirt's event",
                         is_short=True)

    def ask_hook(self, instance: str) -> None:
        """libvirt's hook at ``migrate begin``: waits for its time limit at most."""
        worker = self.worker
        if not self.world.cloud.has_hook or worker is None:
            return
        waiting = self.world.scheduler.current
        is_answered: list[bool] = []

        def answer() -> None:
            xml = _XML.format(instance=instance, path=self.path).encode()
            worker.arrivals.answer(xml, lambda: True)
            is_answered.append(True)
            if waiting is not None:
                waiting.ready()
        worker.spawn(answer, "hook")
        self.world.scheduler.wait(self.settings.hook_timeout)

    # -- what goes wrong -------------------------------------------------------

    def strikes(self, what: str) -> bool:
        """Count something that the worker does; True where it fails.

        :raises Killed: it was the last thing that the worker did.
        """
        self.counts[what] += 1
        number = self.counts[what]
        kill = self._kills.pop((what, number), None) if self._kills else None
        if kill is not None:
            self.die(kill.outage, is_power=kill.is_power)
        return bool(self._failing) and any(
            self._is_failing(f, number) for f in self._failing if f.what == what)

    def _is_failing(self, failing: Failing, number: int) -> bool:
        """A series of failures ends after some time, however few calls there are."""
        if not failing.number <= number < failing.number + failing.count:
            return False
        began = self._began.setdefault(failing, self.world.scheduler.now)
        return self.world.scheduler.now < began + FAILING_SECONDS

    def die(self, outage: float, *, is_power: bool = False) -> ty.NoReturn:
        self.kill(outage, is_power=is_power)
        raise Killed(self.name)

    def life_check(self) -> None:
        task = self.world.scheduler.current
        if task is not None:
            task.life.check()

    def file_call(self, event: str, *, makes: bool) -> None:
        if self.strikes("file"):
            code = next(f.code for f in self._failing if f.what == "file")
            self.world.tell(f"{event} fails on {self.name}")
            raise OSError(code, os.strerror(code))
        if makes and self.disk_is_full:
            raise OSError(28, os.strerror(28))


class Coordinator(coordinator.Coordinator):
    """The real one; its pool, timers and the locks of its tasks are the scheduler's."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        super().__init__(worker.ports, ty.cast(ty.Any, Pool(worker)),
                         ty.cast(ty.Any, Alarms(worker)))

    def _add(self, entry: Entry) -> task.Task:
        added = super()._add(entry)
        if not isinstance(added.lock, scheduler.Lock):
            added.lock = ty.cast(ty.Any, scheduler.Lock(self._worker.host.world.scheduler))
        return added


class Pool:
    """``[rbd_worker] workers`` plans at the same time; the others queue."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._left = worker.host.settings.workers
        self._queue: list[ty.Callable[[], ty.Any]] = []

    def submit(self, action: ty.Callable[..., ty.Any], *args: ty.Any) -> None:
        self._queue.append(functools.partial(action, *args))
        if self._left:
            self._left -= 1
            self._worker.spawn(self._work, "plan")

    def _work(self) -> None:
        while self._queue:
            self._queue.pop(0)()
        self._left += 1


class Peers(peers.Peers):
    """The real ones; each question is a call, for a shared one waits beside the scheduler."""

    def testify(self, host: str, instance: str,
                probe: payloads.PathProbe | None = None) -> payloads.Testimony:
        return self.testify_all(host, {instance: probe})[instance]


class Alarms:
    """The worker's timers in virtual time."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._current: dict[ty.Hashable, object] = {}

    def after(self, seconds: float, key: ty.Hashable, action: ty.Callable[[], None]) -> None:
        mark = object()
        self._current[key] = mark

        def ring() -> None:
            if self._worker.life.is_alive and self._current.get(key) is mark:
                del self._current[key]
                action()
        self._worker.host.world.scheduler.after(seconds, ring)

    def cancel(self, key: ty.Hashable) -> None:
        self._current.pop(key, None)


class Movers(mover.Movers):
    """Moves in tasks instead of threads."""

    def __init__(self, worker: Worker, guests: ty.Any) -> None:
        settings = worker.host.settings
        super().__init__(guests, settings.max_concurrent_live_migrations,
                         settings.live_migration_retry_count, worker.shutdown)
        self._worker = worker
        if settings.max_concurrent_live_migrations:
            self._slots = ty.cast(ty.Any, scheduler.Slots(
                worker.host.world.scheduler, settings.max_concurrent_live_migrations))

    def _begin(self, migration: Migration, action: ty.Callable[[], None]) -> None:
        with self._lock:
            if migration.key not in self._moving:
                self._moving[migration.key] = ty.cast(
                    ty.Any, self._worker.spawn(action, "mover"))


class Directories(instances.Instances):
    """The real ones; when a directory was changed is told in virtual time."""

    def __init__(self, host: Host, marker: mounted.Marker) -> None:
        real = instances.of(host.settings)
        super().__init__(real.path, real.limits, marker.check)
        self._host = host

    def pin(self, instance: str) -> instances.PinnedDirectory | None:
        directory = super().pin(instance)
        if directory is not None:
            directory.changed = (self._host.world.dates.changed(self._host, instance)
                                 + self._host.clock_offset + EPOCH)
        return directory


EPOCH = 1_700_000_000.0
_XML = ("<domain type='kvm'><name>instance</name><uuid>{instance}</uuid><devices>"
        "<console type='pty'><log file='{path}/{instance}/console.log'/></console>"
        "</devices></domain>")


@functools.lru_cache
def _parsed(executor: str) -> conf.Settings:
    with tempfile.TemporaryDirectory() as place:
        return settings_of("host", pathlib.Path(place), executor, **_SETTINGS)


def _settings(cloud: Cloud, name: str, root: pathlib.Path) -> conf.Settings:
    settings = copy.copy(_parsed(cloud.executor.value))
    vars(settings).update(  # dataclasses.replace() takes a hundredth of a whole schedule
        host=name, instances_path=f"{root}/{'shared' if cloud.is_shared else name}/instances",
        state_directory=f"{root}/{name}/state", workers=cloud.workers,
        max_concurrent_live_migrations=cloud.limit, console_history_files=cloud.history_files,
        trash_retention=cloud.retention)
    return settings
