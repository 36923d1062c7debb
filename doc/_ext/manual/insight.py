# SPDX-License-Identifier: Apache-2.0
"""The metrics and the notifications, from the objects that make them."""

import re
import time
import typing as ty

from docutils import nodes
from prometheus_client import CollectorRegistry
from sphinx.util.docutils import SphinxDirective

from manual import parts
from rbd_worker.host.trash import Usage
from rbd_worker.insight import notices
from rbd_worker.insight.families import Families
from rbd_worker.insight.present import Present, Sources
from rbd_worker.triggers.tap_status import Counters, TapState, TapStatus


class Described(ty.NamedTuple):
    """One metric; a counter's name ends in ``_total`` as on the page."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


def metrics() -> list[Described]:
    """All of a worker's own, by name."""
    return sorted([*_counted(), *_present()])


def _counted() -> ty.Iterator[Described]:
    for family in vars(Families(CollectorRegistry())).values():
        (metric,) = family.describe()
        yield Described(_shown(metric.name, metric.type), metric.type, family._labelnames,
                        metric.documentation)


def _present() -> ty.Iterator[Described]:
    now = time.time()
    status = TapStatus(TapState.HEARING, now, "", "", now, Counters())
    sources = Sources("nova", now, list, lambda: status, lambda: Usage(0, 0, 0), list)
    for metric in Present(sources).collect():
        labels = tuple(metric.samples[0].labels)
        yield Described(_shown(metric.name, metric.type), metric.type, labels,
                        metric.documentation)


def _shown(name: str, kind: str) -> str:
    return re.sub("(_total)?$", "_total", name, count=1) if kind == "counter" else name


class Metrics(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return [parts.table(
            ("metric", "kind", "labels", "what it says"),
            [(parts.code(m.name), m.kind, ", ".join(m.labels), m.text) for m in metrics()])]


class Notifications(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return [parts.table(
            ("event type", "priority", "sent when"),
            [(parts.code(e.type), e.priority.value, e.when) for e in notices.EVENTS])]


class NotificationFields(SphinxDirective):
    """Of the payload that the directive's argument names: ``migration`` or ``directory``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        fields = {"migration": notices.MIGRATION_FIELDS,
                  "directory": notices.DIRECTORY_FIELDS}[self.arguments[0]]
        return [parts.table(("field", "what it says"),
                            [(parts.code(name), text) for name, text in fields.items()])]
