# SPDX-License-Identifier: Apache-2.0
"""The release notes by version, as reno tells it from git; without git all under this one.

``reno.sphinxext`` ends the build in a source archive and in a shallow clone.
"""

import logging as std_logging
import pathlib

import yaml
from docutils import nodes, statemachine
from reno import config, formatter, loader
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles

from manual import source
from rbd_worker.version import VERSION

LOG = logging.getLogger(__name__)

_FOLDER = "releasenotes"

std_logging.getLogger("reno").setLevel(std_logging.WARNING)  # it tells of each file


class Files:
    """The notes of the working tree as reno's loader would give them, without a version."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.versions = [VERSION]
        self._notes = {path.name: yaml.safe_load(path.read_text())
                       for path in sorted(folder.glob("*.yaml"))}

    def __getitem__(self, _version: str) -> list[tuple[str, str]]:
        return [(name, "") for name in self._notes]

    def parse_note_file(self, name: str, _sha: str) -> object:
        return self._notes[name]


class ReleaseNotes(SphinxDirective):
    """Notes are reStructuredText, so this stands within ``eval-rst``."""

    def run(self) -> list[nodes.Node]:
        settings = config.Config(str(source.ROOT), _FOLDER)
        lines = statemachine.StringList(report(_found(settings), settings).splitlines(),
                                        source=_FOLDER)
        made = nodes.section()
        made.document = self.state.document
        nested_parse_with_titles(self.state, lines, made)
        return list(made.children)


def _found(settings: config.Config) -> "loader.Loader | Files":
    try:
        return loader.Loader(settings)
    except Exception as e:  # noqa: BLE001 - dulwich fails in many ways where git is not whole
        LOG.info("release notes without git: %s", e)
        return Files(source.ROOT / _FOLDER / "notes")


def report(notes: "loader.Loader | Files", settings: config.Config) -> str:
    """All notes as reStructuredText, the newest version first."""
    return str(formatter.format_report(notes, settings, notes.versions, show_source=False))
