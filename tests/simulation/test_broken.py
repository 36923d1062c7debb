# SPDX-License-Identifier: Apache-2.0
"""A simulation that finds nothing proves nothing: each invariant catches a broken worker."""

import itertools
import pathlib

import pytest

from tests.simulation import play
from tests.simulation.broken import BROKEN, Broken

#: Seeds that are tried; most broken workers are caught within the first hundred.
MOST = 600


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_broken_worker_is_caught(root: pathlib.Path, broken: Broken) -> None:
    assert _caught(broken, root) is not None, f"{MOST} schedules broke no promise"


def test_each_invariant_catches_something() -> None:
    assert {broken.breaks for broken in BROKEN} == {
        "removal", "bytes", "directory", "rest", "explained", "guest", "message", "secret",
        "carried"}


def test_a_failing_schedule_is_made_small_and_still_fails(root: pathlib.Path) -> None:
    broken = next(b for b in BROKEN if b.breaks == "secret")
    with broken.applied():
        found = _caught(broken, root)
        assert found is not None
        small = play.minimised(found, root)
    assert small.broken == {"secret"}
    assert len(small.schedule.happenings) == 1
    assert small.story


def _caught(broken: Broken, root: pathlib.Path) -> play.Result | None:
    """The first result that breaks the invariant that has to break."""
    schedules = itertools.chain(broken.first, map(play.of, range(MOST)))
    with broken.applied():
        results = (play.play(schedule, root) for schedule in schedules)
        return next((r for r in results if broken.breaks in r.broken), None)
