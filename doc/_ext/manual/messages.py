# SPDX-License-Identifier: Apache-2.0
"""The catalogue of messages, by the program whose words they are."""

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from manual import parts
from rbd_worker.catalogue import lookup
from rbd_worker.catalogue.entry import Entry


class Catalogue(SphinxDirective):
    """A section for each origin, a table in each."""

    def run(self) -> list[nodes.Node]:
        origins = dict.fromkeys(entry.origin for entry in lookup.entries())
        return [parts.section(self, origin, parts.table(
            ("name", "message", "cause", "remedy"),
            [_row(entry) for entry in lookup.entries() if entry.origin == origin]))
            for origin in origins]


def _row(entry: Entry) -> tuple[parts.Cell, ...]:
    name = parts.code(entry.name)
    shown = nodes.paragraph("", "", nodes.reference("", "", name, refuri=entry.link)
                            if entry.link else name)
    return (shown, nodes.paragraph("", "", parts.code(entry.example)),
            nodes.paragraph("", entry.cause), nodes.paragraph("", entry.remedy))
