# SPDX-License-Identifier: Apache-2.0
"""Play many schedules, or one again.

    make simulate N=1000000             # overnight: every core, a progress bar, the rate
    make simulate N=1000 FIRST=5000     # seeds 5000 to 5999
    make simulate SEED=4711             # one schedule again, with its story
    make simulate SEED=4711 KEEP=0,3    # with these of its happenings only

A schedule that breaks a promise is made as small as it gets, told as a story,
and printed with the command that plays it again.  Exit status 1 then.
"""

import argparse
import os
import random
import sys

import rich.console
import rich.progress

import rpcapi  # noqa: F401 -- before oslo.messaging: it is to use threads
from tests.simulation import many, play, telling
from tests.simulation.play import Result

#: Failing seeds that are told in full.
MOST_TOLD = 5


def main() -> int:
    asked = _arguments()
    console = rich.console.Console(soft_wrap=True)
    if asked.seed is not None:
        return _again(asked, console)
    first = random.SystemRandom().randrange(1 << 40) if asked.first is None else asked.first
    report = _played(range(first, first + asked.number), asked.processes, console)
    for seed in report.failing[:MOST_TOLD]:
        with many.memory() as root, many.quiet_logs():
            _tell(console, play.minimised(play.play(play.of(seed), root), root))
    console.print(f"{report.played} schedules from seed {first} on: "
                  + (f"[red]{len(report.failing)} broke a promise[/]" if report.failing
                     else "[green]every promise was kept[/]"))
    return 1 if report.failing else 0


def _again(asked: argparse.Namespace, console: rich.console.Console) -> int:
    with many.memory() as root, many.quiet_logs():
        result = play.play(play.of(asked.seed, asked.keep), root, tells=True)
        if result.breaches and asked.minimise:
            result = play.minimised(result, root)
    _tell(console, result)
    return 1 if result.breaches else 0


def _played(seeds: range, processes: int, console: rich.console.Console) -> many.Report:
    total = many.Report()
    columns = (*rich.progress.Progress.get_default_columns(), _Rate())
    with rich.progress.Progress(*columns, console=console) as bar:
        shown = bar.add_task("schedules", total=len(seeds))
        for report in many.reports(seeds, processes):
            total += report
            bar.advance(shown, report.played)
            for seed in report.failing:
                bar.console.print(f"[red]seed {seed} broke a promise[/]")
    return total


def _tell(console: rich.console.Console, result: Result) -> None:
    console.print("\n".join(telling.sentences(result)), markup=False, highlight=False)


class _Rate(rich.progress.ProgressColumn):
    """Schedules a second."""

    def render(self, task: rich.progress.Task) -> str:
        return f"{task.speed:,.0f}/s" if task.speed else ""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make simulate", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=1000, help="how many schedules (N)")
    parser.add_argument("--first", type=int, help="the first seed; a random one by default")
    parser.add_argument("--seed", type=int, help="play this one and tell its story (SEED)")
    parser.add_argument("--keep", type=_numbers, help="with these happenings only (KEEP)")
    parser.add_argument("--minimise", action="store_true",
                        help="leave out what a breach does not need")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


if __name__ == "__main__":
    sys.exit(main())
