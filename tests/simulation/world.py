# SPDX-License-Identifier: Apache-2.0
"""The cloud of one schedule, and what is true in it, whatever any worker believes."""

import collections
import dataclasses
import math
import os
import pathlib
import random
import typing as ty
import uuid

import oslo_messaging

from devstack import conductor
from rbd_worker.model import Executor, GuestState, Role
from rpcapi import payloads
from tests.simulation import bus, operators, power, schedule
from tests.simulation.hosts import Host, Worker
from tests.simulation.nova import Nova
from tests.simulation.schedule import Schedule
from tests.simulation.scheduler import Life, Scheduler


@dataclasses.dataclass(frozen=True)
class Breach:
    """A broken promise: which invariant, and what was seen."""

    invariant: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.sentence}"


@dataclasses.dataclass(frozen=True)
class Taken:
    """Nova removed a directory: what was in it, and which worker held it open, if any."""

    instance: str
    markers: frozenset[str]
    held_by: Life | None


class World:
    """Built from a schedule; ``start`` puts everything that is planned on its way.

    :param root: an empty directory.
    :param story: what happens is written here, for a reader.
    """

    def __init__(self, played: Schedule, root: pathlib.Path,
                 story: list[str] | None = None) -> None:
        self.schedule, self.cloud, self.root = played, played.cloud, root
        self._story = story
        rng = random.Random(f"{played.seed} world")
        is_disordered = bool(played.of(schedule.Disorder))
        self.scheduler = Scheduler(random.Random(f"{played.seed} turns")
                                   if is_disordered else None)
        self.randomness = random.Random(f"{played.seed} names")
        self.life = Life("the world")
        self.workers: dict[Life, Host] = {}
        self.is_looking = False
        #: Looking after what is not flushed costs a tenth of a schedule: only where power fails.
        self.may_lose_power = any(kill.is_power for kill in played.of(schedule.Kill))
        self.breaches: list[Breach] = []
        self.dates = Dates(self)
        self.scheduler.on_advance = self.dates.time_passed
        self.bus = bus.Bus(self, {m.number: m.how for m in played.of(schedule.CallMishap)},
                           {m.number: m.how for m in played.of(schedule.CastMishap)},
                           random.Random(f"{played.seed} delays") if is_disordered else None)
        self.hosts = [Host(self, number) for number in range(self.cloud.hosts)]
        self.guests = [str(uuid.UUID(int=rng.getrandbits(128), version=4))
                       for _ in range(self.cloud.guests)]
        #: Every line that a guest wrote: instance and a text found nowhere else.
        self.lines: list[tuple[str, str]] = []
        #: The same for the content of files; and what was purged after its retention.
        self.contents: list[tuple[str, str]] = []
        self.taken: list[Taken] = []
        self.lost: set[str] = set()
        #: Items of the trash by their paths: when a worker put them there.
        self.trashed: dict[str, float] = {}
        self.unflushed = power.unflushed()
        #: Guests of which an operator closed an entry.
        self.resolved: set[str] = set()
        #: Guests that ended with the power of their host.
        self.dead: set[str] = set()
        self.ends: dict[str, str] = {}
        #: Hosts and guests of which an earlier time has left a definition there.
        self.definitions: set[tuple[str, str]] = set()
        #: Key of the last migration that was ordered of each guest.
        self.newest_order: dict[str, str] = {}
        #: Keys of all that were ordered; what was forged is not among them.
        self.orders: set[str] = set()
        self.migrating: set[str] = set()
        self.moves: collections.Counter[str] = collections.Counter()
        self.aborts: collections.Counter[str] = collections.Counter()
        self.killed_after: set[tuple[Executor, Role, str, str]] = set()
        self.last_kill = -math.inf
        self.disk_exists = 0
        self.plans_left = 0
        self._ids = 0
        self._record_kills = played.of(schedule.KillAfterRecord)

    # -- what everyone may ask ---------------------------------------------------

    def host(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def find_host(self, name: str) -> Host | None:
        return next((host for host in self.hosts if host.name == name), None)

    def tell(self, sentence: str) -> None:
        if self._story is not None:
            self._story.append(f"{self.scheduler.now:9.3f}  {sentence}")

    def breach(self, invariant: str, sentence: str) -> None:
        self.tell(f"BROKEN {invariant}: {sentence}")
        self.breaches.append(Breach(invariant, sentence))

    def holder(self, instance: str) -> Host | None:
        """The host that runs or defines the guest, by what is true."""
        found = [h for h in self.hosts if instance in h.libvirt.states]
        active = [h for h in found if h.libvirt.states[instance] is not GuestState.SHUTOFF]
        return (active or found)[0] if 1 in (len(active), len(found)) else None

    def unique_id(self) -> str:
        self._ids += 1
        return f"{self._ids:032x}"

    # -- the beginning -------------------------------------------------------------

    def start(self) -> None:
        for number, instance in enumerate(self.guests):
            self._boot(self.hosts[schedule.home(number, self.cloud)], instance)
        for leftover in self.schedule.of(schedule.Leftover):
            self._leave(self.hosts[leftover.host], self.guests[leftover.guest],
                        is_defined=leftover.is_defined)
        for happening in self.schedule.happenings:
            self._plan(happening)

    def _boot(self, host: Host, instance: str) -> None:
        for name in self.cloud.files:
            self._write(host, instance, name)
        host.libvirt.qemu_starts(instance)
        host.libvirt.states[instance] = GuestState.RUNNING
        host.libvirt.say(instance, "I have booted")
        self.dates.set(host, instance, -100_000.0)

    def _leave(self, host: Host, instance: str, *, is_defined: bool) -> None:
        if not self.cloud.is_shared and not os.path.exists(host.directory(instance)):
            if is_defined:
                self.definitions.add((host.name, instance))
                host.libvirt.states[instance] = GuestState.SHUTOFF
            self._write(host, instance, "disk.info")
            self.dates.set(host, instance, -100_000.0)

    def _write(self, host: Host, instance: str, name: str) -> None:
        path = f"{host.directory(instance)}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        marker = f"<{name} of {instance} on {host.name}>"
        with open(path, "wb", buffering=0) as file:
            file.write(marker.encode())
        self.contents.append((instance, marker))

    def _plan(self, happening: schedule.Happening) -> None:
        def at(seconds: float, action: ty.Callable[[], None]) -> None:
            self.plans_left += 1

            def begin() -> None:
                self.plans_left -= 1
                self.tell(f"-- {happening}")
                action()
            self.scheduler.after(seconds, begin)
        match happening:
            case schedule.Move():
                at(happening.at, lambda: self._order(happening))
            case schedule.Kill(what="time"):
                at(happening.number,
                   lambda: self.hosts[happening.host].kill(happening.outage,
                                                           is_power=happening.is_power))
            case schedule.Outage():
                at(happening.at, lambda: self._set_away(happening, True))
                at(happening.at + happening.seconds, lambda: self._set_away(happening, False))
            case schedule.ClockSetBack():
                at(happening.at, lambda: self._set_back(happening))
            case schedule.GuestDies():
                at(happening.at, lambda: self._die(self.guests[happening.guest]))
            case schedule.Forgery():
                at(happening.at, lambda: self._forge(happening))
            case schedule.Audit():
                at(happening.at, lambda: self._audit(self.hosts[happening.host]))
            case schedule.Order():
                at(happening.at, lambda: self._obey(happening))

    # -- what happens --------------------------------------------------------------

    def _order(self, move: schedule.Move) -> None:
        """By whoever has the record of the guest: Nova, or an operator."""
        instance = self.guests[move.guest]
        source = next((h for h in self.hosts
                       if h.libvirt.states.get(instance) is GuestState.RUNNING), None)
        if source is None or instance in self.migrating:
            self.tell("Nova does not accept that: the guest does not run, or is being moved")
            return
        destination = self.hosts[(source.number + move.hop) % len(self.hosts)]
        order = self._new_order(instance, source, destination)
        self.moves[instance] += 1
        self.newest_order[instance] = order.uuid
        self.orders.add(order.uuid)
        if self.cloud.executor is Executor.NOVA:
            self.migrating.add(instance)
            nova = Nova(self, move, order)
            nova.task = self.scheduler.spawn(self.life, nova.run, "Nova")
            return
        self.ends[instance] = move.end
        self.bus.nova_says(source, conductor.live_migration(order))
        if move.end == "abort":
            self.aborts[instance] += 1
            self.scheduler.after(4, lambda: self.bus.nova_says(source, conductor.abort(order)))
            self.scheduler.after(600, lambda: self.bus.nova_says(source, conductor.abort(order)))

    def _new_order(self, instance: str, source: Host,
                   destination: Host) -> conductor.LiveMigration:
        number = sum(self.moves.values()) + 1
        key = str(uuid.UUID(int=self.randomness.getrandbits(128), version=4))
        return conductor.LiveMigration(instance, source.name, destination.name, uuid=key,
                                       number=number, request_id=f"req-{key}")

    def _set_away(self, outage: schedule.Outage, away: bool) -> None:
        host = self.hosts[outage.host]
        match outage.what:
            case "libvirt":
                host.libvirt.is_down = away
                if not away and host.worker is not None:
                    worker = host.worker
                    worker.spawn(worker.coordinator.wake_all, "libvirt is back")
            case "ceph":
                host.ceph_is_down = away
            case "disk":
                host.disk_is_full = away
            case "network":
                (self.bus.cut_off.add if away else self.bus.cut_off.discard)(host.name)

    def _set_back(self, change: schedule.ClockSetBack) -> None:
        self.hosts[change.host].clock_offset -= change.by

    def _die(self, instance: str) -> None:
        for host in self.hosts:
            if host.libvirt.states.get(instance) in (GuestState.RUNNING, GuestState.OUTGOING):
                host.libvirt.crash(instance)
                return

    def _audit(self, host: Host) -> None:
        if host.worker is not None:
            host.worker.spawn(host.worker.run_audit, "an operator's audit")

    def _obey(self, order: schedule.Order) -> None:
        operator = operators.Operator(self, self.hosts[order.host], self.guests[order.guest])
        getattr(operator, order.what)()

    def _forge(self, forgery: schedule.Forgery) -> None:
        host, instance = self.hosts[forgery.host], self.guests[forgery.guest]
        other = self.hosts[(forgery.host + 1) % len(self.hosts)]
        order = self._new_order(instance, host, other)
        arriving = dataclasses.replace(order, source=other.name, destination=host.name)
        match forgery.method:
            case "live_migration":
                # with executor libvirt such an order is one like any other: it moves the guest
                if self.cloud.executor is Executor.NOVA:
                    self.bus.nova_says(host, conductor.live_migration(order))
            case "check":
                self.bus.nova_says(host, conductor.check_destination(arriving))
            case "post":
                self.bus.nova_says(host, conductor.post_at_destination(arriving))
            case "rollback":
                self.bus.nova_says(host, conductor.rollback_at_destination(arriving))
            case "abort":
                another = dataclasses.replace(order, number=10_000)
                self.bus.nova_says(host, conductor.abort(another))
            case method:
                self._forge_call(method, host, other, arriving)

    def _forge_call(self, method: str, host: Host, other: Host,
                    order: conductor.LiveMigration) -> None:
        """In the name of the other host, about whatever migration is open here."""
        worker = host.worker
        if worker is None:
            return
        keys = [t.migration.key for t in worker.coordinator.tasks_of(order.instance)]
        key = keys[0] if keys else order.uuid
        common: dict[str, ty.Any] = {
            "migration": key, "instance": order.instance, "source": other.name,
            "destination": host.name, "executor": self.cloud.executor.value}
        root = payloads.FileEntry(path=".", kind="directory", mode=0o755, uid=0, gid=0,
                                  mtime_ns=0)
        calls: dict[str, tuple[str, ty.Callable[[], ty.Any]]] = {
            "rollback call": ("rollback_live_migration",
                              lambda: payloads.RollbackRequest(**common)),
            "finish call": ("post_live_migration", lambda: payloads.FinishRequest(
                probe=payloads.PathProbe(), root=root, **common)),
            "holding": ("holding", lambda: payloads.HoldingReport(
                host=other.name, token="0" * 32, instances=(order.instance,))),
        }
        name, request = calls[method]
        wire = request().to_wire()

        def act() -> None:
            try:
                getattr(worker.endpoint, name)({}, request=wire)
            except oslo_messaging.ExpectedException as e:
                self.tell(f"the forged call is answered: {e.exc_info[1]}")
        worker.spawn(act, f"a forged {name}")

    # -- what is watched while it happens ------------------------------------------------

    def recorded(self, host: Host, migration: ty.Any, records: ty.Sequence[ty.Any]) -> None:
        """A worker has written journal records."""
        for step, state, data in records:
            self.tell(f"{host.name} as {migration.role} records {step} {state} {data or ''}")
            for kill in self._record_kills:
                if (kill.role, kill.step, kill.state) == (migration.role, step, state):
                    self._record_kills.remove(kill)
                    self.killed_after.add((self.cloud.executor, kill.role, step, state))
                    host.die(kill.outage)

    def removal(self, host: Host, instance: str, item: str) -> None:
        """A worker is about to rename an instance directory into the trash: is that right?"""
        self.tell(f"the worker of {host.name} takes the directory of {instance[:4]} away")
        self.trashed[item] = self.scheduler.now
        state = host.libvirt.states.get(instance)
        if state is not None:
            self.breach("removal", f"the directory of {instance[:4]} was taken from {host.name}, "
                                   f"whose libvirt says {state}")
        elif instance in host.libvirt.lingering:
            self.breach("removal", f"the directory of {instance[:4]} was taken from {host.name}, "
                                   f"where its QEMU has not ended")
        elif self.cloud.is_shared:
            self.breach("removal", f"the shared directory of {instance[:4]} was taken away")
        elif not any(instance in other.libvirt.states for other in self.hosts):
            self.breach("removal", f"the directory of {instance[:4]} was taken from {host.name} "
                                   f"although no host has the guest")

    def forget_refused(self) -> None:
        """From now on only what a disk took is there."""
        for host in self.hosts:
            self.unflushed[host.name].forget_refused(str(host.path))

    def purge(self, host: Host, path: str) -> None:
        """A worker is about to remove a trash item for good."""
        self.tell(f"the worker of {host.name} purges {path}")
        since = self.trashed.get(path)
        if since is None:
            self.breach("bytes", f"{path} was purged, which nobody has proven")
        elif self.scheduler.now - since < self.cloud.retention:
            self.breach("bytes", f"{path} was purged within its retention")
        self.lost |= self.markers_in(pathlib.Path(path))

    def nova_removes(self, host: Host, instance: str) -> None:
        markers = self.markers_in(host.path / instance)
        holders = [] if host.worker is None else [
            t for t in host.worker.coordinator.tasks_of(instance) if t.files is not None]
        held_by = host.worker.life if host.worker is not None and holders else None
        self.tell(f"Nova removes the directory of {instance[:4]} on {host.name}"
                  f"{'' if held_by else ', whose files nobody holds'}")
        self.taken.append(Taken(instance, markers, held_by))
        if held_by is None:
            self.lost |= markers

    def markers_in(self, directory: pathlib.Path) -> frozenset[str]:
        inside = "".join(_texts(directory))
        return frozenset(m for _, m in self.lines + self.contents if m in inside)

    def qemu_empties(self, log: str) -> None:
        """A console log stood where QEMU starts.

        On a shared path, or in a directory that Nova did not look at, nobody
        can prevent that; elsewhere a worker had to.
        """
        if self.cloud.is_shared or self.cloud.executor is Executor.NOVA:
            text = pathlib.Path(log).read_text()
            self.lost |= {marker for _, marker in self.lines if marker in text}

    def lost_with(self, worker: Worker) -> None:
        """A worker dies: what only its open files still had, after Nova's removal, is gone."""
        held = {task.migration.instance for task in worker.coordinator.tasks()}
        self.lost.update(*(taken.markers for taken in self.taken
                           if taken.held_by is worker.life and taken.instance in held))


class Dates:
    """When each instance directory was last changed, in virtual seconds.

    The kernel's change times are of real time, in which whole hours of a
    schedule are one tick.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._moment = 0.0
        self._dirty: dict[str, Host] = {}
        self._known: dict[tuple[str, str], tuple[ty.Any, float]] = {}

    def touched(self, host: Host) -> None:
        """Something below its instances_path may have been changed just now."""
        self._dirty[host.name] = host

    def set(self, host: Host, instance: str, at: float) -> None:
        self._known[host.name, instance] = (_look(host.directory(instance)), at)

    def changed(self, host: Host, instance: str) -> float:
        self._world.is_looking = True  # on the worker's turn, but not in its name
        try:
            seen = _look(host.directory(instance))
        finally:
            self._world.is_looking = False
        known = self._known.get((host.name, instance))
        if known is None or known[0] != seen:
            self._known[host.name, instance] = known = (seen, self._world.scheduler.now)
        return known[1]

    def time_passed(self) -> None:
        moment, self._moment = self._moment, self._world.scheduler.now
        if self._dirty:
            hosts = self._world.hosts if self._world.cloud.is_shared else self._dirty.values()
            for host in list(hosts):
                for instance in self._world.guests:
                    seen = _look(host.directory(instance))
                    known = self._known.get((host.name, instance))
                    if seen is not None and (known is None or known[0] != seen):
                        self._known[host.name, instance] = (seen, moment)
            self._dirty.clear()


def _look(path: str) -> ty.Any:
    """What makes one state of a directory another: its change time is too coarse for that."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mode, status.st_ctime_ns, tuple(sorted(os.listdir(path)))


def _texts(directory: pathlib.Path) -> ty.Iterator[str]:
    for path in directory.rglob("*"):
        if path.is_file():
            yield path.read_text(errors="replace")
