# SPDX-License-Identifier: Apache-2.0
"""A sentence in “quotation marks” is one that the worker prints, or the build fails."""

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from manual import source

LOG = logging.getLogger(__name__)

_QUOTED = re.compile(r"“([^”]+)”")


def check(app: Sphinx, doctree: nodes.document) -> None:
    """Look for every quoted sentence of a page in the source."""
    if not app.env.docname.startswith(tuple(app.config.manual_quoting_pages)):
        return
    for paragraph in doctree.findall(nodes.TextElement):
        if isinstance(paragraph.parent, nodes.TextElement):
            continue
        for sentence in _QUOTED.findall(paragraph.astext()):
            if not source.says(sentence):
                LOG.warning("the worker never says %r", sentence, location=paragraph,
                            type="manual", subtype="quote")
