# SPDX-License-Identifier: Apache-2.0
"""Break parts at random moments while an unmodified Nova migrates, and see what holds.

Ends at the first broken invariant, with exit status 1 and all logs kept in build/chaos.
"""

import argparse
import collections.abc
import pathlib
import shutil
import sys

from rich.console import Console

from devstack import gate
from devstack import lab as labs
from tests import lab_session
from tests.chaos import __main__ as chaos
from tests.chaos import summary
from tests.chaos.beside_nova import arena as arenas
from tests.chaos.beside_nova import faults, rounds

#: A run's lab is named for the number of its process.
_OWN_LABS = "/var/tmp/rbdw-chaos-nova-"

_EXAMPLES = """\
examples:
  make chaos-nova ARGS="--rounds 100"
  make chaos-nova ARGS="--rounds 20 --faults kill_source_compute,kill_broker_node"
  make chaos-nova ARGS="--seed 42 --first 17 --rounds 1"    # round 17 of seed 42 once more

faults:
  """


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make chaos-nova", description=__doc__, epilog=_EXAMPLES + "\n  ".join(faults.ALL),
        formatter_class=argparse.RawDescriptionHelpFormatter)
    chaos.add_common(parser, faults.ALL)
    return parser


def main(argv: collections.abc.Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    reason = gate.why_not()
    if reason:
        print(f"chaos-nova: {reason}", file=sys.stderr)
        return 1
    console = chaos.begin(arguments)
    ways = arenas.Ways.of(arguments.seed)
    title = f"seed {arguments.seed}, {ways}"
    console.print(title)
    with lab_session.own_lab(_OWN_LABS) as lab:
        cloud = gate.up(lab, on_progress=console.print, compute=arenas.COMPUTE)
        arena = arenas.NovaArena(cloud, ways)
        arena.clear()
        arena.begin()
        try:
            return _run(arena, arguments, console, title)
        finally:
            arena.end()


def _run(arena: arenas.NovaArena, arguments: argparse.Namespace, console: Console,
         title: str) -> int:
    servers = [arena.cloud.boot("busy", "node1", image="busy"),
               arena.cloud.boot("talkative", "node2")]
    done: list[rounds.Round] = []
    for number in range(arguments.first, arguments.first + arguments.rounds):
        draw = rounds.Draw.of(arguments.seed, number, arguments.faults, len(servers))
        console.print(f"{number:3}  {draw}")
        results = rounds.run(arena, servers, draw)
        done += results
        for one in results:
            console.print(f"       {_line(one)}")
        if any(one.complaints for one in results):
            kept = chaos.KEPT_LOGS / f"nova-{arguments.seed}-{number}"
            _keep(arena.lab, kept)
            console.print(f"all logs are kept in {kept}")
            break
    console.print(summary.table(done, f"{title}, {len(done)} migrations"))
    return 1 if any(one.complaints for one in done) else 0


def _keep(lab: labs.Lab, kept: pathlib.Path) -> None:
    """Logs, and what the workers know."""
    shutil.copytree(lab.root / "log", kept, dirs_exist_ok=True)
    for each in lab.computes:
        shutil.copytree(each.host.root / "var/lib/nova/rbd-worker", kept / each.host.name,
                        dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock"))


def _line(one: rounds.Round) -> str:
    hands = f", by hand: {', '.join(one.by_hand)}" if one.by_hand else ""
    return (f"{one.outcome}, {'moved' if one.has_moved else 'stayed'}, at rest after "
            f"{one.rest:.1f} s{hands}  {'; '.join(one.complaints)}")


if __name__ == "__main__":
    sys.exit(main())
