# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.chaos [--rounds N] [--seed S]``: exit status 1 on any breach."""

import argparse
import collections
import pathlib
import random
import sys
import tempfile
import threading
import time

from rich.console import Console
from rich.table import Table

from devstack import conductor as wire
from devstack import lab as labs
from tests.chaos import faults, invariants
from tests.functional.fleet import Fleet

REST_SECONDS = 90.0
#: A guest that dirties 48 MiB for ever takes some seconds to move with these.
SLOW = {"live_migration_bandwidth": 60, "live_migration_downtime": 2000,
        "live_migration_downtime_steps": 3, "live_migration_downtime_delay": 3}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None, help="replays the same choices")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    console = Console(highlight=False)
    console.print(f"seed {seed}")
    lab = labs.up(root=pathlib.Path(tempfile.mktemp(prefix="rbdw-chaos-", dir="/var/tmp")),
                  on_progress=console.print)
    try:
        return _run(lab, random.Random(seed), arguments.rounds, console)
    finally:
        lab.down()


def _run(lab: labs.Lab, choice: random.Random, rounds: int, console: Console) -> int:
    with wire.Conductor(lab.broker_url) as conductor:
        fleet = Fleet(lab, conductor)
        fleet.start(libvirt=SLOW, nova={"live_migration_retry_count": 5}, settle_interval=5)
        guest = lab.define_guest(fleet.one, busy=True)
        (guest.directory(fleet.one) / "disk.config").write_bytes(invariants.MARKER)
        results: dict[str, collections.Counter[str]] = collections.defaultdict(
            collections.Counter)
        breaches = 0
        for number in range(1, rounds + 1):
            name = choice.choice(list(faults.ALL))
            said, complaints = _round(fleet, guest, name, choice)
            results[name][said] += 1
            breaches += len(complaints)
            console.print(f"{number:3}  {name:27} {said}  {'; '.join(complaints)}")
            if complaints:
                _show_logs(fleet, console)
                break
        for worker in fleet.workers.values():
            worker.kill9()
    _summary(results, console)
    return 1 if breaches else 0


def _round(fleet: Fleet, guest: labs.Guest, name: str,
           choice: random.Random) -> tuple[str, list[str]]:
    (here,) = guest.running_on()
    source = fleet.lab.host(here)
    destination = fleet.two if source is fleet.one else fleet.one
    order = fleet.order(guest, source, destination)
    delay = choice.uniform(0, 3)
    with wire.Conductor(fleet.lab.broker_url) as conductor:
        conductor.live_migrate(order)
    worker = threading.Timer(delay, faults.ALL[name], (fleet, guest, order, choice))
    worker.start()
    worker.join()
    time.sleep(choice.uniform(0, 2))
    faults.mend(fleet)
    with wire.Conductor(fleet.lab.broker_url):  # Nova's services declare the exchange again
        deadline = time.monotonic() + REST_SECONDS
        while time.monotonic() < deadline and not invariants.is_at_rest(fleet, order):
            time.sleep(0.2)
        for one in fleet.workers.values():
            one.wait_ready(60)
    complaints = invariants.broken(fleet, guest, order)
    if not invariants.is_at_rest(fleet, order):
        complaints.append(f"open after {REST_SECONDS:.0f} s: "
                          f"{invariants.is_open_because(fleet, order)}")
    entry = fleet.entry(source, order)
    return str(entry.outcome or "open") if entry else "not heard", complaints


def _show_logs(fleet: Fleet, console: Console) -> None:
    for name, worker in fleet.workers.items():
        lines = [line for line in worker.service.log.read_text().splitlines()
                 if "rbd_worker" in line]
        console.print(f"--- {name}", *lines[-40:], sep="\n", markup=False)


def _summary(results: dict[str, "collections.Counter[str]"], console: Console) -> None:
    table = Table(title="faults and how their migrations ended", title_justify="left")
    table.add_column("fault")
    table.add_column("ends")
    for name, ends in sorted(results.items()):
        table.add_row(name, ", ".join(f"{end}: {count}" for end, count in ends.items()))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
