# SPDX-License-Identifier: Apache-2.0
"""Every input that fuzzing ever found worth keeping, and generated ones beside them."""

import logging
import typing as ty

import hypothesis
import pytest
from hypothesis import strategies as st

from rbd_worker.migration import journal_file
from tests.fuzz import corpus, mutate, targets


@pytest.fixture(autouse=True)
def all_as_before() -> ty.Iterator[None]:
    """Targets are silent, and their journals wait for no disk; other tests look at both."""
    opened = journal_file.opened
    yield
    logging.disable(logging.NOTSET)
    journal_file.opened = opened


@pytest.mark.parametrize("name", targets.NAMES)
def test_no_known_input_breaks_a_promise(name: str) -> None:
    target = targets.load(name)
    for content in (*target.seeds, *corpus.committed(name).values()):
        target.one(content)


@pytest.mark.parametrize("name", targets.NAMES)
@hypothesis.settings(max_examples=60, deadline=None, derandomize=True,
                     suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(seed=st.integers(0, 1 << 32), which=st.integers(0, 1 << 16))
def test_changed_inputs_break_no_promise(name: str, seed: int, which: int) -> None:
    target = _loaded(name)
    change = mutate.JsonMutator(target.words)
    data = target.seeds[which % len(target.seeds)]
    for step in range(4):
        data = change(data, target.max_len, seed + step)
        target.one(data)


def test_lists_nested_too_deep_to_be_copied_are_changed_all_the_same() -> None:
    target = _loaded("cast-message")
    change = mutate.JsonMutator(target.words)
    deep = [seed for seed in target.seeds if seed.count(b"[") >= 300]
    assert len(deep) > 3
    for seed in deep:
        assert len({change(seed, target.max_len, number) for number in range(200)}) > 50


_made: dict[str, targets.Target] = {}


def _loaded(name: str) -> targets.Target:
    if name not in _made:
        _made[name] = targets.load(name)
    logging.disable(logging.CRITICAL)
    return _made[name]


@pytest.mark.parametrize("name", targets.NAMES)
def test_what_is_kept_in_the_source_is_small(name: str) -> None:
    kept = corpus.committed(name)
    assert sum(map(len, kept.values())) <= 2 * corpus.MOST_BYTES
    assert len([n for n in kept if not n.startswith("found-")]) <= corpus.MOST_INPUTS
