# SPDX-License-Identifier: Apache-2.0
"""Break parts of the lab at random moments while guests move, and see what holds.

Ends at the first broken invariant, with exit status 1 and all logs kept in build/chaos.
"""

import argparse
import collections.abc
import pathlib
import random
import shutil
import sys
import tempfile

from rich.console import Console

from devstack import conductor as wire
from devstack import lab as labs
from devstack.lab import checks, layout
from tests.chaos import arena as arenas
from tests.chaos import faults, invariants, rounds, summary

KEPT_LOGS = pathlib.Path(__file__).parents[2] / "build/chaos"

_EXAMPLES = """\
examples:
  make chaos ARGS="--rounds 100"
  make chaos ARGS="--rounds 20 --faults kill_broker_node,jump_clock"
  make chaos ARGS="--seed 42 --first 17 --rounds 1"    # round 17 of seed 42 once more
  make chaos ARGS="--executor nova --broker-nodes 1"

faults:
  """


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make chaos", description=__doc__, epilog=_EXAMPLES + "\n  ".join(faults.ALL),
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common(parser, faults.ALL)
    parser.add_argument("--executor", choices=("libvirt", "nova"), default="libvirt",
                        help="who moves the guest; for nova a stand-in acts as nova-compute")
    parser.add_argument("--broker-nodes", type=int, choices=layout.BROKER_NODES, default=3,
                        help="3: a cluster with quorum queues; 1: an exchange that does not "
                             "outlive its broker")
    return parser


def add_common(parser: argparse.ArgumentParser,
               known: collections.abc.Collection[str]) -> None:
    """What every kind of chaos takes.

    :param known: names of the faults that there are.
    """
    def fault_names(text: str) -> list[str]:
        names = text.split(",")
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise argparse.ArgumentTypeError(
                f"{', '.join(unknown)}: no such fault; there are {', '.join(known)}")
        return names

    parser.add_argument("--rounds", type=int, default=20, metavar="N")
    parser.add_argument("--seed", type=int, default=None, metavar="S",
                        help="replays the same choices; drawn and printed where not given")
    parser.add_argument("--first", type=int, default=1, metavar="N",
                        help="the number of the first round")
    parser.add_argument("--faults", type=fault_names, default=list(known), metavar="A,B",
                        help="draw from these only")


def begin(arguments: argparse.Namespace) -> Console:
    """Draw the seed where none is given; where a run of chaos prints to."""
    if arguments.seed is None:
        arguments.seed = random.randrange(1 << 32)
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)


def main(argv: collections.abc.Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    reason = checks.why_not()
    if reason:
        print(f"chaos: {reason}", file=sys.stderr)
        return 1
    console = begin(arguments)
    console.print(f"seed {arguments.seed}, executor {arguments.executor}, "
                  f"{arguments.broker_nodes} broker node(s)")
    root = pathlib.Path(tempfile.mktemp(prefix="rbdw-chaos-", dir="/var/tmp"))
    lab = labs.up(root=root, on_progress=console.print, broker_nodes=arguments.broker_nodes)
    try:
        return _run(lab, arguments, console)
    finally:
        lab.down()


def _run(lab: labs.Lab, arguments: argparse.Namespace, console: Console) -> int:
    done: list[rounds.Round] = []
    with wire.Conductor(lab.broker_url, durable=len(lab.brokers) > 1) as conductor:
        arena = arenas.Arena(lab, conductor, arguments.executor)
        arena.begin()
        try:
            guest = lab.define_guest(arena.one, busy=True)
            for number in range(arguments.first, arguments.first + arguments.rounds):
                draw = rounds.Draw.of(arguments.seed, number, arguments.faults)
                done.append(rounds.run(arena, guest, draw))
                console.print(_line(number, done[-1], draw))
                if done[-1].complaints:
                    kept = KEPT_LOGS / f"{arguments.seed}-{number}"
                    shutil.copytree(lab.root / "log", kept, dirs_exist_ok=True)
                    console.print(f"all logs are kept in {kept}")
                    break
            told = invariants.secrets_told(arena)
            console.print(*told, sep="\n")
        finally:
            arena.end()
    console.print(summary.table(
        done, f"seed {arguments.seed}, executor {arguments.executor}, {len(done)} rounds"))
    return 1 if told or any(one.complaints for one in done) else 0


def _line(number: int, one: rounds.Round, draw: rounds.Draw) -> str:
    return (f"{number:3}  {one.fault:25} at {draw.delay:.1f} s for {draw.lasts:4.1f} s: "
            f"{one.outcome}, {'moved' if one.has_moved else 'stayed'}, at rest after "
            f"{one.rest:.1f} s  {'; '.join(one.complaints)}")


if __name__ == "__main__":
    sys.exit(main())
