# SPDX-License-Identifier: Apache-2.0
"""A kill at any point leaves the guest alone, loses no byte and comes to rest.

Each crash point is one test: ``pytest tests/simulation -k <its name>`` plays
it again, exactly.
"""

import pathlib
import tempfile
import typing as ty

import pytest

from tests.simulation import scenario
from tests.simulation.scenario import Point, Scenario

#: Story, executor and outage.
PLAYED = [("back", "libvirt", "short"), ("back", "libvirt", "long"), ("back", "nova", "short"),
          ("back", "nova", "long"), ("fails", "libvirt", "short"), ("fails", "nova", "short"),
          ("joined", "libvirt", "short")]


@pytest.fixture
def root() -> ty.Iterator[pathlib.Path]:
    """In memory where that is possible: nothing here is about a power failure."""
    memory = pathlib.Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None,
                                     prefix="rbd-worker-") as place:
        yield pathlib.Path(place)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "point" in metafunc.fixturenames:
        found = [point for played in PLAYED for point in scenario.points(*played)]
        metafunc.parametrize("point", found, ids=str)


@pytest.mark.parametrize("executor", ["libvirt", "nova"])
def test_without_a_crash_the_guest_goes_there_and_back(root: pathlib.Path, executor: str) -> None:
    played = Scenario(root, "back", executor)
    assert played.problems() == []
    assert played.holder is played.here
    assert [e.outcome for host in played.world.hosts for e in host.entries()] == ["completed"] * 4
    played.world.close()


@pytest.mark.parametrize("executor", ["libvirt", "nova"])
def test_without_a_crash_a_failed_move_leaves_the_guest_where_it_is(root: pathlib.Path,
                                                                    executor: str) -> None:
    played = Scenario(root, "fails", executor)
    assert played.problems() == []
    assert played.holder is played.here
    assert [e.outcome for host in played.world.hosts for e in host.entries()] == ["failed"] * 2
    played.world.close()


def test_a_kill_at_any_point_comes_to_rest(root: pathlib.Path, point: Point) -> None:
    played = Scenario(root, point.story, point.executor, point)
    assert played.problems() == [], f"replay with: pytest tests/simulation -k '{point}'"
    played.world.close()
