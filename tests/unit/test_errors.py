# SPDX-License-Identifier: Apache-2.0
"""The tree of errors: every class fits one branch and can be shown to an operator."""

import string
import typing as ty

import pytest

from rbd_worker import errors

BRANCHES = (errors.Transient, errors.Permanent, errors.Undecided)


def _classes(base: type[errors.Error] = errors.Error) -> list[type[errors.Error]]:
    return [cls for child in base.__subclasses__() for cls in (child, *_classes(child))]


def _ours() -> list[type[errors.Error]]:
    return sorted({c for c in _classes() if c.__module__ == errors.__name__},
                  key=lambda c: c.__name__)


def _fields(template: str) -> set[str]:
    return {name.split("!")[0] for _, name, _, _ in string.Formatter().parse(template) if name}


@pytest.mark.parametrize("cls", [c for c in _ours() if c not in BRANCHES],
                         ids=lambda c: c.__name__)
def test_every_error_is_of_exactly_one_branch(cls: type[errors.Error]) -> None:
    assert sum(issubclass(cls, branch) for branch in BRANCHES) == 1


@pytest.mark.parametrize("cls", [c for c in _ours() if c.__init__ is errors.Error.__init__],
                         ids=lambda c: c.__name__)
def test_every_error_makes_a_sentence_of_its_data(cls: type[errors.Error]) -> None:
    data: dict[str, ty.Any] = {name: f"<{name}>" for name in
                               _fields(cls.msg) | _fields(cls.remedy)}
    error = cls(**data)
    assert all(f"<{name}>" in error.sentence for name in data)
    assert "{" not in error.sentence
    assert ".." not in error.sentence


def test_the_remedy_follows_the_sentence() -> None:
    error = errors.AnotherWorker(path="/var/lib/nova/rbd-worker")
    assert error.sentence == (
        "another rbd-worker already runs on this host with /var/lib/nova/rbd-worker. "
        "Stop it first; two workers would act on the same directories")


def test_an_error_without_remedy_is_one_sentence() -> None:
    error = errors.GuestNotHere(instance="i", host="node01")
    assert error.sentence == "no guest i on node01"


def test_data_stays_with_the_error() -> None:
    assert errors.NotProven(instance="i", reason="because").data == {
        "instance": "i", "reason": "because"}


def test_a_missing_piece_of_data_is_noticed_where_the_error_is_made() -> None:
    with pytest.raises(KeyError):
        errors.GuestNotHere(instance="i")


@pytest.mark.parametrize("name", ["a\nforged line", "\x1b[31mred", "\u202egnp", "\udcff", "\0",
                                  "n" * 100_000])
def test_a_name_from_outside_cannot_forge_lines_or_fill_a_log(name: str) -> None:
    sentence = errors.DigestMismatch(path=name).sentence
    assert sentence.isprintable()
    assert len(sentence) < 9000
    assert errors.BadConfiguration(option="x", reason="y", fix=name).sentence.isprintable()


def test_a_value_in_a_value_in_a_value_is_refused_like_any_other() -> None:
    nested: list[ty.Any] = []
    for _ in range(100_000):
        nested = [nested]
    assert "list" in str(errors.BadInstanceUUID(nested))
    assert "list" in str(errors.BadHostName(nested))
