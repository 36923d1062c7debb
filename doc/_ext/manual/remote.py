# SPDX-License-Identifier: Apache-2.0
"""The RPC API between workers: methods, and what travels with every bound that is checked."""

import importlib
import inspect
import pkgutil
import re
import types
import typing as ty

import msgspec
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import rpcapi
from manual import parts
from rpcapi import client, fields

_SINCE = re.compile(r"Since (\d+\.\d+)")
_FIELD = re.compile(r"^:ivar ([^:]+):", re.MULTILINE)


class Methods(SphinxDirective):
    """A row for each call: the client's own, and those that operators' modules make through it."""

    def run(self) -> list[nodes.Node]:
        return [parts.table(("method", "since", "request", "answer", "meaning"),
                            [_method(name, function, whole)
                             for whole in (client.Client, *modules())
                             for name, function in calls(whole)])]


def modules() -> list[types.ModuleType]:
    """Every module of the contract, in order of their names."""
    return [importlib.import_module(each.name)
            for each in pkgutil.walk_packages(rpcapi.__path__, "rpcapi.")]


def calls(whole: object) -> list[tuple[str, ty.Callable[..., ty.Any]]]:
    """The calls of the client itself, or a module's functions that take it."""
    found: list[tuple[str, ty.Callable[..., ty.Any]]] = []
    for name, function in inspect.getmembers(whole, inspect.isfunction):
        given = list(inspect.signature(function).parameters)
        is_generic = "method" in given  # what the others are made with
        takes_client = whole is client.Client or given[:1] == ["client"]
        if takes_client and not is_generic and not name.startswith("_"):
            found.append((name, function))
    return found


def _method(name: str, function: ty.Callable[..., ty.Any], whole: object,
            ) -> tuple[parts.Cell, ...]:
    hints = ty.get_type_hints(function)
    answer = hints.pop("return", None)
    requests = [kind for kind in hints.values() if _is_payload(kind)]
    text = inspect.getdoc(function) or ""
    since = _SINCE.search(text) or _SINCE.search(inspect.getdoc(whole) or "")
    return (parts.code(name), since[1] if since else "",
            parts.code(requests[0].__name__) if requests else "",
            parts.code(answer.__name__) if _is_payload(answer) else "",
            _SINCE.sub("", text).replace(" .", "").strip())


def _is_payload(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, fields.Payload)


class Payloads(SphinxDirective):
    """A section for each module, and in it one for each structure that travels."""

    def run(self) -> list[nodes.Node]:
        return [parts.section(self, _story(module),
                              *(parts.section(self, kind.__name__, *_described(kind))
                                for kind in kinds))
                for module in modules() if (kinds := structures(module))]


def structures(module: types.ModuleType) -> list[type[fields.Payload]]:
    """The structures that are defined in a module, in the order of its text."""
    kinds = [kind for _, kind in inspect.getmembers(module, _is_payload)
             if kind.__module__ == module.__name__ and kind is not fields.Payload]
    return sorted(kinds, key=lambda kind: inspect.getsourcelines(kind)[1])


def _story(module: types.ModuleType) -> str:
    first = (inspect.getdoc(module) or module.__name__).split("\n")[0]
    return _SINCE.sub("", first).rstrip(" .")


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
