# SPDX-License-Identifier: Apache-2.0
"""The clock of the hosts is set while a guest moves: nothing is lost, and nobody waits for it."""

import pytest

from tests import world as worlds
from tests.unit.conftest import MakeWorld
from tests.world import Host, Nova, World

HOUR = 3600
DAY = 86400
#: Far more than any pause of a plan, and far less than the clock was set back by.
REST = 1200
JUMPS = [-HOUR, HOUR, 400 * DAY]
#: Seconds after the order: while it is prepared, while the guest moves, and while
#: nova-compute is given time to clean up.
MOMENTS = [0.05, 1.5, 10]


def _jump(world: World, moment: float, seconds: float) -> None:
    world.timeline.pass_time(moment)
    world.timeline.set_clock(seconds)
    world.timeline.pass_time(REST)


def _assert_at_rest(guest: str, here: Host, there: Host) -> None:
    assert [entry.outcome for host in (here, there) for entry in host.entries()] == [
        "completed"] * 2
    found = there.files(guest)
    assert {name: found[name] for name in worlds.FILES} == worlds.FILES
    assert found["console.log.0"].decode().splitlines() == here.libvirt.said
    assert not here.has_directory(guest)


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_what_nova_left_behind_leaves_in_good_time(make_world: MakeWorld, moment: float,
                                                   jump: float) -> None:
    world = make_world("nova")
    here, there = world.hosts
    guest = world.boot(here)
    Nova(world, world.order(guest, here, there), "post error").begin()
    _jump(world, moment, jump)
    _assert_at_rest(guest, here, there)
    (item,) = here.trashed()
    assert item.doubt == ""


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_move_by_libvirt_ends_as_without_it(make_world: MakeWorld, moment: float,
                                              jump: float) -> None:
    world = make_world("libvirt")
    here, there = world.hosts
    guest = world.boot(here)
    world.migrate(guest, here, there, seconds=0)
    _jump(world, moment, jump)
    _assert_at_rest(guest, here, there)


def test_a_directory_from_the_future_is_young_for_the_audit(make_world: MakeWorld) -> None:
    """The clock was set back after it was made."""
    world = make_world("nova", audit_min_age=60, audit_pause=0)
    here, there = world.hosts
    guest = world.boot(here)
    there.directory(guest).mkdir()
    world.timeline.pass_time(DAY)
    assert [f.verdict for f in there.alive.audit.run(act=False).findings] == ["leftover"]
    world.timeline.set_clock(-2 * DAY)
    (finding,) = there.alive.audit.run(act=True).findings
    assert (finding.verdict, finding.reason) == ("kept", "it was changed 0 s ago")
    assert there.has_directory(guest)
