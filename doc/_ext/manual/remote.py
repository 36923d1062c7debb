# SPDX-License-Identifier: Apache-2.0
"""The RPC API between workers: methods, and what travels with every bound that is checked."""

import inspect
import re
import typing as ty

import msgspec
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from manual import parts
from rpcapi import client, fields, payloads

_SINCE = re.compile(r"Since (\d+\.\d+)")
_FIELD = re.compile(r"^:ivar ([^:]+):", re.MULTILINE)


class Methods(SphinxDirective):
    """A row for each call that the client offers."""

    def run(self) -> list[nodes.Node]:
        rows = [_method(name, function)
                for name, function in inspect.getmembers(client.Client, inspect.isfunction)
                if not name.startswith("_")]
        return [parts.table(("method", "since", "request", "answer", "meaning"), rows)]


def _method(name: str, function: ty.Callable[..., ty.Any]) -> tuple[parts.Cell, ...]:
    hints = ty.get_type_hints(function)
    answer = hints.pop("return", None)
    requests = [kind for kind in hints.values() if _is_payload(kind)]
    text = inspect.getdoc(function) or ""
    since = _SINCE.search(text)
    return (parts.code(name), since[1] if since else "",
            parts.code(requests[0].__name__) if requests else "",
            parts.code(answer.__name__) if _is_payload(answer) else "",
            _SINCE.sub("", text).replace(" .", "").strip())


def _is_payload(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, fields.Payload)


class Payloads(SphinxDirective):
    """A section for each structure that travels."""

    def run(self) -> list[nodes.Node]:
        kinds = [kind for _, kind in inspect.getmembers(payloads, _is_payload)
                 if kind.__module__ == payloads.__name__]
        return [parts.section(self, kind.__name__, *_described(kind))
                for kind in sorted(kinds, key=lambda k: inspect.getsourcelines(k)[1])]


def _described(kind: type[fields.Payload]) -> ty.Iterator[nodes.Node]:
    text, meanings = _read(inspect.getdoc(kind) or "")
    yield from parts.paragraphs(text)
    info = ty.cast(msgspec.inspect.StructType, msgspec.inspect.type_info(kind))
    yield parts.table(
        ("field", "type", "default", "meaning"),
        [(parts.code(field.name), _type(field.type),
          "required" if field.required else _default(field), meanings.get(field.name, ""))
         for field in info.fields])


def _read(text: str) -> tuple[str, dict[str, str]]:
    """The text before the ``:ivar`` fields, and each field's meaning."""
    before, *rest = _FIELD.split(text)
    meanings = {}
    for names, meaning in zip(rest[::2], rest[1::2], strict=True):
        for name in names.split(","):
            meanings[name.strip()] = meaning.strip()
    return before, meanings


def _default(field: msgspec.inspect.Field) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        return "empty"
    return "empty" if field.default in ("", ()) else str(field.default)


def _type(kind: msgspec.inspect.Type) -> str:
    """A type in words, with its bounds."""
    match kind:
        case msgspec.inspect.StructType():
            return kind.cls.__name__
        case msgspec.inspect.LiteralType():
            return " or ".join(f"``{value}``" for value in kind.values)
        case msgspec.inspect.UnionType():
            return " or ".join(_type(each) for each in kind.types)
        case msgspec.inspect.VarTupleType():
            return f"list of {_type(kind.item_type)}{_bounds(kind)}"
        case msgspec.inspect.DictType():
            return f"map of {_type(kind.key_type)} to {_type(kind.value_type)}{_bounds(kind)}"
    name = type(kind).__name__.removesuffix("Type").lower()
    return {"str": "text", "int": "integer", "bool": "yes or no", "float": "number",
            }.get(name, name) + _bounds(kind)


def _bounds(kind: msgspec.inspect.Type) -> str:
    words = {"ge": "at least {}", "le": "at most {}", "min_length": "at least {} long",
             "max_length": "at most {} long", "pattern": "``{}``"}
    said = [text.format(value) for name, text in words.items()
            if (value := getattr(kind, name, None)) is not None]
    return f" ({', '.join(said)})" if said else ""
