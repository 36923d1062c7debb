# SPDX-License-Identifier: Apache-2.0
"""The options: the worker's own, and Nova's that it reads."""

import typing as ty

from docutils import nodes
from oslo_config import cfg
from sphinx.util.docutils import SphinxDirective

from manual import parts
from rbd_worker import conf

#: Nova's groups, in the order of nova.conf; ``host`` depends on the machine that builds.
_NOVAS = (("DEFAULT", conf.NOVA_OPTS), ("libvirt", conf.NOVA_LIBVIRT_OPTS),
          ("vnc", conf.NOVA_VNC_OPTS))
_MACHINE = {"host": "the host's name"}


class WorkerOptions(SphinxDirective):
    """Every option that ``oslo-config-generator`` knows of this package."""

    def run(self) -> list[nodes.Node]:
        return [parts.section(self, f"[{group}] {option.name}", *_described(option))
                for group, options in conf.list_opts()
                for option in sorted(options, key=lambda o: o.name)]


class NovaOptions(SphinxDirective):
    """Nova's options that are read, with the default that holds where nova.conf says nothing."""

    def run(self) -> list[nodes.Node]:
        return [parts.table(
            ("option", "type", "default"),
            [(parts.code(f"[{group}] {option.name}"), _type(option),
              _MACHINE.get(option.name) or _default(option))
             for group, options in _NOVAS for option in options])]


def _described(option: cfg.Opt) -> ty.Iterator[nodes.Node]:
    yield from parts.paragraphs(option.help or "")
    yield nodes.paragraph("", "", nodes.Text(f"{_type(option).capitalize()}. Default: "),
                          parts.code(_default(option)))
    choices = _choices(option)
    if choices:
        yield parts.table(("value", "meaning"), [(parts.code(v), text) for v, text in choices])


def _choices(option: cfg.Opt) -> list[tuple[str, str]]:
    choices = getattr(option.type, "choices", None)
    return [(str(value), meaning or "") for value, meaning in choices.items()] if choices else []


def _type(option: cfg.Opt) -> str:
    name = type(option).__name__.removesuffix("Opt").lower() or "string"
    name = {"str": "string", "int": "integer", "bool": "boolean"}.get(name, name)
    least, most = getattr(option.type, "min", None), getattr(option.type, "max", None)
    bounds = [f"at least {least}" if least is not None else "",
              f"at most {most}" if most is not None else ""]
    return ", ".join([name, *filter(None, bounds)])


def _default(option: cfg.Opt) -> str:
    if isinstance(option.default, list):
        return ",".join(map(str, option.default))
    return "none" if option.default in (None, "") else str(option.default)
