# SPDX-License-Identifier: Apache-2.0
"""The page: one file that needs nothing else, no network and no script to be read.

Everything that comes from a journal or another host is escaped by the
template, whose default that is; besides, the page's own policy lets no other
script than the file's own run, and loads nothing.
"""

import base64
import hashlib
import importlib.resources
import typing as ty

import jinja2
import markupsafe

from rbd_worker.model import Phase
from rbd_worker.report import axis, gather, moves, views
from rbd_worker.report.axis import Axis
from rbd_worker.version import VERSION

#: Rows of one host's lane; what is at the same time as all of them is drawn over the last.
MOST_ROWS = 8
#: The least width of a mark for which others make room, in percent of a lane.
_LEAST = 0.7


class Mark(ty.NamedTuple):
    outcome: str
    target: str
    title: str
    filter: markupsafe.Markup
    left: float
    width: float
    row: int


class Lane(ty.NamedTuple):
    host: str
    marks: list[Mark]
    rows: int


class Number(ty.NamedTuple):
    name: str
    value: str
    more: str = ""
    kind: str = ""


def render(report: gather.Report) -> str:
    """The whole page as HTML."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    script = _file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.from_string(_file("page.html.j2")).render(
        script=markupsafe.Markup(script), script_hash=f"sha256-{digest}",
        style=markupsafe.Markup(_file("page.css")), version=VERSION,
        outcomes=moves.OUTCOMES, phases=[phase.value for phase in Phase], **_values(report))


def _values(report: gather.Report) -> dict[str, ty.Any]:
    found = report.moves
    shown = [views.view(move, report.made) for move in found]
    scale = _scale(report, found)
    hosts = [part.host for part in report.parts]
    named = sorted({host for move in found for host in move.hosts} | set(hosts))
    return {
        "hosts": hosts, "hosts_named": named, "moves": shown,
        "since": axis.moment(report.since), "until": axis.moment(report.until),
        "made": axis.moment(report.made), "zone": axis.zone(report.made),
        "nothing": f"No migration was recorded on {' or '.join(hosts)} between "
                   f"{axis.moment(report.since)} and {axis.moment(report.until)}.",
        "trouble": [(part.host, each) for part in report.parts for each in _trouble(part)],
        "doubtful": [move for move in shown if move.outcome == "unresolved"],
        "numbers": _numbers(found, report), "ticks": scale.ticks(),
        "lanes": [_lane(host, report, found, scale) for host in hosts],
        "looked": any(part.leftovers is not None for part in report.parts),
        "leftovers": [each for part in report.parts for each in _leftovers(part)],
        "trash": _trash(report, found), "trash_sum": _trash_sum(report)}


def _trouble(part: gather.HostPart) -> ty.Iterator[str]:
    yield from part.trouble
    if part.is_cut:
        yield "it has more migrations of that time than are shown: raise --limit"
    if len(part.trash) < part.trash_total:
        yield f"the newest {len(part.trash)} of its {part.trash_total} items of trash are shown"


def _scale(report: gather.Report, found: ty.Sequence[moves.Move]) -> Axis:
    """From the first to the last that happened, with some room."""
    times = [t for move in found for t in (move.start, move.last if move.end else report.made)]
    times += [item.at for part in report.parts for item in part.trash
              if report.since <= item.at <= report.until]
    start = max(min(times, default=report.since), report.since)
    end = max(max(times, default=report.until), start + 10)
    room = (end - start) * 0.02
    return Axis(start - room, end + room)


def _lane(host: str, report: gather.Report, found: ty.Sequence[moves.Move],
          scale: Axis) -> Lane:
    here = [move for move in reversed(found) if host in move.hosts]
    spans = [(scale.left(m.start), scale.left(m.last if m.end else report.made)) for m in here]
    rows = axis.stacked([(a, max(b, a + _LEAST)) for a, b in spans], MOST_ROWS)
    marks = [Mark(move.outcome, f"m-{move.key}", views.title(move, report.made),
                  views.filter_of(move.hosts, move.outcome, move.entry.instance, move.key,
                                  move.entry.request_id,
                                  *(f"{h} {sentence}" for h, sentence in move.reasons)),
                  a, round(b - a, 3), row)
             for move, (a, b), row in zip(here, spans, rows, strict=True)]
    items = [item for part in report.parts if part.host == host for item in part.trash
             if report.since <= item.at <= report.until]
    last = max(rows, default=-1) + 1
    marks += [Mark("trashed", f"t-{item.id}",
                   f"{axis.moment(item.at)}: the directory of {item.instance} went to the trash",
                   views.filter_of([host], "", item.instance, item.id, item.reason),
                   scale.left(item.at), 0, last) for item in items]
    return Lane(host, marks, last + bool(items) or 1)


def _numbers(found: ty.Sequence[moves.Move], report: gather.Report) -> list[Number]:
    total = moves.summary(found)
    numbers = [Number("migrations", str(len(found)))]
    numbers += [Number(each, str(count), kind=each) for each, count in total.outcomes.items()
                if count or each in ("completed", "failed", "unresolved")]
    if total.seconds:
        numbers.append(Number("median time", axis.length(total.seconds[0]),
                              f"at most {axis.length(total.seconds[1])}"))
    if total.downtime_ms:
        numbers.append(Number("median downtime", f"{total.downtime_ms[0]:.0f} ms",
                              f"at most {total.downtime_ms[1]:.0f} ms"))
    numbers.append(Number("retries", str(total.retries)))
    items = sum(part.trash_total for part in report.parts)
    size = sum(part.trash_bytes for part in report.parts)
    numbers.append(Number("in the trash", str(items), _mib(size), "trashed"))
    return numbers


def _leftovers(part: gather.HostPart) -> ty.Iterator[dict[str, ty.Any]]:
    for each in part.leftovers or ():
        yield {"host": part.host, "verdict": each.verdict, "instance": each.instance,
               "kind": {"leftover": "failed", "kept": "unresolved"}.get(each.verdict, "cancelled"),
               "holder": each.holder, "reason": each.reason,
               "filter": views.filter_of([part.host], "", each.instance, each.holder,
                                         each.reason)}


def _trash(report: gather.Report, found: ty.Sequence[moves.Move]) -> list[dict[str, ty.Any]]:
    keys = {move.key for move in found}
    items = sorted(((part.host, item) for part in report.parts for item in part.trash),
                   key=lambda pair: pair[1].at, reverse=True)
    return [{"host": host, "id": item.id, "at": axis.moment(item.at), "size": _mib(item.bytes),
             "reason": item.reason, "is_proven": item.is_proven,
             "target": f"m-{item.migration}" if item.migration in keys else "",
             "filter": views.filter_of([host], "", item.instance, item.id, item.reason)}
            for host, item in items]


def _trash_sum(report: gather.Report) -> str:
    items = sum(part.trash_total for part in report.parts)
    return (f"{items} {'directory' if items == 1 else 'directories'}, "
            f"{_mib(sum(part.trash_bytes for part in report.parts))}, newest first")


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.1f} MiB"


def _file(name: str) -> str:
    return (importlib.resources.files("rbd_worker.report") / name).read_text(encoding="utf-8")
