# SPDX-License-Identifier: Apache-2.0
"""Two workers on a lab where anything can be broken, and mended again.

Beside what a fleet is: each compute host has a small file system of its own
for the instances, so that it can be full; each worker has a clock of its own, so
that it can jump; and workers and conductor know all nodes of
the broker.
"""

import contextlib
import os
import pathlib
import threading

import kombu

from devstack import conductor as wire
from devstack import lab as labs
from devstack.lab import broker as brokers
from tests.chaos.nova import PatientNova
from tests.functional.fleet import Fleet
from tests.functional.nova_standin import DestinationDiskExists

_CLOCK = "run/lab/clock"
_UNDER_CLOCK = ("env", f"CHAOS_CLOCK=/{_CLOCK}",
                f"PYTHONPATH={pathlib.Path(__file__).with_name('clock')}")
_DISK_MIB = 64
#: A guest that dirties 48 MiB for ever takes some seconds to move with these.
_SLOW = {"live_migration_bandwidth": 60, "live_migration_downtime": 2000,
         "live_migration_downtime_steps": 3, "live_migration_downtime_delay": 3}
_READY_SECONDS = 60.0


class Arena(Fleet):
    """Used by one thread; Nova's stand-in has one of its own.

    :param executor: who moves the guests, as the workers' option has it.
    """

    def __init__(self, lab: labs.Lab, conductor: wire.Conductor, executor: str) -> None:
        super().__init__(lab, conductor)
        self.executor = executor
        self._killed: set[str] = set()
        self._moving: threading.Thread | None = None
        for host in (self.one, self.two):
            self.jump(host, 0)
            _mount_disk(host)

    @property
    def is_cluster(self) -> bool:
        return len(self.lab.brokers) > 1

    def begin(self) -> None:
        """Start both workers and wait until they hear."""
        rabbit = {"rabbit_quorum_queue": True} if self.is_cluster else {}
        for host in (self.one, self.two):
            self.lab.write_config(
                host, executor=self.executor, libvirt=_SLOW, rabbit=rabbit,
                nova={"live_migration_retry_count": 5}, settle_interval=5,
                unresolved_retry_max=10, nova_cleanup_grace=5, tap_probe_interval=5)
            self._start(host)
        self.wait_hearing()

    def end(self) -> None:
        for worker in self.workers.values():
            worker.kill9()

    def conduct(self) -> wire.Conductor:
        """A new connection; by it Nova's exchange exists again if it was lost."""
        return wire.Conductor(self.lab.broker_url, durable=self.is_cluster)

    def order_move(self, guest: labs.Guest, source: labs.Host,
                   destination: labs.Host) -> wire.LiveMigration:
        """Send what a conductor sends; where Nova is the executor, let it move the guest."""
        order = self.order(guest, source, destination)
        if self.executor == "nova":
            self._moving = threading.Thread(target=self._by_nova, args=(guest, order))
            self._moving.start()
        else:
            with self.conduct() as conductor:
                conductor.live_migrate(order)
        return order

    def is_nova_done(self) -> bool:
        return self._moving is None or not self._moving.is_alive()

    def _by_nova(self, guest: labs.Guest, order: wire.LiveMigration) -> None:
        """An error means that Nova has rolled back: what is left is for the invariants."""
        errors = (DestinationDiskExists, labs.LabError, kombu.exceptions.OperationalError)
        with contextlib.suppress(*errors), self.conduct() as conductor:
            PatientNova(self.lab, conductor).live_migrate(guest, order)

    # -- what faults do ----------------------------------------------------------

    def kill_worker(self, name: str) -> None:
        self._killed.add(name)
        self.workers[name].kill9()

    def jump(self, host: labs.Host, seconds: int) -> None:
        """Set the wall clock of that host's worker ahead, or back; 0 is the true time."""
        path = host.root / _CLOCK
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(f"{seconds}\n")
        new.rename(path)

    def fill_disk(self, host: labs.Host) -> None:
        """Take every byte of the file system of the instances; the journal has another."""
        with _ballast(host).open("wb") as ballast:
            free = os.fstatvfs(ballast.fileno())
            if free.f_bavail:
                os.posix_fallocate(ballast.fileno(), 0, free.f_bavail * free.f_frsize)

    # -- afterwards --------------------------------------------------------------

    def mend(self) -> list[str]:
        """Everything runs and is connected again, as init systems and operators see to.

        :returns: hosts whose worker had ended although nobody killed it.
        """
        self.lab.thaw()
        brokers.start_all(self.lab.brokers)
        ended = []
        for host in (self.one, self.two):
            self.jump(host, 0)
            _ballast(host).unlink(missing_ok=True)
            self.lab.libvirt(host).start()
            worker = self.workers[host.name]
            if worker.is_running():
                worker.service.resume()
                continue
            if host.name not in self._killed:
                ended.append(host.name)
            self._start(host)
        self._killed.clear()
        return ended

    def wait_hearing(self) -> None:
        """Return once both workers' probes come back over Nova's exchange.

        :raises AssertionError: with the end of their logs.
        """
        with self.conduct():
            self.until(lambda: all(map(hears, self.workers.values())),
                       "that both workers hear", _READY_SECONDS)

    def _start(self, host: labs.Host) -> None:
        self.workers[host.name] = self.lab.start_worker(host, _UNDER_CLOCK)


def hears(worker: labs.Worker) -> bool:
    """Whether its last probe came back over Nova's exchange."""
    told = [line for line in worker.log_text.splitlines() if ".tap_status " in line]
    return bool(told) and "tap: hearing" in told[-1]


def _mount_disk(host: labs.Host) -> None:
    """Among the host's own mounts: it vanishes with the host."""
    if not os.path.ismount(host.nova_instances):
        host.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "disk",
                  "/var/lib/nova/instances"])


def _ballast(host: labs.Host) -> pathlib.Path:
    return host.nova_instances / "ballast"
