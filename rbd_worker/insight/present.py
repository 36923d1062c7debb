# SPDX-License-Identifier: Apache-2.0
"""Metrics that are looked up when somebody asks: what is open, the tap, the trash."""

import collections
import collections.abc
import dataclasses
import logging
import time
import typing as ty

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from rbd_worker import errors
from rbd_worker.host.trash import Usage
from rbd_worker.migration.journal import Entry
from rbd_worker.model import Outcome, Role
from rbd_worker.triggers.tap_status import TapState, TapStatus
from rbd_worker.version import VERSION

LOG = logging.getLogger(__name__)

#: Seconds for which the trash's size is taken as it was: it is a walk over its files.
TRASH_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Sources:
    """Where it is looked up; each may be called from any thread."""

    executor: str
    started: float
    open_entries: ty.Callable[[], list[Entry]]
    tap: ty.Callable[[], TapStatus]
    trash: ty.Callable[[], Usage]
    troubles: ty.Callable[[], list[str]]


class Present(Collector):
    """What cannot be looked up is left out, so that it shows as missing and not as 0."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._usage: Usage | None = None
        self._looked = 0.0

    def collect(self) -> collections.abc.Iterator[Metric]:
        for part in (self._about, self._entries, self._tap, self._trash):
            try:
                yield from part()
            except errors.Error as e:
                LOG.debug("a metric is left out: %s", e.sentence)

    def describe(self) -> collections.abc.Iterator[Metric]:
        """Nothing: the registry would otherwise look everything up to learn the names."""
        return iter(())

    def _about(self) -> collections.abc.Iterator[Metric]:
        build = GaugeMetricFamily("rbd_worker_build_info", "Always 1; which worker this is.",
                                  labels=("version", "executor"))
        build.add_metric((VERSION, self._sources.executor), 1)
        yield build
        yield GaugeMetricFamily("rbd_worker_start_time_seconds", "When this worker started.",
                                self._sources.started)
        yield GaugeMetricFamily(
            "rbd_worker_troubles", "What keeps the worker from judging or recording now, how "
            "many things; rbd-workerctl status names them.", len(self._sources.troubles()))

    def _entries(self) -> collections.abc.Iterator[Metric]:
        entries = self._sources.open_entries()
        counts = collections.Counter(e.migration.role for e in entries)
        doubtful = collections.Counter(e.migration.role for e in entries
                                       if e.outcome is Outcome.UNRESOLVED)
        for name, text, numbers in (
                ("rbd_worker_open_migrations", "Migrations without an end.", counts),
                ("rbd_worker_unresolved_migrations", "Of these, unresolved.", doubtful)):
            family = GaugeMetricFamily(name, text, labels=("role",))
            for role in Role:
                family.add_metric((role.value,), numbers[role])
            yield family
        now = time.time()
        yield GaugeMetricFamily(
            "rbd_worker_oldest_open_migration_seconds", "Age of the oldest of these; 0 for none.",
            max((now - e.opened for e in entries), default=0.0))

    def _tap(self) -> collections.abc.Iterator[Metric]:
        status = self._sources.tap()
        states = GaugeMetricFamily("rbd_worker_tap_state", "1 for the state that the tap is in.",
                                   labels=("state",))
        for state in TapState:
            states.add_metric((state.value,), state is status.state)
        yield states
        if status.last_probe is not None:
            yield GaugeMetricFamily(
                "rbd_worker_tap_probe_age_seconds", "Since it was last proven that casts are "
                "heard; missing before the first proof.",
                max(0.0, time.time() - status.last_probe))
        messages = CounterMetricFamily(
            "rbd_worker_tap_messages", "Messages of Nova, and what became of them.",
            labels=("what",))
        for what in ("heard", "dropped", "handed_on", "refused"):
            messages.add_metric((what,), getattr(status.counters, what))
        yield messages
        yield CounterMetricFamily("rbd_worker_tap_reconnects", "Connections after the first.",
                                  status.counters.reconnects)
        yield CounterMetricFamily("rbd_worker_tap_rebinds", "Lost probes: the queue was bound "
                                  "again.", status.counters.rebinds)

    def _trash(self) -> collections.abc.Iterator[Metric]:
        if self._usage is None or time.monotonic() - self._looked > TRASH_SECONDS:
            self._usage, self._looked = self._sources.trash(), time.monotonic()
        usage = self._usage
        yield GaugeMetricFamily("rbd_worker_trash_items", "Directories that can be restored.",
                                usage.items)
        yield GaugeMetricFamily("rbd_worker_trash_bytes", "What they take on the disk.",
                                usage.bytes)
        if usage.most is not None:
            yield GaugeMetricFamily("rbd_worker_trash_limit_bytes", "What they may take, by "
                                    "trash_max_percent.", usage.most)
