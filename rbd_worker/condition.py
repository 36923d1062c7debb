# SPDX-License-Identifier: Apache-2.0
"""What a worker says of itself: to peers and operators, to systemd, in reports."""

import dataclasses
import typing as ty

import rpcapi
from rbd_worker import conf, errors, vitals
from rbd_worker.host import deputy
from rbd_worker.migration import coordinator, janitor
from rbd_worker.preflight import bench
from rbd_worker.snapshots import desk as snapshots
from rbd_worker.triggers import tap
from rbd_worker.version import VERSION
from rpcapi import payloads

#: Without one of these the worker is deaf to Nova or to libvirt.
_VITAL_THREADS = ("tap", "libvirt-events")


@dataclasses.dataclass(frozen=True)
class Condition:
    """Thread-safe; everything is looked at when it is asked for.

    :ivar started: in seconds since the epoch.
    :ivar is_deaf_to_peers: whether what heard them has ended.
    """

    settings: conf.Settings
    started: float
    coordinator: coordinator.Coordinator
    pool: vitals.WatchedPool
    tap: tap.Tap
    janitor: janitor.Janitor
    snapshots: snapshots.Desk
    is_deaf_to_peers: ty.Callable[[], bool]

    def describe(self) -> payloads.Description:
        """For peers and for the operator's ``status``."""
        entries = self.coordinator.ports.journal.open_entries()
        return payloads.Description(
            host=self.settings.host, worker_version=VERSION, rpc_version=rpcapi.VERSION,
            executor=self.settings.executor.value, started=self.started,
            hearing=self.hearing, open_entries=len(entries),
            unresolved=sum(1 for e in entries if e.outcome is not None),
            troubles=tuple(sentence[:1024] for sentence in self.troubles()))

    def in_brief(self) -> dict[str, object]:
        """Names and values, for a report."""
        return {"executor": self.settings.executor, "hearing": self.hearing,
                "ailment": self.ailment() or "none", "trouble": self.troubles() or "none"}

    def open_in_brief(self) -> dict[str, object]:
        """Each open migration: how far it is, and why it is not further."""
        return {f"{e.migration} as {e.migration.role}":
                f"{e.phase}, {e.outcome or 'goes on'}, {e.reason or 'no reason'}"
                for e in self.coordinator.ports.journal.open_entries()} or {"open": "none"}

    def troubles(self) -> list[str]:
        """What keeps this worker from judging or recording at the moment, a sentence each."""
        ports = self.coordinator.ports
        found = [ports.journal.trouble, self.janitor.doubt, *self.snapshots.keeper.troubles]
        try:
            with ports.directories.opened():
                pass
        except errors.Error as e:
            found.append(e.sentence)
        return [sentence for sentence in found if sentence]

    @property
    def hearing(self) -> str:
        """What the tap does at the moment, for people."""
        status = self.tap.status()
        return f"{status.state}, {status.reason}" if status.reason else str(status.state)

    def heard_lately(self) -> bench.Hearing:
        """The same for preflight's row."""
        return bench.Hearing(self.tap.status().state is tap.TapState.HEARING, self.hearing)

    def ailment(self) -> str | None:
        """What keeps the worker from working and only a new start can cure; None if nothing.

        A broker, libvirt or Ceph that is away is none: the worker waits for them.
        """
        if deputy.is_lost():
            return "the process for privileged file work has ended"
        missing = vitals.missing_threads(_VITAL_THREADS)
        if missing:
            return f"the thread {missing[0]} has ended"
        if self.is_deaf_to_peers():
            return "the thread that hears peers has ended"
        stuck = self.pool.stuck_for()
        if stuck > vitals.STUCK_SECONDS:
            return f"every thread for migrations has been busy for {stuck:.0f} seconds"
        self.coordinator.tasks()  # a lock that nobody gives back shows as no answer here
        return None
