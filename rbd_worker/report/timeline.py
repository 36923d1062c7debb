# SPDX-License-Identifier: Apache-2.0
"""One entry of a journal as bars over time: its steps, what is worth a line, its figures."""

import dataclasses
import typing as ty

from rbd_worker.migration import history, plans
from rbd_worker.model import Executor, Phase, Role
from rpcapi import history as contract

#: Of what a step kept, what tells a reader something; the rest is for the worker itself.
_TOLD = ("sentence", "error", "reason", "outcome", "skipped", "kept", "removed", "trash", "was",
         "note", "shared", "attempts", "downtime_ms", "total_ms")
_MAX_TOLD = 400

#: Phase of each step that some plan has.
_PHASES = {step.name: step.phase for role in Role for executor in Executor
           for step in plans.plan(role, executor)}


@dataclasses.dataclass(frozen=True)
class Bar:
    """One step, or its undo.

    :ivar start, end: seconds since the epoch; ``end`` None while it goes on.
    :ivar phase: None for a step that this version does not know.
    :ivar is_whole: whether it came to its end; an unfinished one of a closed
        entry ends where the plan turned back.
    """

    step: str
    phase: Phase | None
    start: float
    end: float | None
    is_whole: bool = True
    told: str = ""

    @property
    def name(self) -> str:
        """Without the word that all steps have in common."""
        words = self.step.removeprefix("ensure_").replace("_", " ")
        return f"undo: {words}" if self.phase is Phase.ROLLBACK else words


@dataclasses.dataclass(frozen=True)
class Note:
    at: float
    name: str
    told: str


@dataclasses.dataclass(frozen=True)
class Timeline:
    """What one host did for one migration.

    :ivar start, end: of the whole; ``end`` None while the entry is open.
    :ivar retries: attempts after the first to prepare the destination; None where not recorded.
    :ivar downtime_ms: of the guest; None where not known: only who orders the move is told.
    """

    start: float
    end: float | None
    bars: tuple[Bar, ...]
    notes: tuple[Note, ...]
    retries: int | None
    downtime_ms: int | None

    @property
    def last(self) -> float:
        """When something happened for the last time."""
        ends = [bar.end or bar.start for bar in self.bars] + [note.at for note in self.notes]
        return self.end or max(ends, default=self.start)


def of(entry: contract.Entry) -> Timeline:
    """:param entry: with its records."""
    bars: list[Bar] = []
    notes: list[Note] = []
    begun: dict[str, contract.Record] = {}
    for record in entry.records:
        if record.state in ("doing", "undoing"):
            begun[record.step] = record
        elif record.state in ("done", "undone"):
            bars.append(_bar(begun.pop(record.step, record), record))
        else:
            notes.append(Note(record.at, record.step.replace("_", " "), _told(record)))
            if record.step == "turned_back":  # what was being done is not done any more
                bars += [_cut_off(each, record.at) for each in begun.values()]
                begun.clear()
    end = entry.closed or None
    bars += [_cut_off(each, end) for each in begun.values()]
    attempts, downtime = _number(entry, "attempts"), _number(entry, "downtime_ms")
    return Timeline(entry.opened, end, tuple(sorted(bars, key=lambda bar: bar.start)),
                    tuple(notes), None if attempts is None else max(0, attempts - 1), downtime)


def _bar(first: contract.Record, last: contract.Record) -> Bar:
    return Bar(last.step, _phase(last), first.at, last.at, told=_told(last))


def _cut_off(first: contract.Record, end: float | None) -> Bar:
    return Bar(first.step, _phase(first), first.at, end, is_whole=False)


def _phase(record: contract.Record) -> Phase | None:
    if record.state in ("undoing", "undone"):
        return Phase.ROLLBACK
    return _PHASES.get(record.step)


def _told(record: contract.Record) -> str:
    data = history.data_of(record)
    said = [str(data[key]) if key in ("sentence", "reason") else f"{key.replace('_', ' ')}: "
            f"{data[key]}" for key in _TOLD
            if isinstance(data.get(key), str | int | float) and data[key] is not False]
    text = "; ".join(said)
    return text if len(text) <= _MAX_TOLD else f"{text[:_MAX_TOLD]}…"


def _number(entry: contract.Entry, name: str) -> int | None:
    """The last that any step kept under this name."""
    found: ty.Any = None
    for record in entry.records:
        found = history.data_of(record).get(name, found)
    return found if isinstance(found, int) and not isinstance(found, bool) else None
