# SPDX-License-Identifier: Apache-2.0
"""The story of one schedule, for a reader."""

import itertools
import re
import typing as ty

from tests.simulation.play import Result


def sentences(result: Result) -> ty.Iterator[str]:
    """What was planned, what happened, what broke, and how to see it again."""
    schedule = result.schedule
    yield f"seed {schedule.seed}: {schedule.cloud}"
    for number, happening in zip(schedule.kept, schedule.happenings, strict=True):
        yield f"  {number}: {happening}"
    for line, others in _condensed(result.story):
        yield f"{line}   (and {others} more times)" if others else line
    for breach in result.breaches:
        yield f"BROKEN {breach}"
    yield f"Play it again: {command(result)}"


def command(result: Result) -> str:
    kept = ",".join(map(str, result.schedule.kept))
    return f"make simulate SEED={result.schedule.seed} KEEP={kept}"


def _condensed(story: ty.Iterable[str]) -> ty.Iterator[tuple[str, int]]:
    """Lines, with how many follow that say the same apart from a call's number and the time."""
    def text(line: str) -> str:
        return re.sub(r"call \d+", "call", line[11:])
    for _, same in itertools.groupby(story, key=text):
        first, *others = same
        yield first, len(others)
