# SPDX-License-Identifier: Apache-2.0
"""Alternate the candidates and keep every figure; medians and quartiles of them."""

import dataclasses
import statistics
import typing as ty


@dataclasses.dataclass
class Series:
    """One candidate's figures, all in the same unit."""

    name: str
    values: list[float] = dataclasses.field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile."""
        if len(self.values) < 2:
            return self.median, self.median
        first, _, third = statistics.quantiles(self.values, n=4, method="inclusive")
        return first, third


def alternate(rounds: int, candidates: ty.Mapping[str, ty.Callable[[], float]],
              step: ty.Callable[[], object] = lambda: None) -> list[Series]:
    """Run every candidate once a round, in turn, so that noise meets all of them alike.

    :param step: called after each single measurement, for a progress bar.
    """
    series = {name: Series(name) for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            series[name].values.append(run())
            step()
    return list(series.values())
