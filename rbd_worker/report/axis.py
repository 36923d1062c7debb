# SPDX-License-Identifier: Apache-2.0
"""From moments to places on a line, and moments for people."""

import bisect
import dataclasses
import datetime
import typing as ty

_STEPS = (1, 5, 15, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400,
          7 * 86400, 14 * 86400, 30 * 86400)
_MOST_TICKS = 7


class Tick(ty.NamedTuple):
    left: float
    text: str


@dataclasses.dataclass(frozen=True)
class Axis:
    """A line from ``start`` to ``end``, in seconds since the epoch; places in percent."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return max(self.end - self.start, 1e-3)

    def left(self, at: float) -> float:
        return round(min(max((at - self.start) / self.seconds * 100, 0), 100), 3)

    def width(self, start: float, end: float) -> float:
        return round(max(self.left(end) - self.left(start), 0), 3)

    def ticks(self) -> list[Tick]:
        """At round local times, at most seven."""
        step = next((s for s in _STEPS if self.seconds / s <= _MOST_TICKS), self.seconds / 4)
        offset = _local(self.start).utcoffset() or datetime.timedelta()
        first = -(-(self.start + offset.total_seconds()) // step) * step - offset.total_seconds()
        count = max(0, int((self.end - first) // step) + 1)
        return [Tick(self.left(first + n * step), _tick_text(first + n * step, step))
                for n in range(count)]


def stacked(spans: ty.Iterable[tuple[float, float]], most: int) -> list[int]:
    """The row of each span, so that few overlap; spans are in order of their start.

    :param most: rows; what finds no place in them shares the last one.
    """
    free: list[float] = []
    rows = []
    for start, end in spans:
        row = next((n for n, until in enumerate(free) if until <= start), len(free))
        row = min(row, most - 1)
        if row == len(free):
            free.append(end)
        free[row] = max(free[row], end)
        rows.append(row)
    return rows


def moment(at: float) -> str:
    return f"{_local(at):%Y-%m-%d %H:%M:%S}"


def zone(at: float) -> str:
    return f"{_local(at):%Z, UTC%z}"


def length(seconds: float) -> str:
    """As long as it takes to tell it: ``34 ms``, ``2.41 s``, ``3 min 5 s``, ``2 h 10 min``."""
    units = (seconds * 1000, seconds, seconds / 60, seconds / 3600)
    kind = bisect.bisect((1, 120, 7200), seconds)
    if kind == 0:
        return f"{units[0]:.0f} ms"
    if kind == 1:
        return f"{units[1]:.2f} s"
    if kind == 2:
        return f"{int(units[2])} min {seconds % 60:.0f} s"
    return f"{int(units[3])} h {int(units[2] % 60)} min"


def _tick_text(at: float, step: float) -> str:
    if step < 60:
        return f"{_local(at):%H:%M:%S}"
    if step < 86400:
        return f"{_local(at):%b %d %H:%M}"
    return f"{_local(at):%b %d}"


def _local(at: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at).astimezone()
