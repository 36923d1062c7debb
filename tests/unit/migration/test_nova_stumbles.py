# SPDX-License-Identifier: Apache-2.0
"""Executor nova, where nova-compute did not finish or the guest died: seen first in the gate."""

import shutil

import pytest

from devstack import conductor
from rbd_worker.model import GuestState, Outcome
from tests import fakes
from tests import world as worlds
from tests.unit.conftest import MakeWorld
from tests.world import Host, World


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world("nova", nova_cleanup_grace=60)


def test_a_source_whose_guest_has_left_stops_asking_for_the_preparation(
        world: World, here: Host, there: Host) -> None:
    """Casts of there and back, heard late by both, would refuse each other for half a minute."""
    guest = world.boot(here)
    there.restarts_after = None
    there.kill()
    order = world.migrate(guest, here, there, seconds=10)
    said = [record.data.get("skipped") for record in
            here.alive.journal.records(here.entry(order.uuid).migration)]
    assert f"no guest {guest} on node01" in said
    there.start()
    world.timeline.pass_time(900)
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED
    assert there.files(guest)["console.log.0"].decode().splitlines() == here.libvirt.said


def test_what_nova_did_not_finish_is_said_with_the_remedy(
        world: World, here: Host, there: Host) -> None:
    guest = world.boot(here)
    order = world.migrate(guest, here, there, how="post error")
    entry = here.entry(order.uuid)
    assert entry.outcome is Outcome.COMPLETED
    assert "the guest is on node02" in entry.reason
    assert f"openstack server show {guest}" in entry.reason
    assert here.entry(world.migrate(guest, there, here, number=2).uuid).reason == ""


def _dies_on_its_way(world: World, here: Host, there: Host) -> tuple[str, conductor.LiveMigration]:
    guest = world.boot(here)
    order = world.order(guest, here, there)
    here.cast(conductor.live_migration(order))
    world.timeline.pass_time(1)
    there.directory(guest).mkdir()
    fakes.Transfer(guest, here.libvirt, there.libvirt).begin()
    world.timeline.pass_time(2)
    here.libvirt.states[guest] = GuestState.SHUTOFF
    del there.libvirt.states[guest]
    for host in (here, there):
        host.libvirt.on_event(guest)
    world.timeline.pass_time(5)
    return guest, order


def test_a_guest_that_died_on_its_way_is_unresolved_and_its_history_comes_with_its_return(
        world: World, here: Host, there: Host) -> None:
    """nova-compute takes it as moved: it forgets the guest and removes the directory."""
    guest, order = _dies_on_its_way(world, here, there)
    assert here.entry(order.uuid).is_open
    del here.libvirt.states[guest]
    shutil.rmtree(here.directory(guest))
    world.timeline.pass_time(120)
    entry = here.entry(order.uuid)
    assert entry.outcome is Outcome.UNRESOLVED and "openstack server reboot --hard" in entry.reason
    there.libvirt.qemu_starts(guest)
    there.libvirt.states[guest] = GuestState.RUNNING
    world.timeline.pass_time(900)
    assert there.files(guest)["console.log.0"].decode().splitlines() == here.libvirt.said
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED


def test_a_guest_that_died_on_its_way_and_stays_is_a_failed_migration(
        world: World, here: Host, there: Host) -> None:
    guest, order = _dies_on_its_way(world, here, there)
    world.timeline.pass_time(300)
    assert here.entry(order.uuid).outcome is Outcome.FAILED
    assert here.has_directory(guest) and there.staged(guest) == []


def _dies_before_its_files_came(world: World, here: Host, there: Host) -> tuple[str, str]:
    """The destination's worker was away; the guest is ordered back, and dies on its way."""
    guest = world.boot(here)
    there.restarts_after = None
    there.kill()
    first = world.migrate(guest, here, there, seconds=10)
    assert not here.has_directory(guest)
    there.libvirt.states[guest] = GuestState.SHUTOFF
    there.start()
    there.cast(conductor.live_migration(world.order(guest, there, here, 2)))
    world.timeline.pass_time(20)
    return guest, first.uuid


def test_nothing_is_placed_for_a_guest_that_nova_may_take_for_one_that_has_moved(
        world: World, here: Host, there: Host) -> None:
    guest, first = _dies_before_its_files_came(world, here, there)
    assert set(there.files(guest)) == {"console.log"}
    del there.libvirt.states[guest]
    shutil.rmtree(there.directory(guest))
    here.directory(guest).mkdir()
    here.libvirt.qemu_starts(guest)
    here.libvirt.states[guest] = GuestState.RUNNING
    world.timeline.pass_time(900)
    assert here.entry(first).outcome is Outcome.FAILED
    kept = {path.name for path in (here.path / ".rbd-worker" / "trash").rglob("*")}
    assert kept > {"console.log", *(name.rpartition("/")[2] for name in worlds.FILES)}


def test_nothing_is_placed_either_where_the_source_had_seen_the_guest_run(
        world: World, here: Host, there: Host) -> None:
    guest = world.boot(here)
    there.restarts_after = None
    there.kill()
    first = world.migrate(guest, here, there, seconds=10)
    in_the_way = there.path / ".rbd-worker" / "staging" / guest
    in_the_way.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    in_the_way.touch()
    there.start()
    world.timeline.pass_time(30)
    assert ("ensure_files_handed_over", "doing") in here.records(first.uuid)
    there.libvirt.states[guest] = GuestState.SHUTOFF
    there.cast(conductor.live_migration(world.order(guest, there, here, 2)))
    in_the_way.unlink()
    world.timeline.pass_time(55)
    assert set(there.files(guest)) == {"console.log"}
    assert "with a later migration open" in here.entry(first.uuid).reason
    world.timeline.pass_time(900)
    found = there.files(guest)
    assert {name: found[name] for name in worlds.FILES} == worlds.FILES


def test_a_guest_that_died_on_its_way_back_and_stays_is_given_its_files(
        world: World, here: Host, there: Host) -> None:
    guest, first = _dies_before_its_files_came(world, here, there)
    world.timeline.pass_time(900)
    assert here.entry(first).outcome is Outcome.COMPLETED
    found = there.files(guest)
    assert {name: found[name] for name in worlds.FILES} == worlds.FILES
    assert found["console.log.0"].decode().splitlines() == here.libvirt.said


def _moved_without(world: World, here: Host, there: Host,
                   *killed: Host) -> tuple[str, conductor.LiveMigration]:
    """Nova moves a guest; these hosts' workers die a second after it began, and stay away."""
    guest = world.boot(here)
    order = world.order(guest, here, there)
    worlds.Nova(world, order).begin()
    world.timeline.pass_time(1)
    for host in killed:
        host.restarts_after = None
        host.kill()
    world.timeline.pass_time(60)
    return guest, order


def test_a_directory_that_nova_made_since_is_not_what_the_guest_left(
        make_world: MakeWorld) -> None:
    """The destination's worker is away for hours; the guest comes back by a cold migration."""
    world = make_world("nova", unresolved_retry_max=60)
    here, there = world.hosts
    guest, order = _moved_without(world, here, there, there)
    world.timeline.pass_time(3540)
    assert not here.has_directory(guest)
    there.libvirt.states[guest] = GuestState.SHUTOFF
    here.directory(guest).mkdir()
    (here.directory(guest) / "disk.info").write_bytes(b"{}")
    there.start()
    world.timeline.pass_time(3600)
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED
    assert here.files(guest) == {"disk.info": b"{}"}
    assert here.trashed() == []
    assert "console.log.0" in there.files(guest)


def test_what_waits_for_a_source_that_is_away_outlives_a_later_migration(
        make_world: MakeWorld) -> None:
    """The guest leaves again and returns; the first source's worker lost its descriptors."""
    world = make_world("nova", hosts=3, unresolved_retry_max=60)
    here, there, third = world.hosts
    guest, _ = _moved_without(world, here, there, here)
    assert not here.has_directory(guest)
    world.migrate(guest, there, third, seconds=600)
    back = world.migrate(guest, third, there, seconds=600)
    assert there.entry(back.uuid).outcome is Outcome.COMPLETED
    here.start()
    world.timeline.pass_time(3600)
    found = there.files(guest)
    history = b"".join(found[name] for name in found if name.startswith("console.log."))
    assert "the guest has booted" in history.decode()
    assert {name: found[name] for name in worlds.FILES} == worlds.FILES
    assert all(entry.outcome is Outcome.COMPLETED for host in world.hosts
               for entry in host.entries())
    assert list((there.path / ".rbd-worker/staging").iterdir()) == []


def test_copies_whose_originals_nova_removed_outlive_a_guest_that_came_back(
        make_world: MakeWorld) -> None:
    """The source's worker was away while the guest left and returned: it sees it at home."""
    world = make_world("nova", unresolved_retry_max=60)
    here, there = world.hosts
    guest, order = _moved_without(world, here, there, here)
    world.migrate(guest, there, here, seconds=600)
    assert here.libvirt.states == {guest: GuestState.RUNNING}
    here.start()
    world.timeline.pass_time(3600)
    assert here.entry(order.uuid).outcome is Outcome.FAILED
    assert there.entry(order.uuid).outcome is Outcome.FAILED
    (item,) = there.trashed()
    assert "whose originals stand on node01 no more" in item.reason
    saved = worlds.files_below(there.path / ".rbd-worker/trash" / item.id / "directory")
    assert any(b"the guest has booted" in content for content in saved.values())
    assert there.staged(guest) == []


def test_a_later_directory_is_not_taken_for_the_one_whose_files_were_staged(
        make_world: MakeWorld) -> None:
    """The source's worker was killed, and Nova tries to bring the guest back before it settles."""
    world = make_world("nova", unresolved_retry_max=60)
    here, there = world.hosts
    guest, order = _moved_without(world, here, there, here, there)
    here.start()
    world.migrate(guest, there, here, how="fail", seconds=60)
    there.start()
    world.timeline.pass_time(3600)
    assert there.entry(order.uuid).outcome is Outcome.COMPLETED
    assert b"the guest has booted" in there.files(guest)["console.log.0"]
    assert {name: there.files(guest)[name] for name in worlds.FILES} == worlds.FILES
