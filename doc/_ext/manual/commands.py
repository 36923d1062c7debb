# SPDX-License-Identifier: Apache-2.0
"""Every command of ``rbd-workerctl`` with the help that it prints."""

import argparse
import importlib.metadata
import itertools
import typing as ty

from cliff import command
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from manual import parts
from rbd_worker.cli.app import Control

_GROUP = "rbd_worker.cli"
_PROGRAM = "rbd-workerctl"


class Commands(SphinxDirective):
    """One section for each noun, with its verbs; what every command takes stands once, first."""

    def run(self) -> list[nodes.Node]:
        control = Control()
        control.parser.prog = _PROGRAM  # else that of the process, which builds the manual
        made: list[nodes.Node] = [
            parts.section(self, "Before any command", parts.block(control.parser.format_help()))]
        entries = sorted(importlib.metadata.entry_points(group=_GROUP), key=lambda e: e.name)
        for noun, verbs in itertools.groupby(entries, key=lambda e: e.name.split()[0]):
            made.append(parts.section(self, f"{_PROGRAM} {noun}",
                                      *(each for verb in verbs for each in _shown(verb, control))))
        return made


def _shown(entry: importlib.metadata.EntryPoint, control: Control) -> ty.Iterator[nodes.Node]:
    made: command.Command = entry.load()(control, None, cmd_name=entry.name)
    yield parts.block(_own_help(made.get_parser(f"{_PROGRAM} {entry.name}")))


def _own_help(parser: argparse.ArgumentParser) -> str:
    """Its help without the groups of formatting options that cliff gives to every table."""
    own = argparse.ArgumentParser(
        prog=parser.prog, usage=parser.usage, description=parser.description,
        epilog=parser.epilog, formatter_class=parser.formatter_class, add_help=False)
    for group in parser._action_groups[:2]:  # positional arguments and options
        for action in group._group_actions:
            own._add_action(action)
    return own.format_help()
