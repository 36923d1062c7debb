# SPDX-License-Identifier: Apache-2.0
"""What libvirt's hook costs an arriving guest, against an empty shell hook.

The installed hook is called inside the destination's host as libvirt calls it,
with a real guest's XML, and asks the worker that runs there; the migration is
prepared and Nova has made the directory.  Every guest that starts or stops
calls the hook, too: that costs no more than a shell's start.
"""

import json
import pathlib

from devstack import conductor as wire
from devstack.lab import worker
from tests.benchmarks.bench import Bench
from tests.benchmarks.measure import Series
from tests.benchmarks.results import Goal, Result, Table
from tests.functional.fleet import Fleet

ROUNDS = 60
OURS, OTHERWISE, EMPTY = ("rbd-worker's hook, migrate begin", "the same, any other operation",
                          "an empty shell hook")
_EMPTY_HOOK = "/run/lab/empty-hook"
_INSTALLED = "/etc/libvirt/hooks/qemu.d/50-rbd-worker"
_XML = "/run/lab/bench.xml"
#: Runs inside the host, so that no part of entering it is measured.
_TIMER = pathlib.Path(__file__).with_name("hook_timer.py")


def run(bench: Bench) -> Result:
    lab = bench.lab
    with wire.Conductor(lab.broker_url) as conductor:
        fleet = Fleet(lab, conductor)
        fleet.start(executor="nova")
        try:
            series = _series(fleet, bench)
        finally:
            for each in fleet.workers.values():
                each.kill9()
    table = Table("one call of the hook", "ms", series)
    return Result("hook", [table], [
        Goal("ms more than an empty shell hook", series[0].median - table[EMPTY].median, 60),
        Goal("any other operation: ms more", table[OTHERWISE].median - table[EMPTY].median, 5)])


def _series(fleet: Fleet, bench: Bench) -> list[Series]:
    there = fleet.two
    there.run([worker.program("rbd-workerctl"), *worker.CONFIG_FILES, "hook", "install"])
    there.write(_EMPTY_HOOK, "#!/bin/sh\nexit 0\n", 0o755)
    guest = fleet.lab.define_guest(fleet.one)
    there.write(_XML, fleet.one.virsh("dumpxml", "--migratable", guest.uuid))
    order = fleet.move(guest, fleet.one, there)
    fleet.until(lambda: fleet.entry(there, order) is not None, "the prepare")
    guest.directory(there).mkdir()
    candidates = {OURS: [_INSTALLED, guest.name, "migrate", "begin", "-"],
                  OTHERWISE: [_INSTALLED, guest.name, "prepare", "begin", "-"],
                  EMPTY: [_EMPTY_HOOK, guest.name, "migrate", "begin", "-"]}
    with bench.progress("hook", 1) as step:
        done = there.run(["/usr/bin/python3", "-I", "-S", "-", str(ROUNDS), _XML,
                          json.dumps(candidates)], input=_TIMER.read_text(), timeout=100)
        step()
    figures = json.loads(done.stdout)
    assert fleet.workers[there.name].log_text.count(f"{guest.uuid}] arrives") >= ROUNDS
    return [Series(name, figures[name]) for name in candidates]
