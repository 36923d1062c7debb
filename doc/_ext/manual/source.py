# SPDX-License-Identifier: Apache-2.0
"""The sentences in the worker's source, with gaps where it fills in what it knows."""

import ast
import collections.abc
import functools
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[3]

#: What a gap stands for in a template that ``str.format`` or ``logging`` fills in.
_GAP = re.compile(r"\{[^{}]*\}|%\w")
#: Fewer letters beside its gaps, or a smaller share of what is said, and a template
#: would fit any sentence.
_LETTERS, _SHARE = 4, 0.25
_NONE = float("-inf")


def template(node: ast.AST) -> str | None:
    """The text of a string expression, every value written as ``{}``; None for others."""
    match node:
        case ast.Constant(value=str() as text):
            return _GAP.sub("{}", text)
        case ast.JoinedStr(values=values):
            return "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            texts = template(left), template(right)
            return "".join(t if t is not None else "{}" for t in texts) if any(texts) else None
        case ast.Call(func=ast.Attribute(value=text)):  # "...".rstrip()
            return template(text)
    return None


def parsed(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


@functools.cache
def templates() -> tuple[str, ...]:
    """Every string of the worker that says something."""
    found = {" ".join(text.split()) for folder in ("rbd_worker", "rpcapi")
             for path in (ROOT / folder).rglob("*.py")
             for node in ast.walk(ast.parse(path.read_text()))
             if (text := template(node)) and _letters(text) >= _LETTERS}
    found |= {text.removesuffix(" {}") for text in found}  # a reason that may be empty
    return tuple(sorted(found))


def says(sentence: str) -> bool:
    """Whether the worker has that sentence, or one that holds it.

    :param sentence: as printed; with "…" at its end where it goes on with something else.
    """
    wanted = " ".join(sentence.split())
    is_open = wanted.endswith("…")
    wanted = wanted.removesuffix("…").rstrip()
    enough = max(_LETTERS, _SHARE * _letters(wanted))
    return any(_holds(text.split("{}"), wanted, is_open, enough) for text in templates())


def _holds(pieces: list[str], wanted: str, is_open: bool, enough: float) -> bool:
    """Whether ``wanted`` is a filled-in part of a template, from a word's beginning on."""
    if any(wanted in piece for piece in pieces):
        return True
    for number, piece in enumerate(pieces):
        for start in [0, *(match.end() for match in re.finditer(r"[\s:;\]]+", piece))]:
            first = piece[start:]
            if wanted.startswith(first) and enough <= _common(
                    [first, *pieces[number + 1:]], wanted, is_open):
                return True
    return False


def _common(pieces: list[str], wanted: str, is_open: bool) -> float:
    """How many letters of ``wanted`` are the template's own; none where it is another one."""
    first, *others = pieces
    if first.startswith(wanted):  # it ends within this piece
        return _letters(wanted)
    if not wanted.startswith(first):
        return _NONE
    own, rest = _letters(first), wanted[len(first):]
    if not rest:
        return own if is_open or others in ([], [""]) else _NONE
    if not others:
        return _NONE
    gap_to_the_end = 0 if is_open or others == [""] else _NONE
    return own + max(gap_to_the_end, *(_common(others, rest[at:], is_open)
                                       for at in _ends_of_gap(others[0], rest)), _NONE)


def _ends_of_gap(piece: str, rest: str) -> collections.abc.Iterator[int]:
    """Where in ``rest`` a gap may end: before the whole piece, or before its beginning."""
    if not piece:
        return
    at = rest.find(piece, 1)
    while at != -1:
        yield at
        at = rest.find(piece, at + 1)
    for at in range(max(1, len(rest) - len(piece) + 1), len(rest)):
        if piece.startswith(rest[at:]):
            yield at


def _letters(text: str) -> int:
    return sum(letter.isalpha() for letter in text)


def calls(path: str, name: str) -> collections.abc.Iterator[ast.Call]:
    """Every call of ``name`` in a file, in order."""
    found = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)
             and isinstance(node.func, ast.Name) and node.func.id == name]
    return iter(sorted(found, key=lambda node: node.lineno))
