# SPDX-License-Identifier: Apache-2.0
"""``make demo``: exit status 0 where everything is as it should be, else 1."""

import argparse
import pathlib
import statistics
import sys
import time

from rich.console import Console

from devstack import lab as labs
from devstack.conductor import Conductor, LiveMigration
from devstack.demo import moves, picture, seed, timeline, verdict

CONSOLE_BYTES = 1 << 20
CONFIG_BYTES = 64 << 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m devstack.demo", description=__doc__)
    parser.add_argument("--record", metavar="DIRECTORY", type=pathlib.Path,
                        help="save the demo and the operator's commands there as pictures")
    pictures = parser.parse_args().record
    console = picture.console(is_recorded=pictures is not None)
    began = time.monotonic()
    try:
        console.rule("the lab: RabbitMQ, Ceph, two libvirt hosts")
        lab = labs.up(on_progress=console.print)
    except labs.LabError as e:
        console.print(f"[red]demo: {e}[/]")
        return 1
    try:
        is_good = _story(lab, console, pictures)
    except labs.LabError as e:
        console.print(f"[red]demo: {e}[/]")
        is_good = False
    finally:
        lab.down()
    console.rule()
    said = "[green]everything is as it should be[/]" if is_good else "[red]NOT as it should be[/]"
    console.print(f"verdict: {said}  ({time.monotonic() - began:.0f} s, the lab is gone)")
    if pictures is not None:
        picture.save(console, pictures / "demo.svg", "make demo")
    return 0 if is_good else 1


def _story(lab: labs.Lab, console: Console, pictures: pathlib.Path | None) -> bool:
    console.rule("without the worker")
    if not seed.show(lab, console):
        return False
    console.rule("with a worker on each host")
    with Conductor(lab.broker_url) as conductor:
        return _three_moves(lab, conductor, console, pictures)


def _three_moves(lab: labs.Lab, conductor: Conductor, console: Console,
                 pictures: pathlib.Path | None) -> bool:
    workers = []
    for name in ("node1", "node2"):
        lab.write_config(lab.host(name))
        workers.append(lab.start_worker(lab.host(name)))
    for worker in workers:
        worker.wait_ready()
        console.print(f"rbd-worker is ready on {worker.service.host.name}, "
                      f"{worker.resident_mib():.0f} MiB")
    guest = lab.define_guest(lab.host("node1"), talkative=True)
    files = verdict.fill(guest.directory(lab.host("node1")), CONFIG_BYTES, CONSOLE_BYTES)
    guest.wait_for_console(lab.host("node1"))
    done = []
    with moves.bars(console) as progress:
        for number, (source, destination) in enumerate(
                (("node1", "node2"), ("node2", "node1"), ("node1", "node2")), 1):
            order = LiveMigration(guest.uuid, source, destination, number=number)
            done.append(moves.watched(lab, conductor, order, progress))
    for move in done:
        timeline.show(move.order, move.rows, console, move.downtime_ms)
    prepared = [m.prepared_ms for m in done if m.prepared_ms is not None]
    if prepared:
        console.print(f"from cast to prepared destination ({CONSOLE_BYTES >> 10} KiB of console "
                      f"history, {CONFIG_BYTES >> 10} KiB disk.config): "
                      f"median {statistics.median(prepared):.0f} ms")
    checks = verdict.checks(lab, guest, files, done)
    verdict.show(checks, lab, guest, console)
    if pictures is not None:
        commands = picture.console(is_recorded=True)
        picture.show_commands(lab.host("node1"), done[-1].order.uuid, commands)
        picture.save(commands, pictures / "commands.svg", "rbd-workerctl")
    for worker in workers:
        worker.stop()
    return all(check.holds for check in checks)


if __name__ == "__main__":
    sys.exit(main())
