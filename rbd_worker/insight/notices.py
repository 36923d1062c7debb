# SPDX-License-Identifier: Apache-2.0
"""Turns news into notifications: event types, priorities and payloads.

A payload has names, ids, times and sentences that the journal has too: no
token, no key, nothing of a file and nothing of the cast but its ids.
"""

import dataclasses
import datetime
import enum
import threading
import typing as ty

from rbd_worker import news
from rbd_worker.model import Migration, Outcome, Role


class Priority(enum.StrEnum):
    """oslo.messaging's; the topic that a notification goes to ends in it."""

    INFO = "info"
    WARN = "warn"
    ERROR = "error"


@dataclasses.dataclass(frozen=True)
class Event:
    """One kind of notification; ``when`` is for the manual."""

    type: str
    priority: Priority
    when: str


START = Event("rbd_worker.migration.start", Priority.INFO, "an entry was opened in the journal")
END = Event("rbd_worker.migration.end", Priority.INFO,
            "the entry was closed as completed or cancelled")
ERROR = Event("rbd_worker.migration.error", Priority.ERROR, "the entry was closed as failed")
UNRESOLVED = Event("rbd_worker.migration.unresolved", Priority.WARN,
                   "the entry became unresolved: it stays open and is looked at again")
TRASHED = Event("rbd_worker.leftover.trashed", Priority.INFO,
                "a directory left instances_path for the trash")
EVENTS = (START, END, ERROR, UNRESOLVED, TRASHED)

#: Every field of a migration's payload, and what it says.
MIGRATION_FIELDS = {
    "migration": "its UUID in Nova, or the worker's own key where the cast had none",
    "number": "its id in Nova's database; null where it is not known",
    "instance": "the guest's UUID",
    "role": "what the sending host is in it: source or destination",
    "source": "the host that the guest leaves",
    "destination": "the host that it goes to",
    "executor": "who moves it: nova or libvirt",
    "request_id": "of the request that ordered it, as in Nova's logs; empty where not known",
    "outcome": "completed, failed, cancelled or unresolved; empty at the start",
    "reason": "why, in one sentence; empty where all is well",
    "started_at": "when the entry was opened, ISO 8601 in UTC; null where not known",
    "ended_at": "when it was closed, likewise; null while it is open",
}
#: Every field of a trashed directory's payload, and what it says.
DIRECTORY_FIELDS = {
    "host": "where it was",
    "instance": "the guest's UUID, which is the directory's name",
    "item": "by which rbd-workerctl trash restore brings it back",
    "cause": "plan (the source's own directory after a move), arrival (it stood in a guest's "
             "way) or audit",
}


class Notice(ty.NamedTuple):
    """What is sent."""

    event: Event
    payload: dict[str, ty.Any]


class Notices(news.Listener):
    """Thread-safe; hands each notice to ``send``, which returns at once."""

    def __init__(self, host: str, send: ty.Callable[[Notice], None]) -> None:
        self._host = host
        self._send = send
        self._lock = threading.Lock()
        self._opened: dict[tuple[str, Role], float] = {}
        self._unresolved: set[tuple[str, Role]] = set()

    def begun(self, migration: Migration, at: float) -> None:
        with self._lock:
            self._opened[migration.key, migration.role] = at
        self._tell(START, migration, opened=at)

    def resumed(self, migration: Migration, opened: float, is_unresolved: bool) -> None:
        key = migration.key, migration.role
        with self._lock:
            self._opened[key] = opened
            if is_unresolved:
                self._unresolved.add(key)

    def marked(self, migration: Migration, outcome: Outcome | None, reason: str) -> None:
        key = migration.key, migration.role
        with self._lock:
            was = key in self._unresolved
            if outcome is Outcome.UNRESOLVED:
                self._unresolved.add(key)
            else:
                self._unresolved.discard(key)
            opened = self._opened.get(key)
        if outcome is Outcome.UNRESOLVED and not was:
            self._tell(UNRESOLVED, migration, outcome, reason, opened)

    def ended(self, migration: Migration, outcome: Outcome, reason: str, at: float) -> None:
        key = migration.key, migration.role
        with self._lock:
            self._unresolved.discard(key)
            opened = self._opened.pop(key, None)
        event = ERROR if outcome is Outcome.FAILED else END
        self._tell(event, migration, outcome, reason, opened, at)

    def trashed(self, instance: str, item: str, cause: str) -> None:
        self._send(Notice(TRASHED, {"host": self._host, "instance": instance, "item": item,
                                    "cause": cause}))

    def _tell(self, event: Event, migration: Migration, outcome: Outcome | None = None,
              reason: str = "", opened: float | None = None, closed: float | None = None) -> None:
        self._send(Notice(event, {
            "migration": migration.key, "number": migration.number,
            "instance": migration.instance, "role": migration.role.value,
            "source": migration.source, "destination": migration.destination,
            "executor": migration.executor.value, "request_id": migration.request_id,
            "outcome": outcome.value if outcome else "", "reason": reason,
            "started_at": _iso(opened), "ended_at": _iso(closed)}))


def _iso(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec="milliseconds")
