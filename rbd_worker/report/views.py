# SPDX-License-Identifier: Apache-2.0
"""One migration as the page shows it: words and places, ready to be put into the template."""

import dataclasses
import typing as ty

import markupsafe

from rbd_worker.report import axis, moves, timeline
from rbd_worker.report.axis import Axis


class BarView(ty.NamedTuple):
    name: str
    phase: str
    left: float
    width: float
    took: str = ""
    told: str = ""
    begins: str = ""
    is_whole: bool = True


class NoteView(ty.NamedTuple):
    at: str
    name: str
    told: str


class SideView(ty.NamedTuple):
    host: str
    role: str
    outcome: str
    bars: list[BarView]
    notes: list[NoteView]


@dataclasses.dataclass(frozen=True)
class MoveView:
    """``filter`` holds the attributes that the page's filters look at."""

    key: str
    instance: str
    source: str
    destination: str
    outcome: str
    began: str
    figures: list[str]
    reasons: list[tuple[str, str]]
    ids: list[tuple[str, str]]
    strip: list[BarView]
    sides: list[SideView]
    missing: str
    filter: markupsafe.Markup


def view(move: moves.Move, now: float) -> MoveView:
    """:param now: until then an open migration lasts, in seconds since the epoch."""
    scale = Axis(move.start, move.last if move.end else max(move.last, min(now, move.last + 1)))
    entry = move.entry
    return MoveView(
        key=move.key, instance=entry.instance, source=entry.source,
        destination=entry.destination, outcome=move.outcome, began=axis.moment(move.start),
        figures=list(_figures(move, now)), reasons=move.reasons, ids=list(_ids(move)),
        strip=[_bar(bar, scale, now) for bar in move.sides[0].timeline.bars],
        sides=[_side(side, scale, now) for side in move.sides], missing=_missing(move),
        filter=filter_of(move.hosts, move.outcome, entry.instance, move.key, entry.request_id,
                         *(f"{host} {sentence}" for host, sentence in move.reasons),
                         *(note.told for side in move.sides for note in side.timeline.notes)))


def filter_of(hosts: ty.Iterable[str], outcome: str, instance: str,
              *texts: str) -> markupsafe.Markup:
    """What the filters look at, as attributes; ``outcome`` empty where it has none."""
    words = " ".join((*hosts, instance, *texts)).lower()
    return markupsafe.Markup(
        'data-hosts="{}" data-outcome="{}" data-instance="{}" data-text="{}"').format(
            " ".join(hosts), outcome, instance, words)


def title(move: moves.Move, now: float) -> str:
    """What a mark says when it is pointed at."""
    return (f"{axis.moment(move.start)}: {move.entry.instance} from {move.entry.source} to "
            f"{move.entry.destination}, {move.outcome}, {', '.join(_figures(move, now))}")


def _figures(move: moves.Move, now: float) -> ty.Iterator[str]:
    if move.end is not None:
        yield f"took {axis.length(move.end - move.start)}"
    else:
        yield f"open for {axis.length(max(0.0, now - move.start))}"
    if move.downtime_ms is not None:
        yield f"downtime {move.downtime_ms} ms"
    if move.retries is not None:
        yield {0: "no retry", 1: "1 retry"}.get(move.retries, f"{move.retries} retries")


def _ids(move: moves.Move) -> ty.Iterator[tuple[str, str]]:
    yield "migration", move.key
    if move.entry.number:
        yield "number", str(move.entry.number)
    if move.entry.request_id:
        yield "request", move.entry.request_id
    yield "moved by", move.entry.executor


def _side(side: moves.Side, scale: Axis, now: float) -> SideView:
    line = side.timeline
    return SideView(side.host, side.entry.role, side.outcome,
                    [_bar(bar, scale, now) for bar in line.bars],
                    [NoteView(f"+{axis.length(max(0.0, note.at - scale.start))}", note.name,
                              note.told) for note in line.notes])


def _bar(bar: timeline.Bar, scale: Axis, now: float) -> BarView:
    end = bar.end if bar.end is not None else max(now, bar.start)
    took = axis.length(end - bar.start) if bar.is_whole else (
        "goes on" if bar.end is None else "not done")
    return BarView(bar.name, bar.phase.value if bar.phase else "other", scale.left(bar.start),
                   scale.width(bar.start, end), took, bar.told,
                   f"+{axis.length(max(0.0, bar.start - scale.start))}",
                   bar.is_whole or bar.end is None)


def _missing(move: moves.Move) -> str:
    if len(move.sides) == 2:
        return ""
    other = next(host for host in (*reversed(move.hosts), move.hosts[0])
                 if host != move.sides[0].host)
    return (f"What {other} wrote down was not read: give it with --host, or it has forgotten "
            "the migration.")
