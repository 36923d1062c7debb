# SPDX-License-Identifier: Apache-2.0
"""Puts the metrics together: one registry, what fills it, and the page that shows it."""

import typing as ty

from prometheus_client import CollectorRegistry, ProcessCollector

from rbd_worker import news
from rbd_worker.insight.counting import Counting
from rbd_worker.insight.families import Families
from rbd_worker.insight.page import Health, Page
from rbd_worker.insight.present import Present, Sources


def opened(listen: tuple[str, int], told: news.News, sources: Sources,
           health: ty.Callable[[], Health]) -> Page:
    """A page, not started yet, whose counters hear ``told`` from now on."""
    registry = CollectorRegistry()
    told.add(Counting(Families(registry)))
    registry.register(Present(sources))
    ProcessCollector(registry=registry)
    return Page(listen, registry, health)
