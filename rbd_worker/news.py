# SPDX-License-Identifier: Apache-2.0
"""What happens to migrations, told to whoever listens: the one way out for insight.

The parts that do the work tell here what is already durable or over; they know
neither metrics nor notifications.  Listening changes nothing: a listener that
fails is logged, and the work goes on.
"""

import collections.abc
import logging
import typing as ty

from rbd_worker.model import Migration, Outcome, Phase

LOG = logging.getLogger(__name__)

#: A step or note, its state as the journal writes it, and what was kept with it.
Told: ty.TypeAlias = tuple[str, str, collections.abc.Mapping[str, ty.Any]]


class Listener:
    """Hears nothing; subclasses take what they want.

    Called from any thread, from several at a time, and before the caller goes
    on: a method returns at once and waits for nobody.  ``at`` is in seconds
    since the epoch.
    """

    def begun(self, migration: Migration, at: float) -> None:
        """A new entry is in the journal."""

    def resumed(self, migration: Migration, opened: float, is_unresolved: bool) -> None:
        """An open entry of an earlier run is taken up again."""

    def recorded(self, migration: Migration, records: collections.abc.Sequence[Told],
                 phase: Phase | None, at: float) -> None:
        """Records are in the journal; ``phase`` is the one that they begin, if any."""

    def marked(self, migration: Migration, outcome: Outcome | None, reason: str) -> None:
        """An open entry is unresolved, or (None) no longer; again where the reason is another."""

    def ended(self, migration: Migration, outcome: Outcome, reason: str, at: float) -> None:
        """The entry is closed."""

    def trashed(self, instance: str, item: str, cause: str) -> None:
        """A directory is in the trash; ``cause`` is one of :data:`CAUSES`."""

    def audited(self, verdicts: collections.abc.Mapping[str, int]) -> None:
        """An audit has ended; how many directories got which verdict."""

    def wrote(self, seconds: float) -> None:
        """The journal made one write durable."""

    def called(self, method: str, result: str) -> None:
        """A call of a peer was answered."""

    def hook_answered(self, answer: str, seconds: float) -> None:
        """The libvirt hook got its answer: ``pass``, ``refuse`` or ``xml``."""


#: Why a directory left: a migration's plan, a guest about to come, or the audit.
CAUSES = ("plan", "arrival", "audit")


class News(Listener):
    """Passes everything on; whoever listens is added before the first thread runs."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def add(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def begun(self, migration: Migration, at: float) -> None:
        self._tell(lambda one: one.begun(migration, at))

    def resumed(self, migration: Migration, opened: float, is_unresolved: bool) -> None:
        self._tell(lambda one: one.resumed(migration, opened, is_unresolved))

    def recorded(self, migration: Migration, records: collections.abc.Sequence[Told],
                 phase: Phase | None, at: float) -> None:
        self._tell(lambda one: one.recorded(migration, records, phase, at))

    def marked(self, migration: Migration, outcome: Outcome | None, reason: str) -> None:
        self._tell(lambda one: one.marked(migration, outcome, reason))

    def ended(self, migration: Migration, outcome: Outcome, reason: str, at: float) -> None:
        self._tell(lambda one: one.ended(migration, outcome, reason, at))

    def trashed(self, instance: str, item: str, cause: str) -> None:
        self._tell(lambda one: one.trashed(instance, item, cause))

    def audited(self, verdicts: collections.abc.Mapping[str, int]) -> None:
        self._tell(lambda one: one.audited(verdicts))

    def wrote(self, seconds: float) -> None:
        self._tell(lambda one: one.wrote(seconds))

    def called(self, method: str, result: str) -> None:
        self._tell(lambda one: one.called(method, result))

    def hook_answered(self, answer: str, seconds: float) -> None:
        self._tell(lambda one: one.hook_answered(answer, seconds))

    def _tell(self, what: ty.Callable[[Listener], None]) -> None:
        for listener in self._listeners:
            try:
                what(listener)
            except Exception:  # a migration must not end because nobody could count it
                LOG.exception("%s could not take a piece of news", type(listener).__name__)
