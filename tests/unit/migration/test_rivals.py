# SPDX-License-Identifier: Apache-2.0
"""Executor nova: several orders about one guest, of which at most one is true."""

import dataclasses
import itertools

import pytest

from devstack import conductor
from rbd_worker.model import GuestState, Outcome
from tests.unit.conftest import MakeWorld
from tests.world import Host, Nova, World

#: Seconds after Nova's check: Nova prepares the destination, the guest moves, it has moved.
BEFORE, DURING, AFTER = 0.2, 1.5, 2.6


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world("nova", hosts=3, prepare_timeout=3600)


@pytest.fixture
def elsewhere(world: World) -> Host:
    return world.hosts[2]


def _move(world: World, guest: str, forged: conductor.LiveMigration, at: float,
          how: str = "succeed") -> conductor.LiveMigration:
    """A real move from the first host to the second, and a forged cast to the first meanwhile."""
    here, there, _ = world.hosts
    nova = Nova(world, world.order(guest, here, there), how)
    nova.begin()
    world.timeline.after(at, lambda: here.cast(conductor.live_migration(forged)))
    world.timeline.pass_time(7200)
    return nova.order


def _check_carried(world: World, guest: str, order: conductor.LiveMigration) -> None:
    """The real order is at its end on both hosts, and nothing of the guest is anywhere else."""
    here, there, elsewhere = world.hosts
    assert {host.entry(order.uuid).outcome for host in (here, there)} == {Outcome.COMPLETED}
    assert there.files(guest)["console.log.0"].decode().splitlines() == here.libvirt.said
    assert not here.has_directory(guest) and not elsewhere.has_directory(guest)
    assert [host.trashed() for host in world.hosts] == [[], [], []]
    assert [host.staged(guest) for host in world.hosts] == [[], [], []]
    assert [e for host in world.hosts for e in host.entries() if e.is_open] == []


@pytest.mark.parametrize("at", [BEFORE, DURING, AFTER])
def test_a_forged_order_to_another_host_does_not_end_the_real_one(
        world: World, here: Host, elsewhere: Host, at: float) -> None:
    guest = world.boot(here)
    forged = world.order(guest, here, elsewhere, number=2)
    _check_carried(world, guest, _move(world, guest, forged, at))
    assert here.entry(forged.uuid).outcome is Outcome.FAILED


@pytest.mark.parametrize("at", [BEFORE, DURING, AFTER])
def test_nor_does_one_to_a_host_that_does_not_exist(world: World, here: Host,
                                                    elsewhere: Host, at: float) -> None:
    guest = world.boot(here)
    forged = dataclasses.replace(world.order(guest, here, elsewhere, number=2), destination="x")
    order = _move(world, guest, forged, at)
    _check_carried(world, guest, order)
    if at != AFTER:
        assert order.uuid in here.entry(forged.uuid).reason


def test_a_second_order_to_the_same_host_while_the_guest_moves_leaves_it_to_the_first(
        world: World, here: Host, there: Host) -> None:
    guest = world.boot(here)
    late = world.order(guest, here, there, number=2)
    order = _move(world, guest, late, DURING)
    _check_carried(world, guest, order)
    assert here.entry(late.uuid).outcome is Outcome.FAILED
    assert order.uuid in here.entry(late.uuid).reason
    assert [e.migration.key for e in there.entries()] == [order.uuid]


@pytest.mark.parametrize("how", ["succeed", "post error"])
@pytest.mark.parametrize("at", [AFTER, 3.0, 20.0, 40.0])
def test_an_order_that_is_heard_when_the_guest_has_left_carries_nothing_again(
        world: World, here: Host, there: Host, at: float, how: str) -> None:
    guest = world.boot(here)
    late = world.order(guest, here, there, number=2)
    order = _move(world, guest, late, at, how)
    assert {host.entry(order.uuid).outcome for host in (here, there)} == {Outcome.COMPLETED}
    assert [e for host in world.hosts for e in host.entries() if e.is_open] == []
    logs = b"".join(content for name, content in there.files(guest).items() if "console" in name)
    for line in here.libvirt.said:
        assert logs.count(line.encode()) == 1


def test_before_the_guest_moves_a_second_order_to_the_same_host_does_the_firsts_work(
        world: World, here: Host, there: Host) -> None:
    guest = world.boot(here)
    second = world.order(guest, here, there, number=2)
    _move(world, guest, second, BEFORE)
    _check_carried(world, guest, second)


def test_while_the_guest_moves_the_destination_of_a_second_order_is_left_alone(
        world: World, here: Host, elsewhere: Host) -> None:
    guest = world.boot(here)
    _move(world, guest, world.order(guest, here, elsewhere, number=2), DURING)
    assert elsewhere.entries() == []


@pytest.mark.parametrize("at", [BEFORE, DURING])
def test_a_worker_that_is_killed_meanwhile_knows_which_order_was_first(
        world: World, here: Host, elsewhere: Host, at: float) -> None:
    guest = world.boot(here)
    world.timeline.after(at + 0.1, here.restart)
    forged = world.order(guest, here, elsewhere, number=2)
    order = _move(world, guest, forged, at)
    assert {host.entry(order.uuid).outcome for host in world.hosts[:2]} == {Outcome.COMPLETED}
    assert [e for host in world.hosts for e in host.entries() if e.is_open] == []


@pytest.mark.parametrize("at", [BEFORE, DURING])
def test_where_the_move_fails_both_orders_end_and_the_source_stays_whole(
        world: World, here: Host, there: Host, elsewhere: Host, at: float) -> None:
    guest = world.boot(here)
    before = here.files(guest)
    forged = world.order(guest, here, elsewhere, number=2)
    order = _move(world, guest, forged, at, "fail")
    assert {here.entry(key).outcome for key in (order.uuid, forged.uuid)} == {Outcome.FAILED}
    assert here.files(guest).keys() == before.keys()
    assert here.files(guest)["console.log"].decode().splitlines() == here.libvirt.said
    assert here.libvirt.states[guest] is GuestState.RUNNING
    assert [host.staged(guest) for host in world.hosts] == [[], [], []]


def test_novas_next_order_to_another_host_is_carried_out_beside_one_that_nobody_ended(
        world: World, here: Host, there: Host, elsewhere: Host) -> None:
    guest = world.boot(here)
    first = world.order(guest, here, there, 1)
    here.cast(conductor.live_migration(first))
    world.timeline.pass_time(60)
    second = world.migrate(guest, here, elsewhere, number=2)
    assert here.entry(second.uuid).outcome is Outcome.COMPLETED
    assert elsewhere.files(guest)["console.log.0"].decode().splitlines() == here.libvirt.said
    assert here.entry(first.uuid).outcome is Outcome.FAILED
    assert second.uuid in here.entry(first.uuid).reason
    assert there.entry(first.uuid).outcome is Outcome.FAILED
    assert [host.staged(guest) for host in world.hosts] == [[], [], []]
    assert [host.trashed() for host in world.hosts] == [[], [], []]


def test_ten_moves_in_a_row_are_ten_of_their_own(world: World, here: Host, there: Host) -> None:
    guest = world.boot(here)
    hosts = [here, there] * 5 + [here]
    keys = [world.migrate(guest, source, destination, number=number, seconds=8).uuid
            for number, (source, destination) in enumerate(itertools.pairwise(hosts))]
    world.timeline.pass_time(3600)
    assert {host.entry(key).outcome for host in (here, there) for key in keys} == {
        Outcome.COMPLETED}
