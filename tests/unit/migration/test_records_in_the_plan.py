# SPDX-License-Identifier: Apache-2.0
"""Nova's record while a migration is open: the end of a plan, and what is unresolved."""

import pytest

from devstack import conductor
from rbd_worker.migration import history
from rbd_worker.model import GuestState, NovaRecord, Outcome
from rpcapi import history as contract
from tests import fakes
from tests.unit.conftest import MakeWorld
from tests.world import Host, World


def _nova_says(host: Host, *known: NovaRecord) -> fakes.NovaApi:
    host.nova_api = fakes.NovaApi(*known)
    host.restart()
    return host.nova_api


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world("nova", nova_cleanup_grace=60, unresolved_retry_max=2)


def test_a_wrong_record_leaves_the_source_unresolved_until_the_guest_is_moved_back(
        world: World, here: Host, there: Host) -> None:
    guest = world.boot(here)
    _nova_says(here, NovaRecord(guest, "node01", "active"))
    order = world.migrate(guest, here, there, how="post error")
    entry = here.entry(order.uuid)
    assert entry.outcome is Outcome.UNRESOLVED
    assert "Nova's record says node01" in entry.reason and "runs on node02" in entry.reason
    assert here.has_directory(guest) and here.trashed() == []
    there.libvirt.states.pop(guest)  # virsh migrate, as it says
    here.libvirt.states[guest] = GuestState.RUNNING
    world.timeline.pass_time(900)
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED
    assert here.has_directory(guest)


def test_a_record_that_agrees_makes_the_advice_exact(world: World, here: Host,
                                                     there: Host) -> None:
    guest = world.boot(here)
    _nova_says(here, NovaRecord(guest, "node02", "error"))
    entry = here.entry(world.migrate(guest, here, there, how="post error").uuid)
    assert entry.outcome is Outcome.COMPLETED
    assert entry.reason.endswith(f"openstack server set --state active {guest}")
    assert "may be wrong" not in entry.reason
    assert not here.has_directory(guest)


def test_an_unresolved_migration_tells_what_the_record_says_and_asks_seldom(
        world: World, here: Host, there: Host) -> None:
    guest = world.boot(here)
    api = _nova_says(here, NovaRecord(guest, "node02", "error"))
    order = world.order(guest, here, there)
    here.cast(conductor.live_migration(order))
    world.timeline.pass_time(1)
    there.directory(guest).mkdir()
    fakes.Transfer(guest, here.libvirt, there.libvirt).begin()
    world.timeline.pass_time(2)
    for host in (here, there):  # both QEMUs die
        del host.libvirt.states[guest]
        host.libvirt.on_event(guest)
    world.timeline.pass_time(3600)
    entry = here.entry(order.uuid)
    assert entry.outcome is Outcome.UNRESOLVED
    assert "Nova's record says node02 (vm_state error" in entry.reason
    assert len(api.asked) <= 3600 / 60


def test_a_migration_that_goes_well_asks_nova_nothing(world: World, here: Host,
                                                      there: Host) -> None:
    guest = world.boot(here)
    apis = [_nova_says(host, NovaRecord(guest, "node02", "active")) for host in (here, there)]
    order = world.migrate(guest, here, there)
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED
    assert [api.asked for api in apis] == [[], []]


def test_the_last_step_that_mends_a_wrong_record_reaches_the_operator(
        world: World, here: Host, there: Host) -> None:
    """Reasons travel whole, also to the command on another host."""
    guest = world.boot(here)
    _nova_says(here, NovaRecord(guest, "node01", "active", None, "error, node01 to node02"))
    order = world.migrate(guest, here, there, how="post error")
    reason = here.entry(order.uuid).reason
    assert reason.endswith("nova-manage placement audit shows what else is still booked")
    page = history.History(here.name, here.alive.journal).page(
        contract.HistoryRequest(migration=order.uuid, records=True))
    (entry,) = contract.HistoryReply.from_wire(page.to_wire()).entries
    assert entry.reason == reason
