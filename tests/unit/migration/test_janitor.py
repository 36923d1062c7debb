# SPDX-License-Identifier: Apache-2.0
"""The hourly round with a real trash and a real journal, under a clock that may be wrong."""

import logging
import pathlib

import pytest

from rbd_worker.host import clock_guard
from rbd_worker.migration import janitor
from tests.unit.conftest import MakeWorld
from tests.world import Host, World

DAY = 86400


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world("libvirt", trash_retention=7 * DAY)


class Round:
    """A janitor on a host; the uptime goes with the world's time until ``jump``."""

    def __init__(self, world: World, host: Host, directory: pathlib.Path) -> None:
        self._world = world
        self._jumped = 0.0
        clocks = clock_guard.Clocks(world.timeline, lambda: world.timeline() - self._jumped,
                                    lambda: "boot")
        self.janitor = janitor.Janitor(host.alive.ports,
                                       clock_guard.ClockGuard(directory, clocks))

    def jump(self, seconds: float) -> None:
        self._jumped += seconds
        self._world.timeline.pass_time(seconds)


@pytest.fixture
def cleaning(world: World, here: Host, there: Host, tmp_path: pathlib.Path) -> Round:
    """After a migration whose source directory is in the trash."""
    world.migrate(world.boot(here), here, there)
    cleaning = Round(world, here, tmp_path)
    cleaning.janitor.clean()
    assert len(here.trashed()) == 1 and len(here.entries()) == 1
    return cleaning


def test_what_is_old_leaves(world: World, here: Host, cleaning: Round) -> None:
    world.timeline.pass_time(91 * DAY)
    cleaning.janitor.clean()
    assert here.trashed() == [] and here.entries() == []


def test_a_clock_far_ahead_purges_nothing_and_is_told_once(
        here: Host, cleaning: Round, caplog: pytest.LogCaptureFixture) -> None:
    cleaning.jump(365 * DAY)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            cleaning.janitor.clean()
    assert len(here.trashed()) == 1 and len(here.entries()) == 1
    assert len([r for r in caplog.records if "clock was set ahead" in r.getMessage()]) == 1
    assert "check the host's time service" in cleaning.janitor.doubt


def test_after_a_day_the_new_time_is_believed(world: World, here: Host,
                                              cleaning: Round) -> None:
    cleaning.jump(365 * DAY)
    cleaning.janitor.clean()
    world.timeline.pass_time(DAY + 1)
    cleaning.janitor.clean()
    assert here.trashed() == [] and cleaning.janitor.doubt == ""


def test_a_removal_that_a_kill_cut_off_goes_on_whatever_the_clock_says(
        here: Host, cleaning: Round) -> None:
    (item,) = here.trashed()
    area = here.path / ".rbd-worker" / "trash"
    (area / item.id).rename(area / f"{item.id}.purging")
    cleaning.jump(365 * DAY)
    cleaning.janitor.clean()
    assert list(area.iterdir()) == []
