# SPDX-License-Identifier: Apache-2.0
"""One open migration in memory, and what its steps may use.

What must survive a crash is in the journal; a task only remembers what was
read from there, and what a crash may lose: open descriptors, the peer's last
request, the thread that moves the guest.
"""

import dataclasses
import threading
import time
import typing as ty

from rbd_worker import conf, errors, news
from rbd_worker.host import evidence, hypervisor, instances, peers, probe, trash, walk
from rbd_worker.migration import journal as journals
from rbd_worker.migration import mover, records
from rbd_worker.model import Executor, Migration, Outcome, Phase, Role
from rpcapi import payloads


@dataclasses.dataclass(frozen=True)
class Ports:
    """What steps act through; built once by the service, by fakes in tests."""

    settings: conf.Settings
    journal: journals.Journal
    hypervisor: hypervisor.Hypervisor
    directories: instances.Instances
    trash: trash.Trash
    peers: peers.Peers
    witnesses: evidence.Witnesses
    movers: mover.Movers
    shutdown: threading.Event
    records: records.Records
    #: How many consumers Nova's queue of this host has; executor libvirt moves only at 0.
    nova_consumers: ty.Callable[[], int] = lambda: 0
    clock: ty.Callable[[], float] = time.time
    #: Hears what leaves this host and what the audit finds; the journal tells it the rest.
    told: news.Listener = dataclasses.field(default_factory=news.Listener)


class Task:
    """Used by one thread at a time: whoever holds ``lock``; the flags may be set by any."""

    def __init__(self, entry: journals.Entry, ports: Ports) -> None:
        self.migration: Migration = entry.migration
        self.ports = ports
        self.lock = threading.RLock()
        self.opened = entry.opened
        self.phase = entry.phase
        self.outcome = entry.outcome
        self.reason = entry.reason
        self.is_closed = not entry.is_open
        self.states: dict[str, journals.StepState] = {}
        self.notes: dict[str, dict[str, ty.Any]] = {}
        for record in ports.journal.records(entry.migration):
            self.remember(record.step, record.state, record.data)
        # what a crash may lose
        self.files: walk.PinnedFiles | None = None
        self.prepare: payloads.PrepareRequest | None = None
        self.finish: payloads.FinishRequest | None = None
        self.error: errors.Error | None = None
        #: Of a source: fingerprint of the list of files that the peer was last sent.
        self.listed = ""
        #: Steps that could not be done, and that the migration goes on without; why.
        self.skipped: dict[str, errors.Error] = {}
        self.attempts = 0
        #: Attempts of the present step to ask another host, and when the last one was.
        self.tries = 0
        self.tried_at = 0.0
        #: Laid down for the peer to look for, while it is asked again and again.
        self.nonce: probe.Nonce | None = None
        #: What Nova's record adds to the reason, and when it was read.
        self.remark: tuple[float, str] | None = None
        #: The later migration whose source waits until this one's remains are removed.
        self.undone_for: Migration | None = None
        #: How often the source had this host prepared.
        self.prepared = 0
        #: Why the last look at it ended without a result.
        self.waits_for = ""
        #: Somebody wanted to look at it while another thread had it.
        self.is_wanted = False
        # set by other threads, read by steps
        self.abort_requested = "abort_requested" in self.notes
        self.rollback_requested = False
        self.rollback_outcome = Outcome.FAILED
        self.is_superseded = False
        #: The open tasks of the same instance besides this one.
        self.others: ty.Callable[[], list[Task]] = list

    @property
    def key(self) -> tuple[str, Role]:
        """By which whoever has news of it wakes it."""
        return self.migration.key, self.migration.role

    @property
    def is_nova(self) -> bool:
        return self.migration.executor is Executor.NOVA

    @property
    def is_shared(self) -> bool:
        """Both hosts were seen to have the same directory: nothing to copy or remove."""
        return any(note.get("shared") for note in list(self.notes.values()))

    def remember(self, step: str, state: journals.StepState, data: dict[str, ty.Any]) -> None:
        """Take a journal record into account."""
        if state is journals.StepState.NOTE:
            self.notes.setdefault(step, {}).update(data)
            return
        self.states[step] = state
        if data:
            self.notes.setdefault(step, {}).update(data)

    def record(self, *records: tuple[str, journals.StepState, dict[str, ty.Any]],
               phase: Phase | None = None) -> None:
        """Write records durably, then take them into account."""
        self.ports.journal.record(self.migration, *records, phase=phase)
        for step, state, data in records:
            self.remember(step, state, data)
        if phase is not None:
            self.phase = phase

    def note(self, name: str, **data: ty.Any) -> None:
        """A line in the timeline, once: durable before it is relied upon."""
        if self.notes.get(name) != data:
            self.record((name, journals.StepState.NOTE, data))

    def age(self) -> float:
        """Seconds since the entry was opened; from now on where the clock was set back."""
        now = self.ports.clock()
        self.opened = min(self.opened, now)
        return now - self.opened

    def seconds_since(self, name: str) -> float:
        """How long ago that note was made, by its ``at``; without the note very long.

        A note from the future means that the clock was set back since: it
        counts from now on, so that nobody waits for the clock to catch up.
        """
        now, note = self.ports.clock(), self.notes.get(name)
        if note is None:
            return float("inf")
        if note["at"] > now:
            self.note(name, **note | {"at": now})
        return float(now - self.notes[name]["at"])

    def mark(self, outcome: Outcome | None, reason: str = "") -> None:
        """Set the outcome so far, durably, where it changed."""
        if (self.outcome, self.reason) != (outcome, reason):
            self.ports.journal.mark(self.migration, outcome, reason)
            self.outcome, self.reason = outcome, reason

    def close(self, outcome: Outcome, reason: str = "") -> None:
        """End the entry and let go of everything a crash would have lost as well."""
        self.ports.journal.close_entry(self.migration, outcome, reason)
        self.outcome, self.reason, self.is_closed = outcome, reason, True
        self.release()

    def release(self) -> None:
        """Close what is pinned; safe to repeat."""
        files, self.files = self.files, None
        if files is not None:
            files.close()
        self.lift_nonce()
        self.prepare = None
        self.finish = None

    def lift_nonce(self) -> None:
        """Take it away; safe to repeat."""
        nonce, self.nonce = self.nonce, None
        if nonce is not None:
            nonce.close()

    def begin_afresh(self) -> None:
        """Another step is due, or the way back."""
        self.attempts = self.tries = 0
        self.lift_nonce()
