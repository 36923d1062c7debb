# SPDX-License-Identifier: Apache-2.0
"""Counts the news.

Durations are between times that the journal kept.  After a restart a migration
is measured from its beginning all the same; the phase it was in is not.
"""

import collections.abc
import dataclasses
import threading
import time
import typing as ty

from rbd_worker import news
from rbd_worker.insight.families import Families
from rbd_worker.model import Migration, Outcome, Phase, Role

#: The step that prepares the destination, the one that stages, the one that moves.
_PREPARED, _STAGED, _MOVED = (
    "ensure_destination_prepared", "ensure_files_staged", "ensure_guest_moved")


@dataclasses.dataclass
class _Open:
    """:ivar since: when ``phase`` began; None where that was before this run."""

    opened: float
    phase: Phase | None
    since: float | None
    is_unresolved: bool = False


class Counting(news.Listener):
    """Thread-safe."""

    def __init__(self, families: Families) -> None:
        self._families = families
        self._lock = threading.Lock()
        self._open: dict[tuple[str, Role], _Open] = {}

    def begun(self, migration: Migration, at: float) -> None:
        self._families.begun.labels(migration.role.value).inc()
        with self._lock:
            self._open[_key(migration)] = _Open(at, Phase.PRE, at)

    def resumed(self, migration: Migration, opened: float, is_unresolved: bool) -> None:
        with self._lock:
            self._open[_key(migration)] = _Open(opened, None, None, is_unresolved)

    def recorded(self, migration: Migration, records: collections.abc.Sequence[news.Told],
                 phase: Phase | None, at: float) -> None:
        for step, state, data in records:
            if state == "done":
                self._count_step(step, data)
        if phase is not None:
            self._enter(migration, phase, at)

    def marked(self, migration: Migration, outcome: Outcome | None, reason: str) -> None:
        with self._lock:
            seen = self._open.get(_key(migration))
            if seen is None:
                return
            is_new = outcome is Outcome.UNRESOLVED and not seen.is_unresolved
            seen.is_unresolved = outcome is Outcome.UNRESOLVED
        if is_new:
            self._families.doubted.labels(migration.role.value).inc()

    def ended(self, migration: Migration, outcome: Outcome, reason: str, at: float) -> None:
        role = migration.role.value
        self._families.ended.labels(role, outcome.value).inc()
        with self._lock:
            seen = self._open.pop(_key(migration), None)
        if seen is not None:
            self._families.seconds.labels(role, outcome.value).observe(max(0, at - seen.opened))
            self._observe_phase(role, seen, at)

    def trashed(self, instance: str, item: str, cause: str) -> None:
        self._families.trashed.labels(cause).inc()

    def audited(self, verdicts: collections.abc.Mapping[str, int]) -> None:
        for verdict in ("kept", "leftover", "trashed"):
            self._families.audited.labels(verdict).set(verdicts.get(verdict, 0))
        self._families.audit_ended.set(time.time())

    def wrote(self, seconds: float) -> None:
        self._families.journal.observe(seconds)

    def called(self, method: str, result: str) -> None:
        self._families.calls.labels(method, result).inc()

    def hook_answered(self, answer: str, seconds: float) -> None:
        self._families.hook.labels(answer).observe(seconds)

    # -- inside --------------------------------------------------------------

    def _count_step(self, step: str, data: collections.abc.Mapping[str, ty.Any]) -> None:
        if step == _PREPARED and data.get("attempts", 1) > 1:
            self._families.retries.inc(data["attempts"] - 1)
        if step == _STAGED:
            self._families.staged.inc(data.get("bytes", 0))
        if step == _MOVED and data.get("downtime_ms"):
            self._families.downtime.observe(data["downtime_ms"] / 1000)

    def _enter(self, migration: Migration, phase: Phase, at: float) -> None:
        with self._lock:
            seen = self._open.get(_key(migration))
            if seen is None or seen.phase is phase:
                return
            before = dataclasses.replace(seen)
            # a step of the phase that went on before this run says so again
            seen.phase, seen.since = phase, None if before.phase is None else at
        self._observe_phase(migration.role.value, before, at)

    def _observe_phase(self, role: str, seen: _Open, at: float) -> None:
        if seen.phase is not None and seen.since is not None:
            self._families.phases.labels(role, seen.phase.value).observe(
                max(0, at - seen.since))


def _key(migration: Migration) -> tuple[str, Role]:
    return migration.key, migration.role
