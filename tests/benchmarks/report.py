# SPDX-License-Identifier: Apache-2.0
"""Results for people: tables on the terminal."""

from rich.console import Console
from rich.table import Table as RichTable

from tests.benchmarks.measure import Series
from tests.benchmarks.results import Result, Run, Table


def show(result: Result, earlier: Run | None, console: Console) -> None:
    """Print one benchmark's tables, goals and notes; beside the figures of an earlier run."""
    before = earlier.series() if earlier is not None else {}
    for table in result.tables:
        known = {one.name: before[key] for one in table.series
                 if (key := (result.name, table.title, one.name)) in before}
        console.print(_table(table, known, with_earlier=earlier is not None))
    for goal in result.goals:
        word = "[green]reached[/]" if goal.is_reached else "[red]NOT reached[/]"
        console.print(f"  {word}: {goal.text}: {number(goal.value)} "
                      f"({goal.sign} {number(goal.limit)})")
    for note in result.notes:
        console.print(f"  note: {note}")
    if result.failure:
        console.print(f"  [red]{result.name} did not come to its end[/]: {result.failure}",
                      markup=True)
    console.print()


def _table(table: Table, before: dict[str, Series], with_earlier: bool) -> RichTable:
    ours = table.series[0]
    shown = RichTable(title=f"{table.title} [{table.unit}]".replace("[", r"\["),
                      title_justify="left")
    shown.add_column("")
    columns = ["median", "quartiles", "n", "ours / this"]
    for column in columns + ["now / earlier"] * with_earlier:
        shown.add_column(column, justify="right")
    for one in table.series:
        first, third = one.quartiles
        row = [one.name, number(one.median), f"{number(first)} .. {number(third)}",
               str(len(one.values)), "" if one is ours else _ratio(ours, one)]
        if with_earlier:
            row.append(_ratio(one, before[one.name]) if one.name in before else "new")
        shown.add_row(*row)
    return shown


def _ratio(one: Series, other: Series) -> str:
    return number(one.median / other.median) if other.median else "-"


def number(value: float) -> str:
    """Three significant digits at least, and no more decimals than help."""
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 4
    return f"{value:,.{digits}f}"


def summary(run: Run, console: Console) -> None:
    """Every goal in one line each."""
    table = RichTable(title="goals", title_justify="left")
    for column in ("benchmark", "goal", "reached?"):
        table.add_column(column)
    for column in ("figure", "limit"):
        table.add_column(column, justify="right")
    for result in run.results:
        for goal in result.goals:
            table.add_row(result.name, goal.text,
                          "[green]yes[/]" if goal.is_reached else "[red]no[/]",
                          number(goal.value), f"{goal.sign} {number(goal.limit)}")
        if result.failure:
            table.add_row(result.name, result.failure[:80], "[red]failed[/]", "", "")
    console.print(table)
