# SPDX-License-Identifier: Apache-2.0
"""A process with one or more whole workers whose libvirt and Ceph are simulated.

    python -m tests.benchmarks.simulated SETTINGS.json

Broker, journal and files are real, and so is every line of the worker; only
the hypervisor and the images are made up.  Which guest runs where is kept in
one file that all processes map, so that hosts in different processes agree.
Prints ``ready`` when every worker is, ``lost`` where one is not, and ends when
its stdin does.
"""

import dataclasses
import json
import mmap
import os
import pathlib
import subprocess
import sys
import time
import typing as ty

from oslo_config import cfg

from rbd_worker import conf, errors
from rbd_worker import worker as workers
from rbd_worker.host import hypervisor, rbd
from rbd_worker.host.hypervisor import MoveOrder, MoveResult, Progress
from rbd_worker.model import GuestState, RbdImage
from rbd_worker.triggers import broker
from rpcapi import client as rpc_client

_STATES = (GuestState.ABSENT, GuestState.RUNNING, GuestState.INCOMING, GuestState.OUTGOING)
_READY_SECONDS = 90
POOL = "vms"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a process is told.

    :ivar hosts: names of its own workers.
    :ivar fleet: names of all hosts, in the order of ``states``.
    :ivar states: file with one byte for each guest of each host.
    :ivar gate: guests move only while this file exists.
    """

    hosts: list[str]
    fleet: list[str]
    home: str
    url: str
    executor: str
    guests: int
    states: str
    gate: str

    def directory(self, host: str) -> pathlib.Path:
        """``state_path`` of a host."""
        return pathlib.Path(self.home) / host


def uuid_of(number: int) -> str:
    """The UUID of a simulated guest."""
    return f"{number:08x}-5fd1-4a8f-8000-000000000000"


def prepare(settings: Settings) -> None:
    """Lay down what the processes of one fleet share."""
    pathlib.Path(settings.states).write_bytes(bytes(len(settings.fleet) * settings.guests))
    for host in settings.fleet:
        (settings.directory(host) / "instances").mkdir(parents=True)


class States:
    """Which guest is where; one byte each, so that no lock is needed."""

    def __init__(self, settings: Settings) -> None:
        self._guests = settings.guests
        self._fleet = settings.fleet
        with open(settings.states, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    def of(self, host: str, instance: str) -> GuestState:
        return _STATES[self._map[self._at(host, instance)]]

    def put(self, host: str, instance: str, state: GuestState) -> None:
        self._map[self._at(host, instance)] = _STATES.index(state)

    def on(self, host: str) -> dict[str, GuestState]:
        states = {uuid_of(number): self.of(host, uuid_of(number))
                  for number in range(self._guests)}
        return {one: state for one, state in states.items() if state is not GuestState.ABSENT}

    def where(self, instance: str) -> list[str]:
        """Hosts that have a QEMU for the guest."""
        return [host for host in self._fleet
                if self.of(host, instance) is not GuestState.ABSENT]

    def _at(self, host: str, instance: str) -> int:
        return self._fleet.index(host) * self._guests + int(instance[:8], 16)


class _NoConnection:
    """libvirt's connection, without a libvirt."""

    uri = "simulated"

    def ask(self, _question: ty.Callable[[ty.Any], ty.Any]) -> ty.Any:
        return 0

    def follow(self, *_callbacks: ty.Any) -> None:
        return None


class SimulatedHypervisor(hypervisor.Hypervisor):
    """Moves a guest in no time, as soon as the gate is open."""

    def __init__(self, settings: Settings, host: str, states: States) -> None:
        self.connection = ty.cast(ty.Any, _NoConnection())
        self._all = settings
        self._name = host
        self._states = states

    def state(self, instance: str) -> GuestState:
        return self._states.of(self._name, instance)

    def domains(self) -> dict[str, GuestState]:
        return self._states.on(self._name)

    def instances(self) -> frozenset[str]:
        return frozenset(self.domains())

    def has_job(self, instance: str) -> bool:
        return self.state(instance) in (GuestState.INCOMING, GuestState.OUTGOING)

    def images(self, instance: str) -> tuple[RbdImage, ...]:
        return (RbdImage(POOL, f"{instance}_disk"),)

    def move(self, instance: str, order: MoveOrder,
             on_progress: ty.Callable[[Progress], None]) -> MoveResult | None:
        while not os.path.exists(self._all.gate):
            time.sleep(0.01)
        there = self._all.directory(order.destination) / "instances" / instance
        if not there.is_dir():
            raise errors.MoveUnsettled(instance=instance, reason=f"no directory {there}")
        (there / "console.log").write_text("")  # as QEMU does
        self._states.put(order.destination, instance, GuestState.RUNNING)
        self._states.put(self._name, instance, GuestState.ABSENT)
        return MoveResult(downtime_ms=0, total_ms=0, memory_bytes=0)

    def close(self) -> None:
        return None


class SimulatedImages(rbd.ImageStore):
    """Every image is watched from where its guest is."""

    def __init__(self, settings: Settings, host: str, states: States) -> None:
        self._fleet = settings.fleet
        self._name = host
        self._states = states

    def own_addresses(self) -> frozenset[str]:
        return frozenset({self._address(self._name)})

    def watchers(self, image: RbdImage) -> frozenset[str]:
        return frozenset(map(self._address, self._states.where(image.name.split("_")[0])))

    def close(self) -> None:
        return None

    def _address(self, host: str) -> str:
        high, low = divmod(self._fleet.index(host), 250)
        return f"192.0.{high}.{low + 1}"


class Process:
    """A running process of simulated hosts, seen from the benchmark; a context manager."""

    def __init__(self, settings: Settings) -> None:
        path = pathlib.Path(settings.home) / f"{settings.hosts[0]}.json"
        path.write_text(json.dumps(dataclasses.asdict(settings)))
        self._log = path.with_suffix(".log")
        self._hosts = settings.hosts
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.simulated", str(path)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                cwd=pathlib.Path(__file__).parents[2])

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> "Process":
        assert self._process.stdout
        line = self._process.stdout.readline().strip()
        if line != "ready":
            raise RuntimeError(f"the workers of {self._hosts[0]} ... are {line or 'gone'}:\n"
                               f"{self._log.read_text()[-3000:]}")
        return self

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(20)


def main() -> None:
    settings = Settings(**json.loads(pathlib.Path(sys.argv[1]).read_text()))
    workers.raise_descriptor_limit()
    config = _config(settings)
    states = States(settings)
    running = [_worker(settings, host, config, states) for host in settings.hosts]
    for worker in running:
        worker.start()
    deadline = time.monotonic() + _READY_SECONDS
    is_ready = all(worker.wait_ready(max(0.0, deadline - time.monotonic())) for worker in running)
    print("ready" if is_ready else "lost", flush=True)
    sys.stdin.read()
    os._exit(0)


def _config(settings: Settings) -> cfg.ConfigOpts:
    """The one global configuration, since oslo.messaging looks into no other."""
    path = pathlib.Path(settings.home) / f"{settings.hosts[0]}.conf"
    path.write_text(
        f"[DEFAULT]\ntransport_url = {settings.url}\nstate_path = {settings.home}\n"
        f"[libvirt]\nimages_type = rbd\nimages_rbd_pool = {POOL}\nrbd_user = nova\n"
        f"[rbd_worker]\nexecutor = {settings.executor}\nhook_actions =\naudit_interval = 0\n"
        "metrics_listen =\n")
    conf.register(cfg.CONF)
    broker.register(cfg.CONF)
    cfg.CONF(["--config-file", str(path)], project="rbd-worker", default_config_files=[])
    return cfg.CONF


def _worker(settings: Settings, host: str, config: cfg.ConfigOpts,
            states: States) -> workers.Worker:
    home = settings.directory(host)
    own = dataclasses.replace(
        conf.settings(config), host=host, instances_path=str(home / "instances"),
        state_directory=str(home / "worker"))
    return workers.Worker(own, rpc_client.transport_for(config), broker.from_conf(config),
                          hypervisor=SimulatedHypervisor(settings, host, states),
                          images=SimulatedImages(settings, host, states))


def memory_kib(pid: int) -> tuple[float, float]:
    """Resident and proportional memory of a process, in KiB."""
    found: dict[str, float] = {}
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = float(rest.split()[0])
    return found["Rss"], found["Pss"]


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
