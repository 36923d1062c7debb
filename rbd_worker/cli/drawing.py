# SPDX-License-Identifier: Apache-2.0
"""One migration as bars over time, in a terminal."""

import time
import typing as ty

from rich import console, table, text

from rbd_worker.model import Phase
from rbd_worker.report import axis, timeline
from rpcapi import history as contract

_COLOURS = {Phase.PRE: "blue", Phase.LIVE: "green", Phase.POST: "magenta",
            Phase.ROLLBACK: "yellow"}
#: Columns of text beside the bars, and the least that is left for these.
_BESIDE, _LEAST = 62, 20


def draw(entry: contract.Entry, stream: ty.TextIO) -> None:
    """Its steps in the colours of their phases, then its figures in one line."""
    line = timeline.of(entry)
    screen = console.Console(file=stream, highlight=False)
    end = line.end or max(time.time(), line.last)
    scale = axis.Axis(line.start, max(end, line.start + 1e-3))
    width = max(_LEAST, screen.width - _BESIDE)
    shown = table.Table(box=None, padding=(0, 1), title_justify="left", title=text.Text(
        f"{entry.role} {entry.source if entry.role == 'source' else entry.destination}"))
    for name, right in (("phase", False), ("step", False), ("", False), ("took", True)):
        shown.add_column(name, justify="right" if right else "left", no_wrap=True)
    for bar in line.bars:
        shown.add_row(bar.phase.value if bar.phase else "", text.Text(bar.name),
                      _drawn(bar, scale, width, end), _took(bar, end))
    screen.print(shown)
    screen.print(text.Text("; ".join(_figures(entry, line, end))))


def _drawn(bar: timeline.Bar, scale: axis.Axis, width: int, now: float) -> text.Text:
    left = min(int(scale.left(bar.start) * width / 100), width - 1)
    right = max(left + 1, round(scale.left(bar.end or now) * width / 100))
    colour = _COLOURS[bar.phase] if bar.phase else "white"
    return text.Text(" " * left).append(("█" if bar.is_whole else "░") * (right - left), colour)


def _took(bar: timeline.Bar, now: float) -> str:
    length = axis.length(max(0.0, (bar.end or now) - bar.start))
    if bar.is_whole:
        return length
    return f"{length}, goes on" if bar.end is None else f"{length}, not done"


def _figures(entry: contract.Entry, line: timeline.Timeline, now: float) -> ty.Iterator[str]:
    yield f"{entry.outcome or 'open'} after {axis.length(max(0.0, now - line.start))}"
    if line.retries is not None:
        yield f"retries: {line.retries}"
    if line.downtime_ms is not None:
        yield f"downtime: {line.downtime_ms} ms"
    if entry.reason:
        yield entry.reason
