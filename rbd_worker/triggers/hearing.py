# SPDX-License-Identifier: Apache-2.0
"""What each heard message sets off.

A message is a hint: it opens an entry, wakes one, or has a leftover looked
at.  Nothing here touches a directory or a guest.  Runs in the tap's thread,
so everything that may block goes to the coordinator's pool; what must not be
lost is in the journal when a handler returns, because the tap then
acknowledges.
"""

import functools
import logging
import threading
import typing as ty

from rbd_worker import errors, request_context
from rbd_worker.migration import leftover
from rbd_worker.migration.coordinator import Coordinator
from rbd_worker.model import Migration, Role
from rbd_worker.triggers import casts

LOG = logging.getLogger(__name__)


#: Leftovers that are looked at, or wait for it, at a time; each may have to wait for a
#: peer, and the plans of migrations run in the same threads.
MAX_LOOKS = 64


class Hearing:
    """Turns message bodies into work for the coordinator.

    :param begun: told of the instance, key and destination of each migration
        that begins here; returns at once.
    """

    def __init__(self, coordinator: Coordinator,
                 begun: ty.Callable[[str, str, str], None] = lambda *_: None) -> None:
        self._coordinator = coordinator
        self._ports = coordinator.ports
        self._begun = begun
        self._host = coordinator.ports.settings.host
        self._lock = threading.Lock()
        self._looking: set[str] = set()

    def heard(self, body: bytes) -> None:
        """Take one message; when this returns it may be acknowledged.

        :param body: as the broker delivered it.
        :raises errors.JournalUnusable: it must be delivered again.
        """
        message: casts.Heard | None = None
        try:
            message = casts.parse(body, host=self._host)
            if message is not None:
                with request_context.of(message.request_id):
                    self._act(message)
        except errors.BadInput as e:
            LOG.warning("a message is refused: %s", e.sentence)
            order = message.unique_id if isinstance(message, casts.LiveMigrationCast) else ""
            self._ports.journal.refuse("cast", e.sentence, order)

    def _act(self, message: casts.Heard) -> None:
        LOG.debug("[instance: %s] heard %s", message.instance, type(message).__name__)
        match message:
            case casts.LiveMigrationCast():
                self._begin(message)
            case casts.CheckDestination():
                self._look_for_leftover(message)
            case casts.AbortCast():
                self._once(message.unique_id, lambda: self._coordinator.abort(
                    message.instance, message.migration_id))
            case casts.ForceCompleteCast():
                self._once(message.unique_id, lambda: self._coordinator.force_complete(
                    message.instance, message.migration_id))
            case casts.RollbackAtDestination():
                self._coordinator.rolled_back(message.instance)
            case _:
                self._coordinator.wake_instance(message.instance)

    def _once(self, unique_id: str, action: ty.Callable[[], object]) -> None:
        """Remembered when it is done: where the disk fills up meanwhile it comes again."""
        if not self._ports.journal.has_heard(unique_id):
            action()
            self._ports.journal.heard(unique_id)

    def _begin(self, cast: casts.LiveMigrationCast) -> None:
        migration = Migration(
            cast.migration_key, cast.instance, Role.SOURCE, self._host, cast.destination,
            self._ports.settings.executor, cast.request_id, cast.migration_id)
        if self._coordinator.begin(migration, cast.unique_id) is None:
            LOG.info("%s was heard before; nothing is begun twice", migration)
            return
        LOG.info("%s begins as source, to %s, moved by %s", migration, migration.destination,
                 migration.executor)
        self._begun(migration.instance, migration.key, migration.destination)

    def _look_for_leftover(self, check: casts.CheckDestination) -> None:
        self._coordinator.checked(check.instance)
        if check.source_hint is None or check.source_hint == self._host:
            return
        with self._lock:
            if check.instance in self._looking or len(self._looking) >= MAX_LOOKS:
                return
            self._looking.add(check.instance)
        self._coordinator.submit(request_context.bound(functools.partial(
            self._ensure_no_leftover, check, check.source_hint)))

    def _ensure_no_leftover(self, check: casts.CheckDestination, holder: str) -> None:
        try:
            self._look(check, holder)
        finally:
            with self._lock:
                self._looking.discard(check.instance)

    def _look(self, check: casts.CheckDestination, holder: str) -> None:
        try:
            leftover.ensure_no_leftover(self._ports, check.instance, holder, check.asked,
                                        check.migration_key)
        except errors.Error as e:
            LOG.warning("[instance: %s] a directory stands here although a live migration to "
                        "this host is being checked: %s", check.instance, e.sentence)
            self._refuse(check.instance, e)

    def _refuse(self, instance: str, error: errors.Error) -> None:
        try:
            self._ports.journal.refuse("leftover", f"{instance}: {error.sentence}")
        except errors.JournalUnusable as e:
            LOG.error("%s", e.sentence)


