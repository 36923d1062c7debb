# SPDX-License-Identifier: Apache-2.0
"""For how long do both hosts watch a guest's disk while it moves?

From when the destination's QEMU opens the images until the source's is gone.
A watch that stays longer than the move keeps the source's directory from its
proof, and points at a QEMU that did not end.  Ceph does not tell of it by
itself, so the source's worker looks once a second, at one image of a guest, and
at so many guests at a time; others are not measured.
"""

import dataclasses
import logging
import threading
import time
import typing as ty

from rbd_worker import errors, news
from rbd_worker.insight.families import Families
from rbd_worker.model import Executor, Migration, Outcome, Phase, RbdImage, Role

LOG = logging.getLogger(__name__)

#: The note of a guest that nova-compute moves; the phase alone may begin hours before.
_BEGAN = "guest_began_to_move"

#: Seconds between two looks at one guest.
LOOK_SECONDS = 1.0
#: Guests that are looked at at the same time.
MAX_WATCHED = 8
#: Seconds after the end of the move for which a watch that stays is followed.
TAIL_SECONDS = 120.0


@dataclasses.dataclass(frozen=True)
class Sight:
    """How to look; each may raise :class:`errors.Error`.

    :ivar images: of a guest of this host, by its UUID.
    :ivar watchers: the IP addresses that watch an image.
    :ivar own: those of this host.
    :ivar theirs: those of a migration's other host; none while it does not have the guest.
    """

    images: ty.Callable[[str], ty.Sequence[RbdImage]]
    watchers: ty.Callable[[RbdImage], frozenset[str]]
    own: ty.Callable[[], frozenset[str]]
    theirs: ty.Callable[[Migration], frozenset[str]]


@dataclasses.dataclass
class _Watched:
    """:ivar moved: when the guest had left, or had come to stay; None before."""

    migration: Migration
    image: RbdImage | None = None
    theirs: frozenset[str] = frozenset()
    first: float | None = None
    last: float = 0.0
    moved: float | None = None


class Overlap(news.Listener):
    """Hears which guests move as source; looks from a thread of its own.

    :param clock: monotonic seconds.
    """

    def __init__(self, families: Families, sight: Sight,
                 clock: ty.Callable[[], float] = time.monotonic) -> None:
        self._families = families
        self._sight = sight
        self._clock = clock
        self._changed = threading.Condition()
        self._watched: dict[str, _Watched] = {}
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="overlap", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """It ends by itself then; a look at Ceph is not waited for."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def recorded(self, migration: Migration, records: ty.Sequence[news.Told],
                 phase: Phase | None, at: float) -> None:
        if migration.role is not Role.SOURCE:
            return
        if phase in (Phase.POST, Phase.ROLLBACK):
            self._moved(migration)
        elif ((phase is Phase.LIVE and migration.executor is Executor.LIBVIRT)
                or any(step == _BEGAN for step, _, _ in records)):
            self._add(migration)

    def marked(self, migration: Migration, outcome: Outcome | None, reason: str) -> None:
        if outcome is Outcome.UNRESOLVED:  # it may stay so for days
            self._moved(migration)

    def ended(self, migration: Migration, outcome: Outcome, reason: str, at: float) -> None:
        self._moved(migration)

    def look(self) -> None:
        """Once at each of them."""
        with self._changed:
            watched = list(self._watched.values())
        for one in watched:
            try:
                is_over = self._look_at(one)
            except errors.Error as e:
                LOG.debug("%s who watches its disks cannot be told: %s", one.migration, e.sentence)
                is_over = self._has_waited(one)
            if is_over:
                self._forget(one)

    # -- inside --------------------------------------------------------------

    def _add(self, migration: Migration) -> None:
        with self._changed:
            if len(self._watched) < MAX_WATCHED:
                self._watched.setdefault(migration.key, _Watched(migration))
                self._changed.notify_all()

    def _moved(self, migration: Migration) -> None:
        with self._changed:
            one = self._watched.get(migration.key)
            if one is not None and one.moved is None and migration.role is Role.SOURCE:
                one.moved = self._clock()

    def _look_at(self, one: _Watched) -> bool:
        """Whether there is no more to be seen."""
        if one.image is None:
            images = self._sight.images(one.migration.instance)
            if not images:
                return True
            one.image = images[0]
        own, seen = self._sight.own(), self._sight.watchers(one.image)
        others = seen - own
        if own & seen and others and not one.theirs:
            one.theirs = self._sight.theirs(one.migration)  # rbd-mirror watches, too
        if own & seen and others & one.theirs:
            one.last = self._clock()
            one.first = one.last if one.first is None else one.first
            return self._has_waited(one)
        return one.moved is not None

    def _has_waited(self, one: _Watched) -> bool:
        return one.moved is not None and self._clock() - one.moved > TAIL_SECONDS

    def _forget(self, one: _Watched) -> None:
        with self._changed:
            self._watched.pop(one.migration.key, None)
        if one.first is not None:
            self._families.overlap.observe(one.last - one.first)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._watched or self._is_stopped)
                if self._is_stopped:
                    return
            try:
                self.look()
            except Exception:  # a binding's; nobody's migration hangs on it
                LOG.exception("who watches moving guests' disks is not known this time")
            with self._changed:
                self._changed.wait_for(lambda: self._is_stopped, LOOK_SECONDS)
