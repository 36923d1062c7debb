# SPDX-License-Identifier: Apache-2.0
"""Alternate the candidates, keep every figure, print medians, spread and ratios."""

import dataclasses
import statistics
import typing as ty

from rich.console import Console
from rich.table import Table


@dataclasses.dataclass
class Series:
    """One candidate's figures, all in the same unit."""

    name: str
    values: list[float] = dataclasses.field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """First and third quartile."""
        if len(self.values) < 2:
            return self.median, self.median
        first, _, third = statistics.quantiles(self.values, n=4, method="inclusive")
        return first, third


def alternate(rounds: int, candidates: ty.Mapping[str, ty.Callable[[], float]],
              step: ty.Callable[[], None] = lambda: None) -> list[Series]:
    """Run every candidate once a round, in turn, so that noise meets all of them alike."""
    series = {name: Series(name) for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            series[name].values.append(run())
            step()
    return list(series.values())


def show(title: str, unit: str, series: list[Series], console: Console) -> None:
    """The first of ``series`` is ours; each other one's ratio is ours divided by it."""
    ours = series[0]
    table = Table(title=f"{title} ({len(ours.values)} rounds)", title_justify="left")
    table.add_column("")
    for column in (f"median {unit}", "quartiles", "ours / this"):
        table.add_column(column, justify="right")
    for one in series:
        first, third = one.spread
        ratio = "" if one is ours else f"{ours.median / one.median:.3f}"
        table.add_row(one.name, f"{one.median:,.1f}", f"{first:,.1f} .. {third:,.1f}", ratio)
    console.print(table)
