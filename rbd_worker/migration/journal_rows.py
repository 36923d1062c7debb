# SPDX-License-Identifier: Apache-2.0
"""The journal's rows as values; one that makes no sense is refused as bad input is.

SQLite checks its pages and the types of columns.  A flipped bit in a name or
a number gets past that, so each value has to be one that was once written.
"""

import dataclasses
import enum
import json
import typing as ty

from rbd_worker import model
from rbd_worker.model import Executor, Migration, Outcome, Phase, Role


class StepState(enum.StrEnum):
    DOING = "doing"
    DONE = "done"
    UNDOING = "undoing"
    UNDONE = "undone"
    #: Not a step's state: something worth a line in the timeline.
    NOTE = "note"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row: a migration in one role, as it stands.

    :ivar opened, closed: seconds since the epoch; ``closed`` None while open.
    :ivar outcome: None while nothing is settled; UNRESOLVED while open and in doubt.
    """

    migration: Migration
    opened: float
    phase: Phase
    outcome: Outcome | None
    reason: str
    closed: float | None

    @property
    def is_open(self) -> bool:
        return self.closed is None


@dataclasses.dataclass(frozen=True)
class Record:
    at: float
    step: str
    state: StepState
    data: dict[str, ty.Any]


@dataclasses.dataclass(frozen=True)
class Refusal:
    at: float
    origin: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Work:
    """Something beside migrations that must survive the worker: one row, rewritten as it goes on.

    :ivar kind: who knows what ``state`` and ``data`` mean.
    :ivar at: when it was begun, seconds since the epoch.
    """

    id: str
    kind: str
    instance: str
    state: str
    at: float
    data: dict[str, ty.Any]


def work(id_: str, kind: str, instance: str, state: str, at: float, data: str) -> Work:
    """:raises ValueError, errors.BadInput: a value that was never written."""
    return Work(id_, kind, model.canonical_uuid(instance), state, at, _object(data))


def entry(key: str, instance: str, role: str, source: str, destination: str, executor: str,
          request_id: str, number: int | None, opened: float, phase: str, outcome: str,
          reason: str, closed: float | None) -> Entry:
    """:raises ValueError, errors.BadInput: a value that was never written."""
    migration = Migration(key, model.canonical_uuid(instance), Role(role),
                          model.host_name(source), model.host_name(destination),
                          Executor(executor), request_id, number)
    return Entry(migration, opened, Phase(phase), Outcome(outcome) if outcome else None,
                 reason, closed)


def record(at: float, step: str, state: str, data: str) -> Record:
    """:raises ValueError: a value that was never written."""
    return Record(at, step, StepState(state), _object(data))


def _object(data: str) -> dict[str, ty.Any]:
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value
