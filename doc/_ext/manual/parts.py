# SPDX-License-Identifier: Apache-2.0
"""Sections, paragraphs and tables as docutils nodes, from plain text."""

import collections.abc
import re
import typing as ty

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

#: ``literal`` and :role:`target` of a docstring; of a target only its last name is shown.
_MARKUP = re.compile(r"``(?P<literal>.+?)``|:[a-z:]+:`~?(?P<target>[^`]+)`", re.DOTALL)
_SECOND = re.compile(r"\n\s*\n")

Cell: ty.TypeAlias = "str | nodes.Node"


def paragraphs(text: str) -> list[nodes.Node]:
    """Plain text with blank lines between paragraphs; ``code`` marked as in docstrings."""
    return [nodes.paragraph("", "", *inline(part)) for part in _SECOND.split(text.strip()) if part]


def inline(text: str) -> list[nodes.Node]:
    text = " ".join(text.split())
    found: list[nodes.Node] = []
    end = 0
    for match in _MARKUP.finditer(text):
        found.append(nodes.Text(text[end:match.start()]))
        code = match["literal"] or match["target"].rpartition(".")[2]
        found.append(nodes.literal("", code))
        end = match.end()
    return [*found, nodes.Text(text[end:])]


def code(text: str) -> nodes.literal:
    return nodes.literal("", text)


def block(text: str) -> nodes.literal_block:
    return nodes.literal_block(text, text, language="text")


def section(directive: SphinxDirective, title: str, *content: nodes.Node) -> nodes.section:
    """A section of its own, with an anchor made of its title."""
    made = nodes.section("", nodes.title("", title), *content,
                         names=[nodes.fully_normalize_name(title)])
    directive.state.document.note_implicit_target(made, made)
    return made


def table(header: collections.abc.Sequence[str],
          rows: collections.abc.Iterable[collections.abc.Sequence[Cell]]) -> nodes.table:
    """A table; strings are plain text, and nodes stand as they are."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in header), cols=len(header))
    group += nodes.thead("", _row(header))
    group += nodes.tbody("", *(_row(row) for row in rows))
    return nodes.table("", group, classes=["colwidths-auto"])


def _row(cells: collections.abc.Iterable[Cell]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", *_content(cell)) for cell in cells))


def _content(cell: Cell) -> list[nodes.Node]:
    if isinstance(cell, str):
        return paragraphs(cell)
    return [cell if isinstance(cell, nodes.paragraph) else nodes.paragraph("", "", cell)]
