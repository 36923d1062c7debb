# SPDX-License-Identifier: Apache-2.0
"""An unmodified Nova with a worker beside each compute: anything can be broken, and mended."""

import collections.abc
import contextlib
import dataclasses
import pathlib
import random
import time
import typing as ty

from devstack import gate
from devstack import lab as labs
from devstack.gate import services
from devstack.lab import broker as brokers
from devstack.lab import processes
from devstack.lab import worker as lab_workers
from rbd_worker.migration.journal import Entry, JournalReader, Record
from rbd_worker.model import Role
from tests.chaos.arena import hears
from tests.chaos.rounds import Logs
from tests.gate.scene import Scene

#: For nova.conf of the compute hosts: a guest that dirties 48 MiB for ever takes some
#: seconds to move with these, and arrives; a host that has found its libvirtd again takes
#: guests soon, not after a minute.
COMPUTE: collections.abc.Mapping[str, collections.abc.Mapping[str, object]] = {
    "DEFAULT": {"update_resources_interval": 5},
    "libvirt": {"live_migration_bandwidth": 60, "live_migration_downtime": 2000,
                "live_migration_downtime_steps": 3, "live_migration_downtime_delay": 3}}
#: Audits are the operator's.
_QUICK = {"audit_interval": 0, "audit_min_age": 1, "audit_pause": 1, "nova_cleanup_grace": 5,
          "settle_interval": 5, "unresolved_retry_max": 10, "tap_probe_interval": 5}
_READY_SECONDS = 60.0
#: What a nova-compute logs that has been answered by its libvirtd and by Ceph, every
#: ``update_resources_interval``; and the longest time for it, a start included.
_ANSWERED, _ANSWER_SECONDS = "Final resource view", 20.0


@dataclasses.dataclass(frozen=True)
class Ways:
    """How workers may be set up, drawn from a run's seed.

    :ivar has_record: whether they have credentials for nova-api.
    :ivar has_hook: whether libvirt's hook is installed.
    :ivar gives_up: whether an order that Nova forgot counts as failed after a minute.
    """

    has_record: bool
    has_hook: bool
    gives_up: bool

    @classmethod
    def of(cls, seed: int) -> "Ways":
        choice = random.Random(seed)
        return cls(*(choice.random() < 0.5 for _ in range(3)))

    @property
    def options(self) -> dict[str, object]:
        """Of [rbd_worker]."""
        return {**_QUICK, **({"os_auth_section": "service_user"} if self.has_record else {}),
                **({"prepare_timeout": 60} if self.gives_up else {})}

    def __str__(self) -> str:
        chosen = {"Nova's record": self.has_record, "libvirt's hook": self.has_hook,
                  "a short prepare_timeout": self.gives_up}
        return ", ".join(f"{'with' if has else 'without'} {what}" for what, has in chosen.items())


class NovaArena(Scene):
    """Used by one thread.

    :param ways: how the workers are set up.
    :ivar stuck: hosts whose nova-compute had to be restarted by the last mending.
    """

    def __init__(self, cloud: gate.Cloud, ways: Ways) -> None:
        super().__init__(cloud)
        self._ways = ways
        self._killed: set[str] = set()
        self.stuck: list[str] = []

    def begin(self) -> None:
        """Start both workers and wait until they hear."""
        for host in self.hosts:
            self.workers[host.name] = self.cloud.start_worker(host, **self._ways.options)
            self.workerctl(host, "hook", "install" if self._ways.has_hook else "remove")
            self.lab.libvirt(host).restart()
        self._wait_for_nova()
        self.wait_hearing()

    def end(self) -> None:
        for worker in self.workers.values():
            worker.kill9()

    def other(self, host: labs.Host) -> labs.Host:
        return self.two if host is self.one else self.one

    # -- what faults do ----------------------------------------------------------

    def kill_worker(self, name: str) -> None:
        self._killed.add(name)
        self.workers[name].kill9()

    # -- afterwards --------------------------------------------------------------

    def mend(self, choice: random.Random) -> list[str]:
        """Start what does not run and reconnect what is cut, in any order and not at once.

        :returns: hosts whose worker had ended although nobody killed it.
        """
        ended = [name for name, worker in self.workers.items()
                 if not worker.is_running() and name not in self._killed]
        broken = [part for part, is_well in self._parts() if not is_well()]
        choice.shuffle(broken)
        self.lab.thaw()
        self.cloud.end_fault()
        for part in broken:
            time.sleep(choice.uniform(0, 2))
            part()
        for worker in self.workers.values():
            worker.service.resume()
        self._killed.clear()
        self._restart_stuck()
        self._wait_for_nova()
        self.wait_hearing()
        return ended

    def _parts(self) -> collections.abc.Iterator[
            tuple[ty.Callable[[], object], ty.Callable[[], bool]]]:
        """How each part is started, and whether it runs."""
        lab = self.lab
        yield (lambda: brokers.start_all(lab.brokers),
               lambda: all(each.service.is_running() for each in lab.brokers))
        conductor = services.conductor(lab)
        yield conductor.start, conductor.is_running
        for host in self.hosts:
            libvirtd, compute = lab.libvirt(host), self.cloud.compute(host.name)
            yield libvirtd.start, libvirtd.service.is_running
            yield compute.start, compute.is_running
            yield (lambda host=host: self._start_worker(host),  # type: ignore[misc]
                   lambda host=host: self.workers[host.name].is_running())  # type: ignore[misc]

    def _start_worker(self, host: labs.Host) -> None:
        self.workers[host.name] = lab_workers.start(host)

    def _restart_stuck(self) -> None:
        """As an operator would: now and then one waits for ever on a libvirtd that has ended.

        It tells the conductor that it is up all the same, and answers no call.
        """
        logs = {host.name: Logs([self.cloud.compute_log(host.name)]) for host in self.hosts}
        deadline = time.monotonic() + processes.patience(_ANSWER_SECONDS)
        while self._unanswered(logs) and time.monotonic() < deadline:
            time.sleep(0.5)
        self.stuck = self._unanswered(logs)
        for name in self.stuck:
            self.cloud.compute(name).kill9()
            self.cloud.compute(name).start()

    def _unanswered(self, logs: collections.abc.Mapping[str, Logs]) -> list[str]:
        return [name for name, log in logs.items() if _ANSWERED not in log.since()]

    def _wait_for_nova(self) -> None:
        """Return once each nova-compute has told the conductor that it runs and takes guests."""
        before = {name: each["updated_at"]
                  for name, each in self.cloud.api.compute_services().items()}

        def have_reported() -> bool:
            known = self.cloud.api.compute_services()
            return all((known[name]["state"], known[name]["status"]) == ("up", "enabled")
                       and known[name]["updated_at"] != told for name, told in before.items())

        self.until(have_reported, "that both nova-computes report", _READY_SECONDS,
                   self.cloud.api.compute_services)

    def wait_hearing(self) -> None:
        """Return once both workers' probes come back over Nova's exchange.

        :raises AssertionError: with the end of their logs.
        """
        self.until(lambda: all(map(hears, self.workers.values())), "that both workers hear",
                   _READY_SECONDS)

    # -- what is true --------------------------------------------------------------

    def entries_of_key(self, uuid: str, key: str) -> dict[str, Entry]:
        """By role, the entries of one migration of a server."""
        return {entry.migration.role: entry for host in self.hosts
                for entry in self.entries(host, uuid) if entry.migration.key == key}

    def records(self, uuid: str, key: str, role: Role) -> list[Record]:
        """What the journal says of the steps of one migration's entry."""
        entry = self.entries_of_key(uuid, key).get(role)
        if entry is None:
            return []
        host = self.lab.host(entry.migration.host)
        with contextlib.closing(JournalReader(host.root / "var/lib/nova/rbd-worker")) as reader:
            return reader.records(entry.migration)

    def open_entries(self, uuid: str) -> list[Entry]:
        return [entry for host in self.hosts for entry in self.entries(host, uuid)
                if entry.is_open]

    def trashed(self, host: labs.Host, uuid: str) -> list[pathlib.Path]:
        """What the trash of that host holds of a server, oldest first."""
        return [item for item in self.trash(host) if item.parent.name.startswith(uuid)]
