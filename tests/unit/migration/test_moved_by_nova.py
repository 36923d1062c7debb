# SPDX-License-Identifier: Apache-2.0
"""Executor nova: nova-compute moves the guest, and the workers see to its files."""

import shutil
import time

import pytest

from devstack import conductor
from rbd_worker.model import GuestState, Outcome
from tests import fakes
from tests import world as worlds
from tests.unit.conftest import MakeWorld
from tests.world import Host, Nova, World


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world("nova")


def _leftover(host: Host, guest: str) -> dict[str, bytes]:
    """A directory as an evacuation or a reverted resize leaves it."""
    host.directory(guest).mkdir()
    (host.directory(guest) / "console.log").write_text("from long ago\n")
    return host.files(guest)


def _in_novas_words(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000", time.gmtime(moment))


# -- success -----------------------------------------------------------------


def test_the_console_history_and_the_other_files_come_along(world: World, here: Host,
                                                            there: Host) -> None:
    guest = world.boot(here)
    order = world.migrate(guest, here, there)
    found = there.files(guest)
    assert {name: found[name] for name in worlds.FILES} == worlds.FILES
    assert found["console.log.0"].decode().splitlines() == here.libvirt.said
    assert found["console.log"].decode().splitlines() == there.libvirt.said
    for host in world.hosts:
        assert host.entry(order.uuid).outcome is Outcome.COMPLETED
        assert host.staged(guest) == []
    assert not here.has_directory(guest)


def test_the_worker_orders_nothing_from_libvirt(world: World, here: Host, there: Host) -> None:
    guest = world.boot(here)
    world.migrate(guest, here, there)
    assert here.libvirt.orders == there.libvirt.orders == []


def test_no_directory_is_made_before_novas_own(world: World, here: Host, there: Host) -> None:
    """A directory that stands already makes Nova fail."""
    guest = world.boot(here)
    here.cast(conductor.live_migration(world.order(guest, here, there)))
    world.timeline.pass_time(600)
    assert there.staged(guest) != []
    assert not there.has_directory(guest)


def test_a_file_of_the_destinations_own_is_never_replaced(world: World, here: Host,
                                                          there: Host) -> None:
    guest = world.boot(here)
    nova = Nova(world, world.order(guest, here, there))
    nova.begin()
    world.timeline.after(1, lambda: (there.directory(guest) / "disk.info").write_text("mine"))
    world.timeline.pass_time(600)
    assert there.files(guest)["disk.info"] == b"mine"
    assert here.entry(nova.order.uuid).outcome is Outcome.COMPLETED


def test_what_nova_left_on_the_source_goes_to_the_trash_after_the_grace(
        make_world: MakeWorld) -> None:
    world = make_world("nova", nova_cleanup_grace=60)
    here, there = world.hosts
    guest = world.boot(here)
    nova = Nova(world, world.order(guest, here, there), "post error")
    nova.begin()
    world.timeline.pass_time(50)
    assert here.has_directory(guest), "nova-compute may still be busy with it"
    world.timeline.pass_time(60)
    assert not here.has_directory(guest)
    (item,) = here.trashed()
    assert item.migration == nova.order.uuid
    assert here.entry(nova.order.uuid).outcome is Outcome.COMPLETED


def test_a_directory_that_cannot_be_carried_does_not_hold_the_migration_up(
        world: World, here: Host, there: Host) -> None:
    guest = world.boot(here)
    (here.directory(guest) / "link").symlink_to("/etc/passwd")
    order = world.migrate(guest, here, there)
    assert there.libvirt.states == {guest: GuestState.RUNNING}
    assert set(there.files(guest)) == {"console.log"}
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED
    assert there.libvirt.orders == here.libvirt.orders == []


def test_a_worker_that_was_away_during_the_preparation_is_given_everything_afterwards(
        make_world: MakeWorld) -> None:
    world = make_world("nova", live_migration_retry_count=2)
    here, there = world.hosts
    there.restarts_after = 30
    there.kill()
    guest = world.boot(here)
    order = world.migrate(guest, here, there)
    found = there.files(guest)
    assert {name: found[name] for name in worlds.FILES} == worlds.FILES
    assert found["console.log.0"].decode().splitlines() == here.libvirt.said
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED


def test_a_restarted_source_still_has_the_files_when_nova_removes_them(
        world: World, here: Host, there: Host) -> None:
    guest = world.boot(here)
    here.restarts_after = 0.2
    world.timeline.after(1, here.kill)
    order = world.migrate(guest, here, there)
    found = there.files(guest)
    assert found["console.log.0"].decode().splitlines() == here.libvirt.said
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED


def test_a_restarted_source_takes_the_files_at_once_and_not_when_it_needs_them(
        world: World, here: Host, there: Host) -> None:
    """Nova removes them while the destination's worker is away and cannot take them yet."""
    guest = world.boot(here)
    here.restarts_after, there.restarts_after = 0.2, 20
    world.timeline.after(1, here.kill)
    world.timeline.after(1.5, there.kill)
    order = world.migrate(guest, here, there)
    found = there.files(guest)
    assert found["console.log.0"].decode().splitlines() == here.libvirt.said
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED


def test_without_any_worker_at_the_destination_nova_goes_on(world: World, here: Host,
                                                            there: Host) -> None:
    there.restarts_after = None
    there.kill()
    guest = world.boot(here)
    order = world.migrate(guest, here, there)
    assert there.libvirt.states == {guest: GuestState.RUNNING}
    entry = here.entry(order.uuid)
    assert entry.is_open and entry.outcome is Outcome.UNRESOLVED
    assert "Check that rbd-worker runs on node02" in entry.reason


def test_a_cast_that_is_heard_late_still_brings_the_history(world: World, here: Host,
                                                            there: Host) -> None:
    """The guest has moved, but Nova left the source's directory: it has what must not be lost."""
    guest = world.boot(here)
    here.restarts_after = None
    here.kill()
    order = world.order(guest, here, there)
    Nova(world, order, "post error").begin()
    world.timeline.pass_time(600)
    assert there.libvirt.states == {guest: GuestState.RUNNING}
    here.start()
    world.timeline.pass_time(600)
    assert there.files(guest)["console.log.0"].decode().splitlines() == here.libvirt.said
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED
    assert not here.has_directory(guest)


# -- failure -----------------------------------------------------------------


def test_after_a_failed_move_both_let_go_within_one_look(world: World, here: Host,
                                                         there: Host) -> None:
    guest = world.boot(here)
    before = set(here.files(guest))
    order = world.migrate(guest, here, there, how="fail", seconds=40)
    assert set(here.files(guest)) == before
    assert not there.has_directory(guest)
    assert there.staged(guest) == []
    for host in world.hosts:
        assert host.entry(order.uuid).outcome is Outcome.FAILED


def test_a_rollback_before_the_guest_moved_makes_the_source_let_go(world: World, here: Host,
                                                                   there: Host) -> None:
    """The source hears no cast when Nova gives up; its peer tells it."""
    guest = world.boot(here)
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    world.timeline.pass_time(5)
    assert there.staged(guest) != []
    there.cast(conductor.rollback_at_destination(order))
    world.timeline.pass_time(20)
    for host in world.hosts:
        assert host.entry(order.uuid).outcome is Outcome.FAILED
    assert there.staged(guest) == []


def test_the_source_waits_while_nova_holds_the_migration_back(make_world: MakeWorld) -> None:
    world = make_world("nova", prepare_timeout=3600)
    here, there = world.hosts
    guest = world.boot(here)
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    world.timeline.pass_time(3000)
    assert here.entry(order.uuid).is_open and here.entry(order.uuid).outcome is None
    world.timeline.pass_time(2000)
    assert here.entry(order.uuid).outcome is Outcome.FAILED
    world.timeline.pass_time(2000)
    assert there.entry(order.uuid).outcome is Outcome.FAILED
    assert there.staged(guest) == []


def test_a_newer_migration_takes_the_place_of_an_older_one(world: World, here: Host,
                                                           there: Host) -> None:
    """Nova allows one at a time: the older one has ended without anybody saying so."""
    guest = world.boot(here)
    first = world.order(guest, here, there, 1)
    here.cast(conductor.live_migration(first))
    world.timeline.pass_time(60)
    second = world.migrate(guest, here, there, number=2)
    assert here.entry(first.uuid).outcome is Outcome.FAILED
    assert there.entry(first.uuid).outcome is Outcome.FAILED
    assert here.entry(second.uuid).outcome is Outcome.COMPLETED
    assert there.files(guest)["console.log.0"].decode().splitlines() == here.libvirt.said


# -- leftovers ---------------------------------------------------------------


def test_a_leftover_is_out_of_the_way_before_nova_looks(world: World, here: Host,
                                                        there: Host) -> None:
    guest = world.boot(here)
    content = _leftover(there, guest)
    world.timeline.pass_time(10)
    nova = Nova(world, world.order(guest, here, there))
    nova.begin()
    world.timeline.pass_time(600)
    assert nova.failed == ""
    assert there.libvirt.states == {guest: GuestState.RUNNING}
    (item,) = there.trashed()
    assert worlds.files_below(there.path / ".rbd-worker/trash" / item.id / "directory") == content


def test_with_report_only_a_leftover_in_the_way_is_told_and_stays(make_world: MakeWorld) -> None:
    world = make_world("nova", audit_acts=False)
    here, there = world.hosts
    guest = world.boot(here)
    content = _leftover(there, guest)
    world.timeline.pass_time(10)
    there.cast(conductor.check_destination(world.order(guest, here, there)))
    world.timeline.pass_time(60)
    assert there.files(guest) == content and there.trashed() == []
    (refusal,) = there.alive.journal.refusals()
    assert f"is a leftover, its guest is on {here.name}" in refusal.reason


def test_a_directory_that_was_made_just_now_is_no_leftover(world: World, here: Host,
                                                           there: Host) -> None:
    guest = world.boot(here)
    content = _leftover(there, guest)
    there.cast(conductor.check_destination(world.order(guest, here, there)))
    world.timeline.pass_time(60)
    assert there.files(guest) == content
    (refusal,) = there.alive.journal.refusals()
    assert "it was changed" in refusal.reason


def test_a_check_that_is_heard_late_takes_nothing_that_nova_made_meanwhile(
        world: World, here: Host, there: Host) -> None:
    """nova-compute waits for volumes and networks, with no job at the source yet.

    Nor did the source's worker hear the cast: both were restarted, say.
    """
    guest = world.boot(here)
    asked = time.time()
    check = conductor.check_destination(world.order(guest, here, there))
    content = _leftover(there, guest)
    world.timeline.pass_time(100)
    there.cast(check | {"_context_timestamp": _in_novas_words(asked)})
    world.timeline.pass_time(60)
    assert there.files(guest) == content
    (refusal,) = there.alive.journal.refusals()
    assert "changed after this live migration was asked for" in refusal.reason


def test_what_stood_before_nova_was_asked_is_a_leftover(world: World, here: Host,
                                                        there: Host) -> None:
    guest = world.boot(here)
    _leftover(there, guest)
    check = conductor.check_destination(world.order(guest, here, there))
    world.timeline.pass_time(100)
    there.cast(check | {"_context_timestamp": _in_novas_words(world.timeline.now)})
    world.timeline.pass_time(60)
    assert not there.has_directory(guest)


def test_a_check_takes_no_directory_of_a_guest_that_is_shut_off(world: World, here: Host,
                                                                there: Host) -> None:
    """A cold migration to this host makes its directory before libvirt knows the guest here."""
    guest = world.boot(here)
    here.libvirt.states[guest] = GuestState.SHUTOFF
    content = _leftover(there, guest)
    world.timeline.pass_time(100)
    there.cast(conductor.check_destination(world.order(guest, here, there)))
    world.timeline.pass_time(60)
    assert there.files(guest) == content
    (refusal,) = there.alive.journal.refusals()
    assert f"{here.name} says shutoff" in refusal.reason


def test_a_check_that_names_another_holder_removes_nothing(make_world: MakeWorld) -> None:
    """``instance.host`` is a hint: the holder's own testimony decides."""
    world = make_world("nova", hosts=3)
    here, there, third = world.hosts
    guest = world.boot(here)
    content = _leftover(there, guest)
    world.timeline.pass_time(10)
    there.cast(conductor.check_destination(world.order(guest, third, there)))
    world.timeline.pass_time(60)
    assert there.files(guest) == content
    assert "node03 says absent" in there.alive.journal.refusals()[0].reason


def test_the_directory_of_the_running_guest_is_no_leftover(world: World, here: Host,
                                                           there: Host) -> None:
    """A forged check on the very host that runs the guest."""
    guest = world.boot(there)
    content = there.files(guest)
    world.timeline.pass_time(10)
    there.cast(conductor.check_destination(world.order(guest, here, there)))
    world.timeline.pass_time(60)
    assert there.files(guest) == content
    assert there.trashed() == []


def test_a_leftover_stays_while_a_migration_is_open(world: World, here: Host,
                                                    there: Host) -> None:
    guest = world.boot(here)
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    world.timeline.pass_time(5)
    there.directory(guest).mkdir()  # nova-compute's own, for the guest that comes
    world.timeline.pass_time(10)
    there.cast(conductor.check_destination(order))
    world.timeline.pass_time(60)
    assert there.has_directory(guest)


def _given_up_without_a_word(world: World, here: Host,
                             there: Host) -> tuple[str, conductor.LiveMigration]:
    """Nova made its directory, failed before the guest moved, and could not roll back."""
    guest = world.boot(here)
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    world.timeline.pass_time(5)
    there.directory(guest).mkdir()
    return guest, order


def _check(world: World, order: conductor.LiveMigration) -> dict[str, object]:
    return conductor.check_destination(order) | {
        "_context_timestamp": _in_novas_words(world.timeline.now)}


def test_what_nova_left_of_an_earlier_order_does_not_stop_the_next_one(
        world: World, here: Host, there: Host) -> None:
    """libvirt at the source was killed before the guest moved: Nova's rollback failed, too."""
    guest, _ = _given_up_without_a_word(world, here, there)
    world.timeline.pass_time(300)
    order = world.order(guest, here, there, 2)
    there.cast(_check(world, order))
    world.timeline.pass_time(0.1)
    assert [item.instance for item in there.trashed()] == [guest]
    nova = Nova(world, order)
    nova.begin()
    world.timeline.pass_time(900)
    assert nova.failed == ""
    assert there.files(guest)["console.log.0"].decode().splitlines() == here.libvirt.said
    assert [e.is_open for host in world.hosts for e in host.entries()] == [False] * 4


@pytest.mark.parametrize("seconds", [0, 30])
def test_what_nova_made_just_now_for_an_order_is_not_taken_for_an_earlier_ones(
        world: World, here: Host, there: Host, seconds: float) -> None:
    """A check that somebody forged, while nova-compute connects volumes."""
    guest, _ = _given_up_without_a_word(world, here, there)
    world.timeline.pass_time(seconds)
    there.cast(_check(world, world.order(guest, here, there, 2)))
    world.timeline.pass_time(5)
    assert there.has_directory(guest) and there.trashed() == []


@pytest.mark.parametrize("by_clock", [0, 300])
def test_a_check_of_the_same_order_that_comes_late_takes_nothing(
        world: World, here: Host, there: Host, by_clock: float) -> None:
    """Also where the clock of Nova's API is ahead, so that it seems to have been asked later."""
    asked = world.timeline.now
    guest, order = _given_up_without_a_word(world, here, there)
    world.timeline.pass_time(300)
    there.cast(conductor.check_destination(order) | {
        "_context_timestamp": _in_novas_words(asked + by_clock)})
    world.timeline.pass_time(5)
    assert there.has_directory(guest) and there.trashed() == []


def test_nothing_is_taken_while_the_guest_moves_to_the_directory(
        world: World, here: Host, there: Host) -> None:
    guest, _ = _given_up_without_a_word(world, here, there)
    world.timeline.pass_time(300)
    fakes.Transfer(guest, here.libvirt, there.libvirt).begin()
    world.timeline.pass_time(5)
    there.cast(_check(world, world.order(guest, here, there, 2)))
    world.timeline.pass_time(5)
    assert there.has_directory(guest) and there.trashed() == []


def test_a_directory_whose_plan_is_still_open_leaves_by_that_plan(make_world: MakeWorld) -> None:
    world = make_world("nova", nova_cleanup_grace=0, unresolved_retry_max=100_000)
    here, there = world.hosts
    guest = world.boot(here)
    here.ceph.extra[f"vms/{guest}_disk"] = frozenset({"10.0.0.1"})
    order = world.order(guest, here, there)
    Nova(world, order, "post error").begin()
    world.timeline.pass_time(70_000)
    assert here.entry(order.uuid).outcome is Outcome.UNRESOLVED
    here.ceph.extra.clear()
    here.alive.coordinator.wake_instance = lambda instance: None  # type: ignore[method-assign]
    here.cast(conductor.check_destination(world.order(guest, there, here)))
    world.timeline.pass_time(10)
    assert here.has_directory(guest), "the check alone takes nothing"
    world.timeline.pass_time(100_000)
    assert [item.migration for item in here.trashed()] == [order.uuid]


def test_novas_leftover_of_a_killed_compute_is_cleaned_on_the_way_back(
        world: World, here: Host, there: Host) -> None:
    """The guest runs there, the directory still stands here, and it wants to come back."""
    guest = world.boot(there)
    _leftover(here, guest)
    world.timeline.pass_time(10)
    nova = Nova(world, world.order(guest, there, here))
    nova.begin()
    world.timeline.pass_time(600)
    assert nova.failed == ""
    assert here.libvirt.states == {guest: GuestState.RUNNING}
    shutil.rmtree(here.directory(guest))


def test_a_move_whose_end_libvirt_left_open_is_explained(world: World, here: Host,
                                                         there: Host) -> None:
    guest = world.boot(here)
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    world.timeline.pass_time(5)
    there.directory(guest).mkdir()
    here.libvirt.states[guest] = GuestState.OUTGOING
    here.libvirt.left_open.add(guest)
    there.libvirt.states[guest] = GuestState.RUNNING
    world.timeline.pass_time(600)
    entry = here.entry(order.uuid)
    assert entry.is_open and entry.outcome is Outcome.UNRESOLVED
    assert f"virsh destroy {guest}" in entry.reason and "says running" in entry.reason
    assert here.has_directory(guest)
