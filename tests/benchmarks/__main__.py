# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.benchmarks``: all benchmarks, or those named."""

import argparse
import contextlib
import os
import pathlib
import signal
import sys
import time
import traceback

from rich.console import Console

from tests.benchmarks import plot, report, rows
from tests.benchmarks.bench import Bench, time_limit
from tests.benchmarks.results import Result, Run

_DESCRIPTION = """\
Compare rbd-worker with what a user would pick instead, on a lab of its own with real
RabbitMQ, Ceph and libvirt. Each benchmark alternates the candidates and prints medians,
quartiles, ratios, its goals, and whether they are reached. Needs root. Exit status 1 where
a benchmark did not come to its end; a goal that is not reached is no error."""

_EXAMPLES = """\
examples:
  make bench                                        everything, about twenty minutes
  make bench ARGS="prepare tap"                     two of them
  make bench ARGS="--json now.json --html now.html" figures and a plot for later
  make bench ARGS="tap --compare before.json"       each median beside an earlier run's

benchmarks:
"""


def main() -> int:
    arguments = _parser().parse_args()
    console = Console(highlight=False)
    try:
        earlier = Run.read(arguments.compare) if arguments.compare else None
    except ValueError as e:
        print(f"bench: {e}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _interrupted)
    load = os.getloadavg()[0]
    results: list[Result] = []
    with contextlib.suppress(KeyboardInterrupt), Bench(console) as bench:
        for name in arguments.name or rows.ROWS:
            results.append(_measured(name, bench))
            report.show(results[-1], earlier, console)
            _keep(Run.of(results, load), arguments)  # a run that is ended keeps what it has
    report.summary(Run.of(results, load), console)
    is_whole = len(results) == len(arguments.name or rows.ROWS)
    return 1 if not is_whole or any(result.failure for result in results) else 0


def _measured(name: str, bench: Bench) -> Result:
    """One benchmark's result; its failure is one, too."""
    row = rows.ROWS[name]
    bench.console.rule(f"{name}: {row.what}")
    began = time.monotonic()
    try:
        with time_limit(row.limit):
            result = row.run(bench)
    except Exception as e:
        traceback.print_exc()
        result = Result(name, failure=f"{type(e).__name__}: {e}"[:2000])
    return Result(name, result.tables, result.goals, result.notes, result.failure,
                  time.monotonic() - began)


def _keep(run: Run, arguments: argparse.Namespace) -> None:
    if arguments.json:
        run.write(arguments.json)
    if arguments.html:
        arguments.html.write_text(plot.page(run))


def _interrupted(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    listed = "".join(f"  {name:10} {row.what}\n" for name, row in rows.ROWS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=_DESCRIPTION, epilog=_EXAMPLES + listed,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", metavar="BENCHMARK", type=_known,
                        help="which ones, in this order (default: all)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE",
                        help="write every single figure there")
    parser.add_argument("--html", type=pathlib.Path, metavar="FILE",
                        help="write a page with plots there")
    parser.add_argument("--compare", type=pathlib.Path, metavar="EARLIER.json",
                        help="show each median beside that of an earlier run")
    return parser


def _known(name: str) -> str:
    if name not in rows.ROWS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of: {', '.join(rows.ROWS)}")
    return name


if __name__ == "__main__":
    sys.exit(main())
