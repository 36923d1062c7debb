# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks make of their figures: goals, files, comparison, plots, time limits."""

import io
import pathlib
import re
import time

import pytest
from rich.console import Console

from devstack.lab import processes
from tests.benchmarks import measure, plot, report
from tests.benchmarks.bench import TookTooLong, time_limit
from tests.benchmarks.measure import Series
from tests.benchmarks.results import Goal, Result, Run, Table


def _run(ours: float) -> Run:
    table = Table("a copy", "ms", [Series("rbd-worker", [ours, ours, ours * 3]),
                                   Series("rsync <over> ssh", [100.0, 110.0, 90.0])])
    return Run.of([Result("prepare", [table], [Goal("ratio", table.ratio("rsync <over> ssh"),
                                                    0.5)], ["a note"])], load=1.5)


def _shown(run: Run, earlier: Run | None = None) -> str:
    console = Console(file=io.StringIO(), width=200)
    for result in run.results:
        report.show(result, earlier, console)
    report.summary(run, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_candidates_take_turns():
    order: list[str] = []
    steps: list[int] = []
    series = measure.alternate(
        3, {"one": lambda: float(len(order.append("one") or order)),
            "two": lambda: float(len(order.append("two") or order))}, lambda: steps.append(1))
    assert order == ["one", "two"] * 3
    assert len(steps) == 6
    assert [one.values for one in series] == [[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]]


@pytest.mark.parametrize(("goal", "is_reached"), [
    (Goal("less is better", 0.5, 0.5), True),
    (Goal("less is better", 0.51, 0.5), False),
    (Goal("more is better", 40.0, 40.0, at_least=True), True),
    (Goal("more is better", 39.9, 40.0, at_least=True), False)])
def test_a_goal_is_reached_at_its_limit_and_not_beyond(goal: Goal, is_reached: bool):
    assert goal.is_reached is is_reached


def test_a_run_comes_back_from_its_file_with_every_figure(tmp_path: pathlib.Path):
    run = _run(20.0)
    run.write(tmp_path / "run.json")
    assert Run.read(tmp_path / "run.json") == run


@pytest.mark.parametrize("content", ["", "{}", '{"format": 99}', "[1]"])
def test_another_file_is_refused_as_an_earlier_run(tmp_path: pathlib.Path, content: str):
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(ValueError, match=re.escape("holds no earlier run")):
        Run.read(tmp_path / "other.json")


def test_a_goal_that_is_not_reached_is_said_to_be_so():
    assert "NOT reached: ratio: 0.6000 (≤ 0.5000)" in _shown(_run(60.0))
    assert "NOT" not in _shown(_run(20.0))


def test_each_median_stands_beside_that_of_an_earlier_run():
    line = next(each for each in _shown(_run(20.0), _run(40.0)).splitlines()
                if "rbd-worker" in each)
    assert line.rstrip(" │").endswith("0.5000")


def test_a_benchmark_that_failed_is_told_in_the_summary():
    shown = _shown(Run.of([Result("tap", failure="TookTooLong: not over after 3 s")], load=0))
    assert shown.count("not over after 3 s") == 2


def test_the_page_shows_every_candidate_and_loads_nothing():
    page = plot.page(_run(60.0))
    assert "rsync &lt;over&gt; ssh" in page
    assert page.count("<rect") == 2
    assert "class=no>no" in page
    assert not re.search(r"(src|href)=|https?:", page)


def test_a_benchmark_that_hangs_is_ended():
    began = time.monotonic()
    with pytest.raises(TookTooLong), time_limit(1):
        time.sleep(30)
    assert time.monotonic() - began < processes.patience(20)
