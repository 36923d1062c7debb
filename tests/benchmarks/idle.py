# SPDX-License-Identifier: Apache-2.0
"""The worker at rest, beside nova-compute at rest on the same host: memory, CPU, ready time.

Both have run for the same while and are looked at in the same minute.
nova-compute is the gate's, unmodified, with its whole cloud around it; where
that cannot be built, nothing is compared with and the goal for the memory is
not measured.
"""

import contextlib
import os
import pathlib
import time
import typing as ty

from devstack import conductor as wire
from devstack import gate
from devstack import lab as labs
from tests.benchmarks.bench import Bench
from tests.benchmarks.measure import Series
from tests.benchmarks.results import Goal, Result, Table
from tests.benchmarks.simulated import cpu_seconds, memory_kib

STARTS = 7
SECONDS = 60
OURS, NOVA = "rbd-worker", "nova-compute"


def run(bench: Bench) -> Result:
    with bench.another_lab() as lab:
        return _run(bench, lab)


def _run(bench: Bench, lab: labs.Lab) -> Result:
    host = lab.host("node1")
    ready = Series(OURS)
    lacks = gate.missing()
    cloud = None if lacks else gate.up(lab, on_progress=bench.console.print)
    # without a conductor nobody makes Nova's exchange, and no worker is ever ready
    nova = wire.Conductor(lab.broker_url) if cloud is None else contextlib.nullcontext()
    with nova, bench.progress("idle", STARTS + SECONDS) as step:
        worker = None
        for _ in range(STARTS):
            if worker is not None:
                worker.stop()
            worker, seconds = _started(lab, host, cloud)
            ready.values.append(seconds)
            step()
        assert worker is not None
        time.sleep(15)  # both are at rest now
        pids = {OURS: worker.service.pid}
        if cloud is not None:
            pids[NOVA] = cloud.compute(host.name).pid
        figures = _watched({name: pid for name, pid in pids.items() if pid}, step)
        worker.stop()
    return _result(ready, *figures, lacks)


def _result(ready: Series, resident: list[Series], proportional: list[Series],
            cpu: list[Series], lacks: list[str]) -> Result:
    tables = [Table("resident memory", "MiB", resident),
              Table("proportional memory (PSS)", "MiB", proportional),
              Table("CPU while at rest", "% of a core", cpu),
              Table("from the start of the process until it hears casts and peers", "s",
                    [ready])]
    goals = [Goal("% of a core", cpu[0].median, 0.3),
             Goal("seconds until ready", ready.median, 1.5)]
    if lacks:
        return Result("idle", tables, goals, [
            "nova-compute was not measured, nor the goal for memory (half of its): missing "
            + ", ".join(lacks)])
    return Result("idle", tables, [
        Goal("resident memory: ratio to nova-compute", tables[0].ratio(NOVA), 0.5),
        Goal("proportional memory: ratio to nova-compute", tables[1].ratio(NOVA), 0.5), *goals])


def _started(lab: labs.Lab, host: labs.Host, cloud: gate.Cloud | None,
             ) -> tuple[labs.Worker, float]:
    """A worker that is ready, and how many seconds that took from the start of its process."""
    if cloud is None:
        lab.write_config(host, executor="nova")
        worker = lab.start_worker(host)
    else:
        worker = cloud.start_worker(host)
    while "rbd-worker is ready" not in worker.log_text:
        assert worker.is_running(), worker.log_text[-2000:]
        time.sleep(0.005)
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    pid = worker.service.pid
    assert pid is not None
    return worker, now - _born(pid)


def _watched(pids: dict[str, int], step: ty.Callable[[], None],
             ) -> tuple[list[Series], list[Series], list[Series]]:
    """Memory of each process once a second for a minute, and its CPU over that minute."""
    resident, proportional, cpu = ({name: Series(name) for name in pids} for _ in range(3))
    used = {name: cpu_seconds(pid) for name, pid in pids.items()}
    since = time.monotonic()
    for _ in range(SECONDS):
        time.sleep(1)
        for name, pid in pids.items():
            rss, pss = memory_kib(pid)
            resident[name].values.append(rss / 1024)
            proportional[name].values.append(pss / 1024)
        step()
    for name, pid in pids.items():
        cpu[name].values.append(
            (cpu_seconds(pid) - used[name]) / (time.monotonic() - since) * 100)
    return list(resident.values()), list(proportional.values()), list(cpu.values())


def _born(pid: int) -> float:
    """When a process was started, in seconds since the boot."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")
