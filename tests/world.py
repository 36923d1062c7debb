# SPDX-License-Identifier: Apache-2.0
"""Whole hosts on the fakes: a worker as the service builds it, killed and started at will.

``World`` is a small cloud; ``Host`` is one compute host, whose disk and
libvirt outlive its worker; ``Nova`` behaves as a pair of nova-computes does on
the wire and on the disk.
"""

import dataclasses
import pathlib
import shutil
import typing as ty
import uuid

from oslo_config import cfg

import rpcapi
from devstack import conductor
from rbd_worker import conf, news
from rbd_worker.host import evidence, instances, peers, trash
from rbd_worker.migration import audit, coordinator, desk, journal, records, task, testimony
from rbd_worker.model import GuestState
from rbd_worker.triggers import hearing, peer_server
from rpcapi import payloads
from tests import fakes
from tests import timeline as timelines

#: Content of a guest's directory on its first host, apart from its console.
FILES = {"disk.info": b'{"/disk": "raw"}', "disk.config": b"\x00config" * 1000,
         "keys/secret": b"key material"}


def settings_of(host: str, root: pathlib.Path, executor: str, **changes: ty.Any) -> conf.Settings:
    """Settings as from a nova.conf, with some values replaced."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / "nova.conf"
    path.write_text(f"[DEFAULT]\nhost = {host}\nstate_path = {root}\n"
                    f"[libvirt]\nimages_type = rbd\nrbd_user = nova\n"
                    f"[rbd_worker]\nexecutor = {executor}\n")
    config = cfg.ConfigOpts()
    conf.register(config)
    config(["--config-file", str(path)], project="test-rbd-worker", default_config_files=[])
    return dataclasses.replace(conf.settings(config), **changes)


class Worker:
    """One worker's objects, wired as ``rbd_worker.worker`` does it."""

    def __init__(self, host: "Host") -> None:
        world, timeline = host.world, host.world.timeline
        self.life = life = timelines.Life(host.name)
        self.journal = timelines.WatchedJournal(
            pathlib.Path(host.settings.state_directory), timeline, life, host.told)
        life.kills_at = host.kills_at
        guests = ty.cast(ty.Any, timelines.Mortal(life, host.libvirt))
        images = ty.cast(ty.Any, timelines.Mortal(life, host.ceph))
        others = peers.Peers(ty.cast(ty.Any, timelines.Mortal(
            life, fakes.Client(world.bus, host.name))), host.name)
        directories = instances.of(host.settings)
        self.shutdown = timelines.Shutdown(life, timeline)
        movers = timelines.SteppingMovers(
            guests, host.settings.max_concurrent_live_migrations,
            host.settings.live_migration_retry_count, self.shutdown)
        movers.life, movers.timeline = life, timeline
        self.ports = task.Ports(
            settings=host.settings, journal=self.journal, hypervisor=guests,
            directories=directories,
            trash=trash.Trash(directories, host.settings.trash_retention, timeline),
            peers=others,
            witnesses=evidence.Witnesses(guests, images, directories, others),
            movers=movers, shutdown=self.shutdown,
            records=records.Records(ty.cast(ty.Any, host.nova_api), host.settings),
            nova_consumers=lambda: host.nova_consumers, clock=timeline, told=host.told)
        self.coordinator = coordinator.Coordinator(
            self.ports, ty.cast(ty.Any, timelines.Pool(life, timeline)),
            ty.cast(ty.Any, timelines.Alarms(life, timeline)))
        self.hearing = hearing.Hearing(self.coordinator)
        self.desk = desk.Desk(self.coordinator)
        self.testimonies = testimony.Testimonies(
            host.name, guests, images, directories, self.journal, self.coordinator.listed)
        self.audit = audit.Audit(self.ports)
        self.endpoint = peer_server.Endpoint(
            self.desk, self.testimonies, self.audit, lambda: payloads.Description(
                host=host.name, worker_version="0", rpc_version=rpcapi.VERSION, executor="nova"))


class Host:
    """A compute host: its disk, libvirt and Ceph client; and its worker while one runs."""

    def __init__(self, world: "World", name: str, number: int, root: pathlib.Path,
                 **changes: ty.Any) -> None:
        self.world = world
        self.name = name
        self.settings = settings_of(name, root, world.executor, **changes)
        self.path = pathlib.Path(self.settings.instances_path)
        self.path.mkdir(parents=True, exist_ok=True)
        self.libvirt = fakes.Libvirt(name, self.path, world.timeline, world.fleet)
        self.libvirt.on_event = self._on_event
        world.fleet[name] = self.libvirt
        world.addresses[name] = f"10.0.0.{number}"
        self.ceph = fakes.Ceph(world.addresses[name], world.fleet, world.addresses)
        self.nova_consumers = 0
        self.told = news.News()
        #: Nova's record, where this host's worker has credentials for it.
        self.nova_api: fakes.NovaApi | None = None
        self.kills_at: ty.Callable[[int, str], bool] = lambda number, side: False
        #: Seconds after which a killed worker is started again; None for never.
        self.restarts_after: float | None = 5.0
        self.worker: Worker | None = None
        self._unheard: list[bytes] = []
        self.start()

    # -- the worker's life ---------------------------------------------------

    def start(self) -> Worker:
        worker = Worker(self)
        worker.life.on_end = lambda: self._bury(worker)
        self.worker = worker
        self.world.bus.endpoints[self.name] = (worker.life, worker.endpoint)
        try:
            worker.coordinator.recover()
            unheard, self._unheard = self._unheard, []
            for body in unheard:
                self.hear(body)
        except timelines.Killed:
            pass
        return worker

    def kill(self) -> None:
        """The process is gone, with all that it did not write down."""
        if self.worker is not None:
            self.worker.life.end()

    def restart(self) -> Worker:
        self.kill()
        return self.worker or self.start()

    def hear(self, body: bytes) -> None:
        """A message arrives; it waits in the queue until a worker acknowledges it."""
        if self.worker is None:
            self._unheard.append(body)
            return
        try:
            self.worker.hearing.heard(body)
        except timelines.Killed:
            self._unheard.append(body)

    def cast(self, message: dict[str, ty.Any]) -> None:
        self.hear(conductor.envelope(message))

    def _bury(self, worker: Worker) -> None:
        if self.worker is worker:
            self.worker = None
        worker.journal.close()
        if self.restarts_after is not None:
            self.world.timeline.after(self.restarts_after,
                                      lambda: None if self.worker else ty.cast(None, self.start()))

    def _on_event(self, instance: str) -> None:
        if self.worker is not None:
            self.worker.coordinator.wake_instance(instance)

    # -- what can be seen ----------------------------------------------------

    @property
    def alive(self) -> Worker:
        assert self.worker is not None
        return self.worker

    def directory(self, instance: str) -> pathlib.Path:
        return self.path / instance

    def files(self, instance: str) -> dict[str, bytes]:
        """Path to content of the instance directory; empty where there is none."""
        return files_below(self.directory(instance))

    def has_directory(self, instance: str) -> bool:
        return self.directory(instance).exists()

    def trashed(self) -> list[trash.Item]:
        return trash.Trash(instances.of(self.settings), 0).list()

    def staged(self, instance: str) -> list[str]:
        return sorted(str(p) for p in (self.path / ".rbd-worker/staging" / instance).rglob("*"))

    def entries(self) -> list[journal.Entry]:
        return self.alive.journal.newest_entries()

    def entry(self, key: str) -> journal.Entry:
        """The one entry of a migration on this host."""
        (found,) = [e for e in self.entries() if e.migration.key == key]
        return found

    def records(self, key: str) -> list[tuple[str, str]]:
        return [(record.step, record.state.value)
                for record in self.alive.journal.records(self.entry(key).migration)]


class World:
    """Hosts that share a broker, a Ceph cluster and the time."""

    def __init__(self, root: pathlib.Path, executor: str, hosts: int = 2,
                 **changes: ty.Any) -> None:
        self.root = root
        self.executor = executor
        self.timeline = timelines.Timeline()
        self.bus = fakes.Bus(self.timeline)
        self.fleet: dict[str, fakes.Libvirt] = {}
        self.addresses: dict[str, str] = {}
        #: How often Nova removed a directory while that host had no worker to save anything.
        self.unwatched_removals = 0
        self.hosts = [Host(self, f"node{n:02}", n, root / f"node{n:02}", **changes)
                      for n in range(1, hosts + 1)]

    def close(self) -> None:
        for host in self.hosts:
            host.restarts_after = None
            host.kill()

    def host(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def boot(self, host: Host, instance: str | None = None) -> str:
        """A guest with a directory that has everything; its UUID."""
        instance = instance or str(uuid.uuid4())
        directory = host.directory(instance)
        for name, content in FILES.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(content)
        host.libvirt.qemu_starts(instance)
        host.libvirt.states[instance] = GuestState.RUNNING
        host.libvirt.say(instance, "the guest has booted")
        return instance

    def order(self, instance: str, source: Host, destination: Host,
              number: int = 1) -> conductor.LiveMigration:
        """A migration as the conductor orders it, not sent yet."""
        return conductor.LiveMigration(instance, source.name, destination.name, number=number)

    def migrate(self, instance: str, source: Host, destination: Host, *,
                how: str = "succeed", seconds: float = 3600,
                number: int = 1) -> conductor.LiveMigration:
        """One live migration with this world's executor, and time to come to rest.

        :param how: "succeed", "fail" in the middle, or another of ``Libvirt.next_moves``.
        """
        order = self.order(instance, source, destination, number)
        if self.executor == "nova":
            Nova(self, order, how).begin()
        else:
            source.libvirt.next_moves = [how]
            source.cast(conductor.live_migration(order))
        self.timeline.pass_time(seconds)
        return order


class Nova:
    """Both nova-computes for one migration (Nova 34, ``images_type = rbd``)."""

    def __init__(self, world: World, order: conductor.LiveMigration,
                 how: str = "succeed") -> None:
        self.world = world
        self.order = order
        self.source = world.host(order.source)
        self.destination = world.host(order.destination)
        self.transfer: fakes.Transfer | None = None
        #: "succeed", "fail" (in the middle) or "post error" (the source's directory stays).
        self.how = how
        self.failed = ""

    def begin(self) -> None:
        self.destination.cast(conductor.check_destination(self.order))
        self._after(0.1, self._cast)

    def _cast(self) -> None:
        self.source.cast(conductor.live_migration(self.order))
        self._after(0.05, self._pre)

    def _pre(self) -> None:
        directory = self.destination.directory(self.order.instance)
        if directory.exists():
            self.failed = "DestinationDiskExists"
            self._roll_back()
            return
        directory.mkdir(mode=0o755)
        self._after(0.3, self.move)

    def move(self) -> None:
        """The guest moves, and Nova ends what it has begun."""
        self.transfer = fakes.Transfer(self.order.instance, self.source.libvirt,
                                       self.destination.libvirt)
        self.transfer.begin()
        self._after(2, self._end)

    def _end(self) -> None:
        assert self.transfer is not None
        if self.how == "fail":
            self.transfer.fail()
            self.failed = "the destination's QEMU ended"
            self._roll_back()
            return
        self.transfer.finish()
        self._after(0.2, self._post)

    def _post(self) -> None:
        if self.how != "post error":
            directory = self.source.directory(self.order.instance)
            doomed = directory.with_name(f"{directory.name}_del")
            directory.rename(doomed)
            shutil.rmtree(doomed)
            if self.source.worker is None:
                self.world.unwatched_removals += 1
        self.destination.cast(conductor.post_at_destination(self.order))

    def _roll_back(self) -> None:
        self.destination.cast(conductor.rollback_at_destination(self.order))
        shutil.rmtree(self.destination.directory(self.order.instance), ignore_errors=True)

    def _after(self, seconds: float, action: ty.Callable[[], None]) -> None:
        self.world.timeline.after(seconds, action)


def files_below(directory: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes()
            for path in sorted(directory.rglob("*")) if path.is_file()}
