# SPDX-License-Identifier: Apache-2.0
"""An operator's orders: to whom they go, when they are refused, and what they leave alone."""

import pytest

from rbd_worker import errors
from rbd_worker.migration.control import Control
from rbd_worker.model import GuestState
from rpcapi import control as contract
from tests import world as worlds
from tests.unit.conftest import MakeWorld
from tests.world import Host, World

GUEST = "a05482ec-d71a-48c7-bf99-94d829b20aef"


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world("libvirt")


def control(host: Host) -> Control:
    return Control(host.alive.coordinator)


def order(migration: str) -> contract.OrderRequest:
    return contract.OrderRequest(migration=migration)


def resolve(migration: str, outcome: str = "failed") -> contract.ResolveRequest:
    return contract.ResolveRequest(migration=migration, outcome=outcome, note="looked at it")


def hanging(world: World, here: Host, there: Host) -> str:
    """A migration whose transfer does not end by itself."""
    world.boot(here, GUEST)
    return world.migrate(GUEST, here, there, how="hang", seconds=5).uuid


def unresolved(world: World, here: Host, there: Host) -> str:
    """A guest that was deleted on its way: no host has it any more."""
    key = hanging(world, here, there)
    for host in world.hosts:
        host.libvirt.states.clear()
    here.restart()
    world.timeline.pass_time(400)
    assert here.entry(key).outcome == "unresolved"
    return key


def unresolved_at_destination(world: World, here: Host, there: Host) -> str:
    """The source is gone for good after its files were staged."""
    key = world.migrate(GUEST, here, there, how="hang", seconds=5).uuid
    here.kill()
    for host in world.hosts:
        host.libvirt.states.clear()
    there.restart()
    world.timeline.pass_time(4000)
    assert there.entry(key).outcome == "unresolved"
    return key


# -- live-migrate ------------------------------------------------------------------


def test_a_guest_is_moved_on_an_operators_order(world: World, here: Host, there: Host) -> None:
    world.boot(here, GUEST)
    reply = control(here).live_migrate(
        contract.LiveMigrateRequest(instance=GUEST, destination="node02"))
    world.timeline.pass_time(600)
    assert here.entry(reply.migration).outcome == "completed"
    assert there.libvirt.states == {GUEST: GuestState.RUNNING}
    assert there.has_directory(GUEST) and not here.has_directory(GUEST)


def test_where_nova_compute_runs_it_is_novas_to_move(world: World, here: Host) -> None:
    world.boot(here, GUEST)
    here.nova_consumers = 1
    with pytest.raises(errors.NotOurs) as caught:
        control(here).live_migrate(
            contract.LiveMigrateRequest(instance=GUEST, destination="node02"))
    assert f"openstack server migrate --live-migration {GUEST}" in caught.value.sentence
    assert here.entries() == []


@pytest.mark.parametrize(("destination", "state", "words"), [
    ("node01", GuestState.RUNNING, "where it is"),
    ("node02", GuestState.SHUTOFF, "shutoff"),
    ("node02", None, "absent"),
])
def test_an_order_that_makes_no_sense_opens_nothing(world: World, here: Host, destination: str,
                                                    state: GuestState | None,
                                                    words: str) -> None:
    if state is not None:
        here.libvirt.states[GUEST] = state
    with pytest.raises(errors.BadInput, match=words):
        control(here).live_migrate(
            contract.LiveMigrateRequest(instance=GUEST, destination=destination))
    assert here.entries() == []


def test_a_destination_without_a_worker_is_noticed_first(world: World, here: Host,
                                                         there: Host) -> None:
    world.boot(here, GUEST)
    there.restarts_after = None
    there.kill()
    with pytest.raises(errors.PeerUnreachable):
        control(here).live_migrate(
            contract.LiveMigrateRequest(instance=GUEST, destination="node02"))
    assert here.entries() == []


# -- abort and force-complete --------------------------------------------------------


def test_an_aborted_move_leaves_the_guest_at_the_source(world: World, here: Host,
                                                        there: Host) -> None:
    key = hanging(world, here, there)
    control(here).abort(order(key))
    world.timeline.pass_time(600)
    assert here.entry(key).outcome == "cancelled"
    assert here.libvirt.states == {GUEST: GuestState.RUNNING}
    assert here.has_directory(GUEST) and not there.has_directory(GUEST)


def test_a_move_that_is_forced_arrives(world: World, here: Host, there: Host) -> None:
    key = hanging(world, here, there)
    control(here).force_complete(order(key))
    world.timeline.pass_time(600)
    assert here.entry(key).outcome == "completed"
    assert there.libvirt.states == {GUEST: GuestState.RUNNING}


def test_novas_moves_are_novas_to_end(make_world: MakeWorld) -> None:
    world = make_world("nova")
    here, there = world.hosts
    world.boot(here, GUEST)
    key = world.migrate(GUEST, here, there, seconds=1, number=7).uuid
    for command, action in (("abort", control(here).abort),
                            ("force-complete", control(here).force_complete)):
        with pytest.raises(errors.NotOurs) as caught:
            action(order(key))
        assert f"openstack server migration {command} {GUEST} 7" in caught.value.sentence
    assert here.libvirt.orders == []


def test_the_destination_sends_to_the_source(world: World, here: Host, there: Host) -> None:
    key = hanging(world, here, there)
    with pytest.raises(errors.BadInput, match="ask the source"):
        control(there).abort(order(key))


def test_what_has_ended_cannot_be_aborted(world: World, here: Host, there: Host) -> None:
    world.boot(here, GUEST)
    key = world.migrate(GUEST, here, there).uuid
    with pytest.raises(errors.BadInput, match="completed"):
        control(here).abort(order(key))


# -- resolve -------------------------------------------------------------------------


def test_an_unresolved_entry_is_closed_and_every_file_stays(world: World, here: Host,
                                                            there: Host) -> None:
    key = unresolved(world, here, there)
    files = {host.name: host.files(GUEST) for host in world.hosts}
    control(here).resolve(resolve(key))
    entry = here.entry(key)
    assert (entry.outcome, entry.is_open) == ("failed", False)
    assert "looked at it" in entry.reason
    world.timeline.pass_time(4000)
    assert {host.name: host.files(GUEST) for host in world.hosts} == files
    assert here.alive.coordinator.tasks() == []


def test_what_was_staged_for_it_goes_to_the_trash_where_no_purge_takes_it(
        world: World, here: Host, there: Host) -> None:
    world.boot(here, GUEST)
    content = {here.files(GUEST)["console.log"]}
    key = unresolved_at_destination(world, here, there)
    staging = there.path / ".rbd-worker/staging" / GUEST
    assert content <= set(worlds.files_below(staging).values())
    control(there).resolve(resolve(key))
    assert not staging.exists()
    (item,) = there.trashed()
    kept = worlds.files_below(there.path / ".rbd-worker/trash" / item.id / "directory")
    assert content <= set(kept.values())
    there.alive.coordinator.ports.trash.purge()
    assert there.trashed() == [item]


def test_it_stays_closed_over_a_restart(world: World, here: Host, there: Host) -> None:
    key = unresolved(world, here, there)
    control(here).resolve(resolve(key))
    here.restart()
    world.timeline.pass_time(4000)
    assert not here.entry(key).is_open


def test_what_still_goes_on_cannot_be_resolved(world: World, here: Host, there: Host) -> None:
    key = hanging(world, here, there)
    with pytest.raises(errors.BadInput, match="outgoing"):
        control(here).resolve(resolve(key))
    assert here.entry(key).is_open


def test_what_is_open_and_not_in_doubt_cannot_be_resolved(make_world: MakeWorld) -> None:
    world = make_world("nova")
    here, there = world.hosts
    world.boot(here, GUEST)
    key = world.migrate(GUEST, here, there, seconds=0.2).uuid
    with pytest.raises(errors.BadInput, match="not unresolved"):
        control(here).resolve(resolve(key))


@pytest.mark.parametrize("ask", [
    lambda c: c.progress(contract.ProgressRequest(migration="m-none")),
    lambda c: c.abort(order("m-none")), lambda c: c.resolve(resolve("m-none"))])
def test_an_unknown_migration_is_said_to_be_so(here: Host, ask) -> None:
    with pytest.raises(errors.BadInput, match="does not have it"):
        ask(control(here))


# -- progress ------------------------------------------------------------------------


def test_progress_tells_phase_and_step_of_each_host(world: World, here: Host,
                                                    there: Host) -> None:
    key = hanging(world, here, there)
    (source,) = control(here).progress(contract.ProgressRequest(migration=key)).roles
    (destination,) = control(there).progress(contract.ProgressRequest(migration=key)).roles
    assert (source.role, source.phase, source.closed) == ("source", "live_migration", 0)
    assert source.step == "ensure_guest_moved doing"
    assert (source.moving, source.memory_remaining) == (True, 1 << 20)
    assert (destination.role, destination.moving) == ("destination", False)


def test_progress_without_libvirt_still_tells_the_journal(world: World, here: Host,
                                                          there: Host) -> None:
    key = hanging(world, here, there)
    here.libvirt.is_down = True
    (source,) = control(here).progress(contract.ProgressRequest(migration=key)).roles
    assert (source.phase, source.moving) == ("live_migration", False)
