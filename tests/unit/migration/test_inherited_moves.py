# SPDX-License-Identifier: Apache-2.0
"""Executor libvirt: moves that a restarted worker finds under way, and post-copy that broke."""

import typing as ty

import pytest

from devstack import conductor
from rbd_worker import errors
from rbd_worker.model import GuestState, Outcome
from tests.unit.conftest import MakeWorld
from tests.world import Host, World


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world("libvirt", settle_interval=5)


def _moving(world: World, here: Host, there: Host) -> tuple[str, conductor.LiveMigration]:
    """A guest under way whose move does not end by itself."""
    guest = world.boot(here)
    order = world.order(guest, here, there)
    here.libvirt.next_moves = ["hang"]
    here.cast(conductor.live_migration(order))
    world.timeline.pass_time(3)
    assert here.libvirt.states[guest] is GuestState.OUTGOING
    return guest, order


def test_a_move_is_still_aborted_at_its_time_limit_after_a_restart(
        world: World, here: Host, there: Host) -> None:
    guest, order = _moving(world, here, there)
    here.libvirt.completion_timeout = 60
    here.restart()
    world.timeline.pass_time(40)
    assert here.libvirt.states[guest] is GuestState.OUTGOING
    world.timeline.pass_time(300)
    assert here.libvirt.states[guest] is GuestState.RUNNING
    entry = here.entry(order.uuid)
    assert entry.outcome is Outcome.FAILED
    assert "not complete after 60 s: abort" in entry.reason
    assert here.has_directory(guest) and not there.has_directory(guest)
    assert here.libvirt.orders.count(("move", guest)) == 1, "it is not ordered again"


def test_an_abort_that_libvirt_did_not_hear_is_given_again_after_a_restart(
        world: World, here: Host, there: Host) -> None:
    guest, order = _moving(world, here, there)
    here.libvirt.is_down = True
    here.cast(conductor.abort(order))
    here.kill()
    here.libvirt.is_down = False
    world.timeline.pass_time(300)
    assert here.libvirt.states[guest] is GuestState.RUNNING
    assert here.libvirt.orders == [("move", guest), ("abort", guest)]
    for host in (here, there):
        assert host.entry(order.uuid).outcome is Outcome.CANCELLED
    assert here.has_directory(guest) and not there.has_directory(guest)


def test_a_move_whose_connection_is_lost_is_still_aborted_at_its_time_limit(
        world: World, here: Host, there: Host) -> None:
    guest = world.boot(here)
    order = world.order(guest, here, there)
    here.libvirt.completion_timeout = 60
    here.libvirt.next_moves = ["lose connection"]
    here.cast(conductor.live_migration(order))
    world.timeline.pass_time(40)
    assert here.libvirt.states[guest] is GuestState.OUTGOING
    world.timeline.pass_time(300)
    assert here.libvirt.states[guest] is GuestState.RUNNING
    assert "not complete after 60 s: abort" in here.entry(order.uuid).reason
    assert here.libvirt.orders.count(("move", guest)) == 1, "it is not ordered again"
    assert here.has_directory(guest) and not there.has_directory(guest)


def test_a_move_that_arrives_after_a_restart_is_completed(
        world: World, here: Host, there: Host) -> None:
    guest, order = _moving(world, here, there)
    here.restart()
    world.timeline.pass_time(20)
    here.libvirt.transfers[0].finish()
    world.timeline.pass_time(300)
    assert there.libvirt.states[guest] is GuestState.RUNNING
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED
    assert not here.has_directory(guest)


def test_a_move_that_cannot_be_followed_is_not_tried_without_a_pause(
        world: World, here: Host, there: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    guest, _ = _moving(world, here, there)
    follow, tried = here.libvirt.follow, []

    def refused(instance: str, on_progress: ty.Any) -> str:
        tried.append(world.timeline.now)
        if len(tried) < 50:
            raise errors.HypervisorUnavailable(uri="qemu:///system", reason="too many clients")
        return follow(instance, on_progress)
    monkeypatch.setattr(here.libvirt, "follow", refused)
    here.restart()
    world.timeline.pass_time(30)
    assert here.libvirt.states[guest] is GuestState.OUTGOING
    assert 3 < len(tried) < 20


def test_a_guest_lost_in_post_copy_is_unresolved_on_both_hosts_and_ends_with_its_return(
        world: World, here: Host, there: Host) -> None:
    guest, order = _moving(world, here, there)
    here.libvirt.transfers[0].is_over = True
    here.libvirt.states[guest] = GuestState.STRANDED
    del there.libvirt.states[guest]
    for host in (here, there):
        host.libvirt.on_event(guest)
    world.timeline.pass_time(900)
    for host in (here, there):
        entry = host.entry(order.uuid)
        assert entry.outcome is Outcome.UNRESOLVED
        assert "the guest is lost" in entry.reason and "Never resume" in entry.reason
        assert host.has_directory(guest)
    here.libvirt.states[guest] = GuestState.RUNNING  # destroyed and started again
    world.timeline.pass_time(900)
    assert here.entry(order.uuid).outcome is Outcome.FAILED
    assert here.has_directory(guest) and not there.has_directory(guest)
