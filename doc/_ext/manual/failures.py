# SPDX-License-Identifier: Apache-2.0
"""Every error with its sentence and remedy, and every answer of a witness."""

import ast
import importlib
import inspect
import pkgutil
import re
import typing as ty

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import rbd_worker
from manual import parts, source
from rbd_worker import errors

LOG = logging.getLogger(__name__)

#: The branches of the tree in ``rbd_worker.errors``, and what follows from each.
_BRANCHES = (errors.Transient, errors.Permanent, errors.Undecided)
_WITNESSES = ("rbd_worker/host/evidence.py", "rbd_worker/host/probe.py")


class Errors(SphinxDirective):
    """A table for each branch, with every class of the whole package."""

    def run(self) -> list[nodes.Node]:
        _import_all()
        return [parts.section(
            self, f"{branch.__name__}: {_story(branch)}",
            parts.table(("error", "sentence", "remedy"),
                        [(_named(kind), kind.msg, kind.remedy) for kind in _below(branch)]))
                for branch in _BRANCHES]


def _import_all() -> None:
    """A class is known once its module is imported; what needs libvirt may be missing."""
    for module in pkgutil.walk_packages(rbd_worker.__path__, "rbd_worker."):
        if module.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(module.name)
        except ImportError as e:
            LOG.info("errors of %s are not in the manual: %s", module.name, e)


def _below(branch: type[errors.Error]) -> list[type[errors.Error]]:
    found = [kind for each in branch.__subclasses__() for kind in (each, *_below(each))]
    return sorted(dict.fromkeys(found), key=lambda kind: kind.__name__)


def _named(kind: type[errors.Error]) -> parts.Cell:
    meaning = parts.inline(_story(kind)) if "__doc__" in vars(kind) and kind.__doc__ else []
    dash = [nodes.Text(": ")] if meaning else []
    return nodes.paragraph("", "", parts.code(kind.__name__), *dash, *meaning)


def _story(kind: type) -> str:
    return (inspect.getdoc(kind) or "").split("\n")[0].rstrip(".")


class Witnesses(SphinxDirective):
    """Every fact that a witness may state, in the words of the evidence."""

    def run(self) -> list[nodes.Node]:
        rows = [row for path in _WITNESSES for row in _facts(path)]
        return [parts.table(("witness", "counts as", "sentence"), sorted(set(rows)))]


def _facts(path: str) -> ty.Iterator[tuple[str, str, str]]:
    constants = {target.id: str(node.value.value) for node in source.parsed(path).body
                 if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
                 for target in node.targets if isinstance(target, ast.Name)}
    for call in source.calls(path, "Fact"):
        witness, verdict, sentence = call.args
        name = constants.get(witness.id) if isinstance(witness, ast.Name) else (
            source.template(witness))
        said = source.template(sentence)
        if name and said and said.strip("{}"):
            yield name, _verdict(verdict), re.sub(r"(\{\})+", "…", said)


def _verdict(node: ast.expr) -> str:
    """``Verdict.NO`` as written; a name stands for one of several."""
    if isinstance(node, ast.Attribute):
        return {"YES": "yes", "NO": "no", "UNKNOWN": "no (unknown)"}[node.attr]
    return "no"
