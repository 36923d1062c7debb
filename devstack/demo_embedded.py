# SPDX-License-Identifier: Apache-2.0
"""``make demo-embedded``: two workers in one process, no root, no services.

The broker is kombu's in-memory one, libvirt is its own ``test:///`` driver and
Ceph is simulated; the guest's move is a definition that goes from one driver
to the other.  Everything else is the real worker: tap, casts, coordinator,
plans, journal, files, evidence, trash.
"""

import pathlib
import sys
import tempfile
import time
import typing as ty
import uuid

import libvirt
from oslo_config import cfg
from rich.console import Console

from devstack.conductor import Conductor, LiveMigration
from devstack.demo import timeline
from rbd_worker import conf, errors, service
from rbd_worker import worker as workers
from rbd_worker.host import hypervisor, rbd
from rbd_worker.model import GuestState, RbdImage, Role
from rbd_worker.triggers import broker
from rpcapi import client as rpc_client

HOSTS = ("node1", "node2")
URL = "memory://"
_DOMAIN = """\
<domain type='test'><name>instance-1</name><uuid>{uuid}</uuid><memory>65536</memory>
<os><type>hvm</type></os><devices><disk type='network'>
<source protocol='rbd' name='vms/{uuid}_disk'/><target dev='vda'/></disk></devices></domain>"""


class SimulatedHypervisor(hypervisor.Hypervisor):
    """libvirt's test driver, which knows no migration: the definition is carried over."""

    def __init__(self, settings: conf.LibvirtSettings, host: str,
                 fleet: dict[str, "SimulatedHypervisor"]) -> None:
        super().__init__(settings, host, timeout=5)
        self._fleet = fleet
        fleet[host] = self

    def start_guest(self, xml: str) -> None:
        self.connection.ask(lambda libvirtd: libvirtd.defineXML(xml).create())

    def move(self, instance: str, order: hypervisor.MoveOrder,
             on_progress: ty.Callable[[hypervisor.Progress], None],
             ) -> hypervisor.MoveResult | None:
        xml = self.connection.ask(lambda c: c.lookupByUUIDString(instance).XMLDesc())
        time.sleep(0.3)
        self._fleet[order.destination].start_guest(xml)
        self.connection.ask(lambda libvirtd: _drop(libvirtd.lookupByUUIDString(instance)))
        return hypervisor.MoveResult(downtime_ms=0, total_ms=300, memory_bytes=0)


def _drop(domain: libvirt.virDomain) -> None:
    domain.destroy()
    domain.undefine()


class SimulatedImages(rbd.ImageStore):
    """Every image is watched from where its guest runs."""

    def __init__(self, settings: conf.CephSettings, host: str,
                 fleet: dict[str, SimulatedHypervisor]) -> None:
        super().__init__(settings, timeout=5)
        self._host = host
        self._fleet = fleet

    def own_addresses(self) -> frozenset[str]:
        return frozenset({_address(self._host)})

    def watchers(self, image: RbdImage) -> frozenset[str]:
        instance = image.name.removesuffix("_disk")
        return frozenset(_address(host) for host, guests in self._fleet.items()
                         if guests.state(instance) is GuestState.RUNNING)


def _address(host: str) -> str:
    return f"192.0.2.{HOSTS.index(host) + 1}"


def main() -> int:
    console = Console(highlight=False)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rbd-worker-demo-") as folder:
        fleet: dict[str, SimulatedHypervisor] = {}
        both = [_worker(pathlib.Path(folder) / name, name, fleet) for name in HOSTS]
        try:
            with Conductor(URL) as conductor:
                for worker in both:
                    worker.start()
                is_good = all(worker.wait_ready(10) for worker in both) and _there_and_back(
                    both, fleet, conductor, console)
        finally:
            for worker in both:
                worker.stop()
    console.print(f"verdict: {'[green]as it should be' if is_good else '[red]NOT as it should be'}"
                  f"[/] ({time.monotonic() - began:.1f} s)")
    return 0 if is_good else 1


def _worker(home: pathlib.Path, host: str,
            fleet: dict[str, SimulatedHypervisor]) -> workers.Worker:
    (home / "instances").mkdir(parents=True)
    (home / "node.xml").write_text("<node></node>")
    (home / "nova.conf").write_text(
        f"[DEFAULT]\nhost = {host}\nstate_path = {home}\ntransport_url = fake://\n"
        "[libvirt]\nimages_type = rbd\nimages_rbd_pool = vms\nrbd_user = nova\n"
        f"connection_uri = test://{home}/node.xml\n"
        "[rbd_worker]\nexecutor = libvirt\nmetrics_listen =\n")
    cfg.CONF.reset()
    settings = service.load(["--config-file", str(home / "nova.conf")])
    guests = SimulatedHypervisor(settings.libvirt, host, fleet)
    return workers.Worker(settings, rpc_client.transport_for(cfg.CONF),
                          broker.from_conf(cfg.CONF), guests,
                          SimulatedImages(settings.ceph, host, fleet))


def _there_and_back(both: list[workers.Worker], fleet: dict[str, SimulatedHypervisor],
                    conductor: Conductor, console: Console) -> bool:
    instance = str(uuid.uuid4())
    paths = [pathlib.Path(w.settings.instances_path) / instance for w in both]
    paths[0].mkdir()
    (paths[0] / "console.log").write_text("hello from before the first move\n")
    (paths[0] / "disk.info").write_text("{}\n")
    fleet["node1"].start_guest(_DOMAIN.format(uuid=instance))
    for number in (0, 1):
        order = LiveMigration(instance, HOSTS[number], HOSTS[1 - number], number=number + 1)
        if not _moved(order, both, conductor, console):
            return False
    console.print(f"node1: {', '.join(sorted(p.name for p in paths[0].iterdir()))}")
    console.print(f"node2: {'a directory' if paths[1].exists() else 'no directory'}, trash: "
                  f"{len(both[1].coordinator.ports.trash.list())} item")
    return (not paths[1].exists() and fleet["node1"].state(instance) is GuestState.RUNNING
            and "hello" in (paths[0] / "console.log.0").read_text())


def _moved(order: LiveMigration, both: list[workers.Worker], conductor: Conductor,
           console: Console) -> bool:
    began = time.time()
    conductor.live_migrate(order)
    while time.time() < began + 10:
        entries = [(w, w.journal.entry(order.uuid, role)) for w, role in (
            (w, Role.SOURCE if w.settings.host == order.source else Role.DESTINATION)
            for w in both)]
        if all(entry is not None and not entry.is_open for _, entry in entries):
            break
        time.sleep(0.02)
    lines = [line for worker, entry in entries if entry is not None
             for line in timeline.rows(entry, worker.journal.records(entry.migration), began)]
    timeline.show(order, lines, console)
    return all(entry is not None and entry.outcome == "completed" for _, entry in entries)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except errors.Error as e:
        sys.exit(f"demo-embedded: {e.sentence}")
