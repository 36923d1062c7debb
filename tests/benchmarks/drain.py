# SPDX-License-Identifier: Apache-2.0
"""500 migrations at once between two workers: rate, fairness, memory.

Each worker is a process of its own, with executor libvirt, so that every step
of both plans is the worker's own.  Broker, journals and files are real; a
simulated hypervisor moves each guest in no time.  For the memory the guests
are held back until every migration is open on both hosts.
"""

import contextlib
import pathlib
import tempfile
import time
import typing as ty

from devstack import conductor as wire
from rbd_worker.migration import journal as journals
from rbd_worker.model import GuestState, Outcome, Role
from tests.benchmarks import simulated
from tests.benchmarks.bench import Bench
from tests.benchmarks.measure import Series
from tests.benchmarks.results import Goal, Result, Table

ROUNDS = 3
MIGRATIONS = 500
#: Moved before anything is measured, so that all code and connections are there.
WARM = 20
CONSOLE_BYTES = 64 << 10
HOSTS = ["drain1", "drain2"]
SIDES = ("at the source", "at the destination")
_SECONDS = 120


def run(bench: Bench) -> Result:
    url = bench.lab.broker_url
    with tempfile.TemporaryDirectory(prefix="rbdw-bench-drain-", dir="/var/tmp") as name:
        home = pathlib.Path(name)
        guests = WARM + MIGRATIONS * (ROUNDS + 1)
        settings = simulated.Settings(
            hosts=[], fleet=HOSTS, home=name, url=url, executor="libvirt", guests=guests,
            states=str(home / "states"), gate=str(home / "gate"))
        simulated.prepare(settings)
        with contextlib.ExitStack() as ends:
            conductor = ends.enter_context(wire.Conductor(url))
            drain = _Drain(settings, conductor)
            both = [ends.enter_context(simulated.Process(
                simulated.Settings(**vars(settings) | {"hosts": [host]}))) for host in HOSTS]
            for one in both:
                one.wait_ready()
            with bench.progress("drain", ROUNDS + 2) as step:
                drain.through(range(WARM))
                step()
                memory = drain.memory(range(WARM, WARM + MIGRATIONS), both)
                step()
                waits, cpu = [], [Series(name) for name in SIDES]
                for number in range(1, ROUNDS + 1):
                    begin = WARM + MIGRATIONS * number
                    used = [simulated.cpu_seconds(one.pid) for one in both]
                    waits.append(drain.through(range(begin, begin + MIGRATIONS)))
                    for one, series, before in zip(both, cpu, used, strict=True):
                        series.values.append(
                            (simulated.cpu_seconds(one.pid) - before) / MIGRATIONS * 1000)
                    step()
    return _result(memory, waits, cpu)


def _result(memory: list[Series], waits: list[list[float]], cpu: list[Series]) -> Result:
    rate = Series("rbd-worker", [MIGRATIONS / max(one) for one in waits])
    every = Series("of one migration", sorted(wait for one in waits for wait in one))
    fairness = Series("longest / median", [
        max(one) / Series("", one).median for one in waits])
    return Result("drain", [
        Table(f"{MIGRATIONS} migrations at once, end to end", "1/s", [rate]),
        Table("from the cast to the end on both hosts", "s", [every]),
        Table("longest wait", "medians", [fairness]),
        Table("CPU of one migration", "ms", cpu),
        Table("memory for each open migration", "KiB", memory)], [
        Goal("migrations a second", rate.median, 40, at_least=True),
        Goal("KiB for each open one, the larger of both hosts",
             max(one.median for one in memory), 100),
        Goal("longest wait in medians", fairness.median, 3)])


class _Drain:
    def __init__(self, settings: simulated.Settings, conductor: wire.Conductor) -> None:
        self._settings = settings
        self._conductor = conductor
        self._states = simulated.States(settings)
        self._gate = pathlib.Path(settings.gate)

    def through(self, numbers: range) -> list[float]:
        """Migrate all of them at once; the seconds that each one took."""
        self._gate.touch()
        orders = self._ordered(numbers)
        return self._ended(orders)

    def memory(self, numbers: range, both: list[simulated.Process]) -> list[Series]:
        """KiB that each host needs for one open migration while all are open."""
        before = [simulated.memory_kib(one.pid)[0] for one in both]
        self._gate.unlink()
        orders = self._ordered(numbers)
        self._wait(lambda: all(len(self._open(host)) == len(orders) for host in HOSTS)
                   and all(e.phase == "live_migration" for e in self._open(HOSTS[0])),
                   "500 open migrations")
        time.sleep(1)
        after = [simulated.memory_kib(one.pid)[0] for one in both]
        self._gate.touch()
        self._ended(orders)
        return [Series(name, [(end - begin) / len(orders)]) for name, begin, end in zip(
            SIDES, before, after, strict=True)]

    def _ordered(self, numbers: range) -> dict[str, float]:
        """Publish the casts; each migration's key and when it was published."""
        orders = []
        for number in numbers:
            instance = simulated.uuid_of(number)
            self._furnish(self._settings.directory(HOSTS[0]) / "instances" / instance)
            self._states.put(HOSTS[0], instance, GuestState.RUNNING)
            orders.append(wire.LiveMigration(instance, *HOSTS, number=number))
        published = {}
        for order in orders:
            published[order.uuid] = time.time()
            self._conductor.live_migrate(order)
        return published

    def _ended(self, published: dict[str, float]) -> list[float]:
        """Wait until all are closed as completed on both hosts; the seconds of each."""
        self._wait(lambda: not any(self._open(host) for host in HOSTS) and all(
            published.keys() <= self._closed(host).keys() for host in HOSTS),
            "the end of all migrations")
        closed = [self._closed(host) for host in HOSTS]
        return [max(one[key] for one in closed) - began for key, began in published.items()]

    def _open(self, host: str) -> list[journals.Entry]:
        with contextlib.closing(self._reader(host)) as reader:
            return reader.open_entries()

    def _closed(self, host: str) -> dict[str, float]:
        role = Role.SOURCE if host == HOSTS[0] else Role.DESTINATION
        with contextlib.closing(self._reader(host)) as reader:
            entries = reader.newest_entries(10_000)
        assert all(e.outcome in (Outcome.COMPLETED, None) for e in entries if e.closed), [
            (e.outcome, e.reason) for e in entries if e.outcome is not Outcome.COMPLETED][:3]
        return {e.migration.key: e.closed for e in entries
                if e.closed is not None and e.migration.role is role}

    def _reader(self, host: str) -> journals.JournalReader:
        return journals.JournalReader(self._settings.directory(host) / "worker")

    def _furnish(self, directory: pathlib.Path) -> None:
        directory.mkdir()
        (directory / "disk.info").write_text('{"/disk": "raw"}')
        line = f"[    0.000000] the kernel of {directory.name} says something\n"
        (directory / "console.log").write_text(
            (line * (CONSOLE_BYTES // len(line) + 1))[:CONSOLE_BYTES])

    def _wait(self, check: ty.Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while not check():
            if time.monotonic() > deadline:
                stuck = [(host, e.phase, e.reason) for host in HOSTS for e in self._open(host)]
                raise TimeoutError(f"{what} not within {_SECONDS} s; open: {stuck[:5]}")
            time.sleep(0.2)
