# SPDX-License-Identifier: Apache-2.0
"""Executor nova: what else Nova does to a guest and its directory while a migration is open.

doc/behaviour/nova-flows.md has the table of them.
"""

import shutil

import pytest

from devstack import conductor
from rbd_worker.model import Executor, GuestState, Migration, Outcome, Role
from tests import fakes
from tests import world as worlds
from tests.unit.conftest import MakeWorld
from tests.world import Host, Nova, World


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world("nova", hosts=3, nova_cleanup_grace=60, unresolved_retry_max=60)


@pytest.fixture
def third(world: World) -> Host:
    return world.hosts[2]


def _moved_without_its_files(world: World, here: Host, there: Host) -> tuple[str, str]:
    """The destination's worker was away; the guest runs there, and the source holds its files."""
    guest = world.boot(here)
    there.restarts_after = None
    there.kill()
    order = world.migrate(guest, here, there, seconds=60)
    assert here.entry(order.uuid).is_open and not here.has_directory(guest)
    return guest, order.uuid


def _has_what_came(host: Host, guest: str) -> bool:
    found = host.files(guest)
    return "console.log.0" in found and worlds.FILES.items() <= found.items()


# -- a resize that waits to be confirmed or reverted ---------------------------


def _resized_away(guest: str, host: Host, to: Host) -> None:
    """``migrate_disk_and_power_off`` and ``finish_migration``: the definition stays behind."""
    to.directory(guest).mkdir()
    host.libvirt.states[guest] = GuestState.SHUTOFF
    host.directory(guest).rename(f"{host.directory(guest)}_resize")
    to.libvirt.qemu_starts(guest)
    to.libvirt.states[guest] = GuestState.RUNNING


def _resized_in_place(guest: str, host: Host) -> None:
    """The same on one host: the new directory has the name of the old one."""
    host.directory(guest).rename(f"{host.directory(guest)}_resize")
    host.directory(guest).mkdir()
    host.libvirt.qemu_starts(guest)


def _reverted(guest: str, host: Host) -> None:
    """``finish_revert_migration``: whatever has the name by now is deleted."""
    shutil.rmtree(host.directory(guest), ignore_errors=True)
    host.path.joinpath(f"{guest}_resize").rename(host.directory(guest))
    host.libvirt.states[guest] = GuestState.RUNNING


def test_late_files_wait_for_the_end_of_a_resize_and_come_after_it_was_reverted(
        world: World, here: Host, there: Host, third: Host) -> None:
    guest, key = _moved_without_its_files(world, here, there)
    _resized_away(guest, there, third)
    there.start()
    world.timeline.pass_time(600)
    assert not there.has_directory(guest)
    assert here.entry(key).outcome is Outcome.UNRESOLVED
    assert "to be confirmed or reverted" in here.entry(key).reason
    del third.libvirt.states[guest]
    _reverted(guest, there)
    world.timeline.pass_time(600)
    assert _has_what_came(there, guest)
    assert here.entry(key).outcome is there.entry(key).outcome is Outcome.COMPLETED


def test_late_files_are_not_lost_with_a_resize_on_the_same_host_that_is_reverted(
        world: World, here: Host, there: Host) -> None:
    guest, key = _moved_without_its_files(world, here, there)
    _resized_in_place(guest, there)
    there.start()
    world.timeline.pass_time(600)
    assert here.entry(key).is_open
    _reverted(guest, there)
    world.timeline.pass_time(600)
    assert _has_what_came(there, guest)
    assert here.entry(key).outcome is Outcome.COMPLETED


def test_late_files_come_after_a_resize_on_the_same_host_was_confirmed(
        world: World, here: Host, there: Host) -> None:
    guest, key = _moved_without_its_files(world, here, there)
    _resized_in_place(guest, there)
    there.start()
    world.timeline.pass_time(600)
    shutil.rmtree(f"{there.directory(guest)}_resize")
    world.timeline.pass_time(600)
    assert _has_what_came(there, guest)
    assert here.entry(key).outcome is Outcome.COMPLETED


def test_late_files_stay_with_the_source_after_the_resize_was_confirmed(
        world: World, here: Host, there: Host, third: Host) -> None:
    guest, key = _moved_without_its_files(world, here, there)
    _resized_away(guest, there, third)
    there.start()
    world.timeline.pass_time(600)
    shutil.rmtree(f"{there.directory(guest)}_resize")
    del there.libvirt.states[guest]
    world.timeline.pass_time(600)
    assert not there.has_directory(guest)
    assert here.entry(key).outcome is Outcome.UNRESOLVED
    task = next(t for t in here.alive.coordinator.tasks() if t.migration.key == key)
    assert task.files is not None and len(task.files.entries) > len(worlds.FILES)


# -- a cold migration back, while the source's directory waits for its proof -----


def _left_behind(world: World, here: Host, there: Host) -> tuple[str, str]:
    """nova-compute did not remove the source's directory, and Ceph cannot testify."""
    guest = world.boot(here)
    here.ceph.is_down = True
    order = world.migrate(guest, here, there, how="post error", seconds=300)
    assert here.has_directory(guest)
    assert here.entry(order.uuid).outcome is Outcome.UNRESOLVED
    return guest, order.uuid


def test_a_leftover_that_a_cold_migration_fills_again_is_left_to_the_audit(
        world: World, here: Host, there: Host) -> None:
    """``mkdir -p`` takes it as it is; the guest is shut off and its files come one by one."""
    guest, key = _left_behind(world, here, there)
    there.libvirt.states[guest] = GuestState.SHUTOFF
    there.directory(guest).rename(f"{there.directory(guest)}_resize")
    (here.directory(guest) / "swtpm").mkdir()
    here.ceph.is_down = False
    world.timeline.pass_time(600)
    assert (here.directory(guest) / "swtpm").is_dir() and here.trashed() == []
    assert here.entry(key).outcome is Outcome.COMPLETED


def test_what_nova_made_under_the_name_of_a_directory_that_was_not_held_is_not_taken(
        world: World, here: Host, there: Host) -> None:
    """The source's directory could not be carried, so that nobody knows which one it was."""
    guest = world.boot(here)
    (here.directory(guest) / "link").symlink_to("/etc/passwd")
    there.restarts_after = None
    there.kill()
    order = world.migrate(guest, here, there, seconds=300)
    here.directory(guest).mkdir()
    there.start()
    world.timeline.pass_time(600)
    assert here.has_directory(guest) and here.trashed() == []
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED


# -- an evacuation while the guest was on its way --------------------------------


def _evacuated_on_its_way(world: World, here: Host, there: Host, third: Host) -> tuple[str, str]:
    """The source breaks down; nova-compute destroys the guest there as soon as it is back."""
    guest = world.boot(here)
    order = world.order(guest, here, there)
    here.cast(conductor.live_migration(order))
    there.directory(guest).mkdir()
    fakes.Transfer(guest, here.libvirt, there.libvirt).begin()
    world.timeline.pass_time(1)
    here.restarts_after = None
    here.kill()
    here.libvirt.states.clear()
    there.libvirt.states.clear()
    third.directory(guest).mkdir()
    third.libvirt.qemu_starts(guest)
    third.libvirt.states[guest] = GuestState.RUNNING
    world.timeline.pass_time(60)
    here.start()
    world.timeline.pass_time(4000)
    assert here.entry(order.uuid).outcome is Outcome.UNRESOLVED
    return guest, order.uuid


def test_the_way_back_after_an_evacuation_on_the_way_is_free_although_nobody_can_tell_its_end(
        world: World, here: Host, there: Host, third: Host) -> None:
    guest, key = _evacuated_on_its_way(world, here, there, third)
    back = Nova(world, world.order(guest, third, here, 2))
    back.begin()
    world.timeline.pass_time(3600)
    assert back.failed == ""
    assert here.entry(back.order.uuid).outcome is Outcome.COMPLETED
    assert here.entry(key).outcome is there.entry(key).outcome is Outcome.FAILED


def test_the_audit_proves_what_an_evacuation_on_the_way_left_on_both_hosts(
        world: World, here: Host, there: Host, third: Host) -> None:
    guest, _ = _evacuated_on_its_way(world, here, there, third)
    for host in (here, there):
        (finding,) = host.alive.audit.run(act=True).findings
        assert (finding.verdict, finding.holder) == ("trashed", third.name), finding.reason
        assert not host.has_directory(guest)
    assert third.has_directory(guest)


def test_the_audit_leaves_a_directory_to_the_open_migration_whose_host_has_the_guest(
        world: World, here: Host, there: Host) -> None:
    guest, key = _left_behind(world, here, there)
    there.alive.journal.open(Migration("other", guest, Role.SOURCE, there.name, "node09",
                                       Executor.NOVA))
    here.ceph.is_down = False
    world.timeline.pass_time(4000)
    assert here.entry(key).is_open
    (finding,) = here.alive.audit.run(act=True).findings
    assert finding.verdict == "kept" and "a migration of it is open here" in finding.reason


# -- a guest that is deleted, shelved off or rebuilt ---------------------------


def test_a_directory_does_not_come_back_while_nova_deletes_the_guest(
        world: World, here: Host, there: Host) -> None:
    """``cleanup`` removes the directory first and undefines the guest afterwards."""
    guest, key = _moved_without_its_files(world, here, there)
    there.libvirt.states[guest] = GuestState.SHUTOFF
    shutil.rmtree(there.directory(guest))
    there.start()
    world.timeline.pass_time(60)
    assert not there.has_directory(guest)
    del there.libvirt.states[guest]
    world.timeline.pass_time(600)
    assert not there.has_directory(guest)
    assert here.entry(key).outcome is Outcome.UNRESOLVED


# -- the source's worker is killed after the destination has staged ------------


def _staged_unknown_to_the_source(world: World, here: Host, there: Host) -> tuple[str, str]:
    """Killed between the destination's answer and its own record of it; Nova goes on."""
    guest = world.boot(here)
    here.restarts_after = None
    world.bus.on_reply = lambda call: here.kill() if call.method == "pre_live_migration" else None
    nova = Nova(world, world.order(guest, here, there))
    nova.begin()
    world.timeline.pass_time(60)
    world.bus.on_reply = lambda call: None
    assert there.staged(guest) != [] and not here.has_directory(guest)
    return guest, nova.order.uuid


def test_what_was_staged_is_placed_although_the_source_has_lost_its_files(
        world: World, here: Host, there: Host) -> None:
    guest, key = _staged_unknown_to_the_source(world, here, there)
    here.start()
    world.timeline.pass_time(3600)
    assert _has_what_came(there, guest)
    assert here.entry(key).outcome is there.entry(key).outcome is Outcome.COMPLETED


def test_what_was_staged_is_kept_although_the_guest_came_back_to_a_new_directory(
        world: World, here: Host, there: Host) -> None:
    guest, key = _staged_unknown_to_the_source(world, here, there)
    world.migrate(guest, there, here, seconds=600, number=2)
    here.start()
    world.timeline.pass_time(3600)
    assert here.entry(key).outcome is there.entry(key).outcome is Outcome.FAILED
    (item,) = there.trashed()
    saved = worlds.files_below(there.path / ".rbd-worker/trash" / item.id / "directory")
    assert set(worlds.FILES.values()) <= set(saved.values())
