# SPDX-License-Identifier: Apache-2.0
"""One HTML page with a small SVG for each table: quartiles as a bar, the median in it."""

import html

from tests.benchmarks.report import number
from tests.benchmarks.results import Result, Run, Table

_ROW, _LABEL, _WIDTH, _FIGURES = 22, 260, 360, 150

_STYLE = """\
body { font: 14px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em;
       color-scheme: light dark; background: Canvas; color: CanvasText }
table { border-collapse: collapse } td, th { padding: .1em .8em .1em 0; text-align: left }
.no { color: #c62828 } .yes { color: #2e7d32 } svg { max-width: 100% }
svg text { font-size: 12px; fill: currentColor }
.ours { fill: #1565c0 } .other { fill: #9e9e9e } .median, .range { stroke: currentColor }"""


def page(run: Run) -> str:
    """The whole page; it loads nothing."""
    parts = [_goals(run), *(_section(result) for result in run.results)]
    about = (f"{run.taken}, {run.cores} cores, {run.machine}, load {run.load:.1f} at the "
             "beginning. Bars: first to third quartile; stroke: median; line: all values.")
    return (f"<!doctype html><meta charset=utf-8><title>rbd-worker: benchmarks</title>"
            f"<style>{_STYLE}</style><h1>rbd-worker: benchmarks</h1>"
            f"<p>{html.escape(about)}</p>{''.join(parts)}")


def _goals(run: Run) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(result.name)}<td>{html.escape(goal.text)}"
        f"<td>{number(goal.value)}<td>{goal.sign} {number(goal.limit)}"
        f"<td class={'yes' if goal.is_reached else 'no'}>{'yes' if goal.is_reached else 'no'}"
        for result in run.results for goal in result.goals)
    return f"<table><tr><th>what<th>goal<th>figure<th>limit<th>reached{rows}</table>"


def _section(result: Result) -> str:
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in result.notes)
    if result.failure:
        notes += f"<p class=no>{html.escape(result.failure)}</p>"
    return f"<h2>{html.escape(result.name)}</h2>{''.join(map(_chart, result.tables))}{notes}"


def _chart(table: Table) -> str:
    top = max((max(one.values) for one in table.series), default=0) or 1.0

    def at(value: float) -> float:
        return _LABEL + _WIDTH * max(value, 0.0) / top

    bars = []
    for row, one in enumerate(table.series):
        middle = row * _ROW + _ROW / 2
        first, third = one.quartiles
        bars.append(
            f"<text x=0 y={middle + 4}>{html.escape(one.name)}</text>"
            f"<line class=range x1={at(min(one.values)):.1f} x2={at(max(one.values)):.1f} "
            f"y1={middle} y2={middle} />"
            f"<rect class={'other' if row else 'ours'} x={at(first):.1f} y={middle - 6} "
            f"width={max(at(third) - at(first), 2):.1f} height=12 />"
            f"<line class=median x1={at(one.median):.1f} x2={at(one.median):.1f} "
            f"y1={middle - 8} y2={middle + 8} />"
            f"<text x={_LABEL + _WIDTH + 8} y={middle + 4}>{number(one.median)} "
            f"{html.escape(table.unit)}</text>")
    width, height = _LABEL + _WIDTH + _FIGURES, _ROW * len(table.series)
    return (f"<h3>{html.escape(table.title)}</h3><svg viewBox='0 0 {width} {height}' "
            f"width={width} height={height} role=img>{''.join(bars)}</svg>")
