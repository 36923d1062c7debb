# SPDX-License-Identifier: Apache-2.0
"""The worker's own errors, taken from their classes: what they say, why, and what to do."""

import inspect
import re
import typing as ty

from rbd_worker import errors
from rbd_worker.catalogue.entry import Entry

ORIGIN = "rbd-worker"
#: What follows from each branch of the tree, for errors that need nothing done.
_BRANCHES: tuple[tuple[type[errors.Error], str], ...] = (
    (errors.Transient, "It is repeated by itself; look into it only if it stays."),
    (errors.Undecided, "Nothing is removed, and it is asked again by itself; rbd-workerctl "
                       "migration show tells what is waited for."),
    (errors.Permanent, "A retry cannot help: correct what the sentence names."),
)
_FIELD = re.compile(r"\{(\w+)[^}]*\}")
#: Fewer letters of its own than this and a sentence would be found in anything.
_LEAST_WORDS = 14


def entries() -> tuple[Entry, ...]:
    """One for each class below the three branches."""
    return tuple(_entry(kind) for kind in _below(errors.Error)
                 if kind not in [branch for branch, _ in _BRANCHES])


def _below(kind: type[errors.Error]) -> ty.Iterator[type[errors.Error]]:
    for each in kind.__subclasses__():
        if each.__module__ == errors.__name__:  # not those that tests derive
            yield each
            yield from _below(each)


def _entry(kind: type[errors.Error]) -> Entry:
    advice = next(text for branch, text in _BRANCHES if issubclass(kind, branch))
    told = inspect.getdoc(kind) if kind.__dict__.get("__doc__") else None
    remedy = _FIELD.sub(r"<\1>", kind.remedy)
    has_remedy = bool(_FIELD.sub("", kind.remedy).strip())
    return Entry(kind.__name__, ORIGIN, _FIELD.sub(r"<\1>", kind.msg), _pattern(kind.msg),
                 " ".join((told or _FIELD.sub(r"<\1>", kind.msg)).split()),
                 f"{remedy}. {advice}" if has_remedy else advice)


def _pattern(template: str) -> str:
    """The sentence with anything in its fields; empty where it has few words of its own.

    A log may have lines of thousands of characters, so a search looks at each of them about
    once: a field that begins the sentence is any one character, and one between words is left
    for good where the next words first are.
    """
    words = [part for i, part in enumerate(_FIELD.split(template)) if i % 2 == 0]
    if sum(1 for c in "".join(words) if c.isalpha()) < _LEAST_WORDS:
        return ""
    first, *others = map(re.escape, words)
    begin = first or f".{others.pop(0)}"
    return begin + "".join(f"(?>.+?{other})" for other in others)
