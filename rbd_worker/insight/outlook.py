# SPDX-License-Identifier: Apache-2.0
"""Puts the metrics together: one registry, what fills it, and the page that shows it."""

import typing as ty

from prometheus_client import CollectorRegistry, ProcessCollector

from rbd_worker import news
from rbd_worker.insight.counting import Counting
from rbd_worker.insight.families import Families
from rbd_worker.insight.overlap import Overlap, Sight
from rbd_worker.insight.page import Health, Page
from rbd_worker.insight.present import Present, Sources


class Outlook:
    """All counters hear ``told`` from now on; the rest is between ``start`` and ``stop``."""

    def __init__(self, listen: tuple[str, int], told: news.News, sources: Sources,
                 health: ty.Callable[[], Health], sight: Sight) -> None:
        registry = CollectorRegistry()
        families = Families(registry)
        self._overlap = Overlap(families, sight)
        told.add(Counting(families))
        told.add(self._overlap)
        registry.register(Present(sources))
        ProcessCollector(registry=registry)
        self.page = Page(listen, registry, health)

    def start(self) -> None:
        self.page.start()
        if self.page.port is not None:  # nobody would read what it costs Ceph to know
            self._overlap.start()

    def stop(self) -> None:
        """Safe to repeat and without a start."""
        self.page.stop()
        self._overlap.stop()
