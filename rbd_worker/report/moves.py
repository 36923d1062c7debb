# SPDX-License-Identifier: Apache-2.0
"""Migrations put together from what both of their hosts wrote down."""

import dataclasses
import statistics
import typing as ty

from rbd_worker.report import timeline
from rbd_worker.report.timeline import Timeline
from rpcapi import history as contract

#: Not settled, the journal of no host says more.
OPEN = "open"
OUTCOMES = ("completed", "failed", "cancelled", "unresolved", OPEN)
#: What a worker of another version may say.
OTHER = "other"


@dataclasses.dataclass(frozen=True)
class Side:
    """A migration as one of its hosts has it."""

    host: str
    entry: contract.Entry
    timeline: Timeline

    @property
    def outcome(self) -> str:
        outcome = self.entry.outcome or OPEN
        return outcome if outcome in OUTCOMES else OTHER


@dataclasses.dataclass(frozen=True)
class Move:
    """One migration: the source first, as far as each side was read.

    :ivar start, end: seconds since the epoch; ``end`` None while a side is open.
    :ivar last: when something happened for the last time.
    """

    key: str
    sides: tuple[Side, ...]

    @property
    def entry(self) -> contract.Entry:
        """What stands for the whole; the source knows most."""
        return self.sides[0].entry

    @property
    def hosts(self) -> tuple[str, str]:
        return self.entry.source, self.entry.destination

    @property
    def start(self) -> float:
        return min(side.timeline.start for side in self.sides)

    @property
    def end(self) -> float | None:
        ends = [side.timeline.end for side in self.sides]
        known = [end for end in ends if end is not None]
        return max(known) if len(known) == len(ends) else None

    @property
    def last(self) -> float:
        return max(side.timeline.last for side in self.sides)

    @property
    def outcome(self) -> str:
        """The source's, unless one of the two is still in doubt or at work."""
        outcomes = [side.outcome for side in self.sides]
        return next((each for each in ("unresolved", OPEN) if each in outcomes), outcomes[0])

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """Host and sentence of each side that gave one."""
        return [(side.host, side.entry.reason) for side in self.sides if side.entry.reason]

    @property
    def retries(self) -> int | None:
        return _first(side.timeline.retries for side in self.sides)

    @property
    def downtime_ms(self) -> int | None:
        return _first(side.timeline.downtime_ms for side in self.sides)


@dataclasses.dataclass(frozen=True)
class Summary:
    """Numbers of many migrations; None where none of them has it.

    :ivar outcomes: how many have each of ``OUTCOMES``.
    :ivar seconds: the middle and the longest of those that have completed.
    :ivar downtime_ms: the middle and the longest of those where it is known.
    :ivar retries: all together.
    """

    outcomes: dict[str, int]
    seconds: tuple[float, float] | None
    downtime_ms: tuple[float, float] | None
    retries: int


def together(entries: ty.Iterable[tuple[str, contract.Entry]]) -> list[Move]:
    """Migrations, newest first, from host and entry in any order."""
    sides: dict[str, dict[str, Side]] = {}
    for host, entry in entries:
        sides.setdefault(entry.migration, {})[entry.role] = Side(
            host, entry, timeline.of(entry))
    moves = [Move(key, tuple(by_role[role] for role in ("source", "destination")
                             if role in by_role)) for key, by_role in sides.items()]
    return sorted(moves, key=lambda move: move.start, reverse=True)


def summary(moves: ty.Sequence[Move]) -> Summary:
    outcomes = {each: sum(move.outcome == each for move in moves) for each in OUTCOMES}
    took = [move.end - move.start for move in moves
            if move.end is not None and move.outcome == "completed"]
    paused = [move.downtime_ms for move in moves if move.downtime_ms is not None]
    return Summary(outcomes, _middle_and_longest(took), _middle_and_longest(paused),
                   sum(move.retries or 0 for move in moves))


def _middle_and_longest(values: ty.Sequence[float]) -> tuple[float, float] | None:
    return (statistics.median(values), max(values)) if values else None


def _first(values: ty.Iterable[int | None]) -> int | None:
    return next((value for value in values if value is not None), None)
