# SPDX-License-Identifier: Apache-2.0
"""Feed hostile input to everything that reads what others wrote.

Each target runs in a process of its own, guided by coverage (atheris). What a
campaign finds interesting is kept in build/fuzz/ and is where the next one
begins; an input that breaks a promise is kept there, too, and is named.

examples:
  make fuzz                                   each target for a minute, on two cores
  make fuzz TARGET=cast SECONDS=3600          one target for an hour
  make fuzz TARGET="entries chunks" RUNS=100000
  make fuzz ARGS=--report                     what all campaigns together did
  make fuzz ARGS=--minimise                   refresh tests/fuzz/corpus
"""

import argparse
import concurrent.futures
import importlib.util
import sys
import threading

import rich.console
import rich.progress
import rich.table

from tests.fuzz import campaign, targets

_REFRESH = 0.5
#: Seconds between two lines where nobody watches a bar.
_LINE = 60


def main() -> int:
    arguments = _arguments()
    console = rich.console.Console()
    if importlib.util.find_spec("atheris") is None:
        console.print("atheris is not installed: run 'make fuzz'. It exists for CPython 3.11 to "
                      "3.13 on Linux on x86-64; tests/unit/test_fuzz_corpus.py needs none of it")
        return 1
    if arguments.report:
        console.print(_report())
        return 0
    if arguments.minimise:
        for name in arguments.targets:
            console.print(f"{name}: {campaign.minimise(name)} inputs are kept")
        return 0
    with (concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool,
          _bar(console) as bar):
        runs = [pool.submit(_run, name, arguments, bar) for name in arguments.targets]
        results = [run.result() for run in runs]
    console.print(_report())
    return 0 if all(results) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET",
                        help=f"of: {', '.join(targets.NAMES)} (default: all)")
    parser.add_argument("--seconds", type=int, default=0, help="for each target (default 60, "
                        "unless --runs is given)")
    parser.add_argument("--runs", type=int, default=0, help="for each target")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time (default 2)")
    parser.add_argument("--report", action="store_true",
                        help="sum up the campaigns on this machine; run nothing")
    parser.add_argument("--minimise", action="store_true",
                        help="rewrite tests/fuzz/corpus from what was found; run nothing else")
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - set(targets.NAMES)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    arguments.targets = arguments.targets or list(targets.NAMES)
    if not arguments.seconds and not arguments.runs:
        arguments.seconds = 60
    return arguments


def _run(name: str, arguments: argparse.Namespace, bar: rich.progress.Progress) -> bool:
    """One campaign from its start to its end; whether every promise held."""
    running = campaign.Campaign(name, arguments.seconds, arguments.runs)
    total = arguments.runs or arguments.seconds
    task = bar.add_task(name, total=total, what="")
    over = threading.Event()
    watching = threading.Thread(target=_watch, args=(running, arguments, bar, task, over))
    watching.start()
    try:
        held = running.follow()
    finally:
        over.set()
        watching.join()
    if not held:
        bar.console.print(f"[red]{name}: an input broke a promise[/red]: "
                          f"{', '.join(running.broken_by()) or 'none was kept'}")
        bar.console.print("\n".join(running.last_lines), markup=False, highlight=False)
    return held


def _watch(running: campaign.Campaign, arguments: argparse.Namespace,
           bar: rich.progress.Progress, task: rich.progress.TaskID,
           over: threading.Event) -> None:
    told = 0.0
    while True:
        is_over = over.wait(_REFRESH)
        progress = running.progress
        what = (f"{progress.runs:,} runs, {progress.rate:,.0f}/s, {progress.covered} covered, "
                f"{progress.features} features, {progress.inputs} inputs")
        done = progress.runs if arguments.runs else progress.seconds
        bar.update(task, completed=done, what=what)
        if not bar.console.is_terminal and (is_over or progress.seconds - told > _LINE):
            told = progress.seconds
            bar.console.print(f"{running.name}: {what}", highlight=False)
        if is_over:
            return


def _bar(console: rich.console.Console) -> rich.progress.Progress:
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description:>14}"), rich.progress.BarColumn(20),
        rich.progress.TextColumn("{task.fields[what]}"), console=console,
        disable=not console.is_terminal)


def _report() -> rich.table.Table:
    table = rich.table.Table("target", "runs", "runs/s", "covered", "features", "inputs")
    for column in table.columns[1:]:
        column.justify = "right"
    total = 0
    for name, done in campaign.history().items():
        runs = sum(each["runs"] for each in done)
        seconds = sum(each["seconds"] for each in done)
        total += runs
        table.add_row(name, f"{runs:,}", f"{runs / max(seconds, 0.001):,.0f}",
                      *(str(max(each[key] for each in done))
                        for key in ("covered", "features", "inputs")))
    table.add_row("all", f"{total:,}", "", "", "", "")
    return table


if __name__ == "__main__":
    sys.exit(main())
