# SPDX-License-Identifier: Apache-2.0
"""What a benchmark found: figures by candidate, goals, and what has to be said about them.

One run is kept as JSON with every single figure, so that a later run can be
compared with it.
"""

import dataclasses
import json
import os
import pathlib
import platform
import time
import typing as ty

from tests.benchmarks.measure import Series

#: Form of the JSON file; raised when an older one can no longer be read.
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Goal:
    """A figure that was asked for.

    :ivar text: what is compared, without the figures.
    :ivar at_least: more is better; otherwise less is.
    """

    text: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def is_reached(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def sign(self) -> str:
        return "≥" if self.at_least else "≤"


@dataclasses.dataclass(frozen=True)
class Table:
    """One quantity, measured for several candidates; the first one is ours."""

    title: str
    unit: str
    series: list[Series]

    def __getitem__(self, name: str) -> Series:
        return next(one for one in self.series if one.name == name)

    def ratio(self, other: str) -> float:
        """Ours divided by the other, both as medians."""
        return self.series[0].median / self[other].median


@dataclasses.dataclass(frozen=True)
class Result:
    """One row of the issue's table.

    :ivar notes: what a reader has to know about these figures.
    :ivar failure: why there are none; empty for a benchmark that came to its end.
    """

    name: str
    tables: list[Table] = dataclasses.field(default_factory=list)
    goals: list[Goal] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    failure: str = ""
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Run:
    """All results of one run, and what it ran on.

    :ivar load: the machine's load average of one minute, when the run began.
    """

    results: list[Result]
    taken: str
    machine: str
    cores: int
    load: float

    @classmethod
    def of(cls, results: list[Result], load: float) -> "Run":
        return cls(results, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                   f"{platform.machine()}, Python {platform.python_version()}",
                   os.cpu_count() or 1, load)

    def write(self, path: pathlib.Path) -> None:
        path.write_text(json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1))

    @classmethod
    def read(cls, path: pathlib.Path) -> "Run":
        """:raises ValueError: the file is none that ``write`` made."""
        try:
            data = json.loads(path.read_text())
            if data.pop("format") != FORMAT:
                raise ValueError("another format")
            return cls(**data | {"results": [_result(one) for one in data["results"]]})
        except (OSError, KeyError, TypeError, ValueError) as e:
            raise ValueError(f"{path} holds no earlier run: {e}") from e

    def series(self) -> dict[tuple[str, str, str], Series]:
        """Every series by benchmark, table and candidate."""
        return {(result.name, table.title, one.name): one for result in self.results
                for table in result.tables for one in table.series}


def _result(data: dict[str, ty.Any]) -> Result:
    return Result(**data | {
        "tables": [Table(t["title"], t["unit"], [Series(**one) for one in t["series"]])
                   for t in data["tables"]],
        "goals": [Goal(**goal) for goal in data["goals"]]})
