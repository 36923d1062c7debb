# SPDX-License-Identifier: Apache-2.0
"""Every metric that is counted as things happen, by name.

No label has more than a handful of values: roles, outcomes, phases, the
methods of the RPC API.  Instances, hosts and migrations are never labels.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SHORT = (.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5)
_LONG = (.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_DOWNTIME = (.01, .025, .05, .1, .25, .5, 1, 2, 5, 10)


class Families:
    """One set of counters; all of them in ``registry``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.begun = Counter(
            "rbd_worker_migrations_begun", "Migrations that this host began to take part in.",
            ("role",), registry=registry)
        self.ended = Counter(
            "rbd_worker_migrations", "Migrations that have ended, by role and outcome.",
            ("role", "outcome"), registry=registry)
        self.seconds = Histogram(
            "rbd_worker_migration_seconds", "From the entry in the journal to its end.",
            ("role", "outcome"), registry=registry, buckets=_LONG)
        self.phases = Histogram(
            "rbd_worker_phase_seconds", "Time in one phase of a migration.",
            ("role", "phase"), registry=registry, buckets=_LONG)
        self.downtime = Histogram(
            "rbd_worker_downtime_seconds",
            "Time in which the guest stood still, by libvirt; executor libvirt only.",
            registry=registry, buckets=_DOWNTIME)
        self.overlap = Histogram(
            "rbd_worker_watcher_overlap_seconds",
            "Time in which both hosts watched a guest's disk, to a second; as source.",
            registry=registry, buckets=_LONG)
        self.staged = Counter(
            "rbd_worker_staged_bytes", "Data of files that were staged as destination.",
            registry=registry)
        self.retries = Counter(
            "rbd_worker_prepare_retries", "Attempts to prepare a destination after the first.",
            registry=registry)
        self.doubted = Counter(
            "rbd_worker_migrations_unresolved", "Times that a migration became unresolved.",
            ("role",), registry=registry)
        self.trashed = Counter(
            "rbd_worker_directories_trashed",
            "Directories moved to the trash, and on whose account.",
            ("cause",), registry=registry)
        self.audited = Gauge(
            "rbd_worker_audit_directories", "Suspects of the last audit, by its verdict.",
            ("verdict",), registry=registry)
        self.audit_ended = Gauge(
            "rbd_worker_audit_timestamp_seconds", "When the last audit ended; 0 before the first.",
            registry=registry)
        self.hook = Histogram(
            "rbd_worker_hook_seconds", "Time that an arriving guest waited for an answer.",
            ("answer",), registry=registry, buckets=_SHORT)
        self.journal = Histogram(
            "rbd_worker_journal_write_seconds", "Time until a write of the journal was durable.",
            registry=registry, buckets=_SHORT)
        self.calls = Counter(
            "rbd_worker_rpc_calls", "Calls of peers and operators, by method and result.",
            ("method", "result"), registry=registry)
