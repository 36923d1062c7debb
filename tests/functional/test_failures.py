# SPDX-License-Identifier: Apache-2.0
"""Executor libvirt: what goes wrong in the middle, and comes right."""

import dataclasses
import time

import pytest

from rbd_worker.model import Outcome
from tests.functional.fleet import Fleet, furnish, states

pytestmark = pytest.mark.lab

#: MiB/s: a guest that dirties its memory without end never converges.
SLOW = {"live_migration_bandwidth": 10}
#: More seconds than libvirtd waits for a silent client before it closes the connection:
#: keepalive_interval times keepalive_count + 1.
SILENCE = 35


def test_qemu_killed_at_the_destination_rolls_back(fleet: Fleet):
    fleet.start(libvirt=SLOW)
    guest = fleet.lab.define_guest(fleet.one, busy=True)
    guest.wait_for_console(fleet.one)
    furnish(guest.directory(fleet.one))
    before = states(guest.directory(fleet.one))
    before.pop("console.log", None)
    order = fleet.move(guest, fleet.one, fleet.two)
    fleet.under_way(guest, fleet.one, fleet.two)
    fleet.two.kill9(guest.qemu_pid(fleet.two))
    entries = fleet.closed(order)
    assert {e.outcome for e in entries.values()} == {Outcome.FAILED}
    assert guest.running_on() == ["node1"]
    after = states(guest.directory(fleet.one))
    after.pop("console.log", None)
    assert after == before
    assert not guest.directory(fleet.two).exists()
    assert fleet.staging(fleet.two) == []
    assert fleet.trash(fleet.one) == []


def test_an_abort_cast_ends_the_move_and_the_guest_stays(fleet: Fleet):
    from devstack import conductor
    fleet.start(libvirt=SLOW)
    guest = fleet.lab.define_guest(fleet.one, busy=True)
    guest.wait_for_console(fleet.one)
    order = fleet.move(guest, fleet.one, fleet.two)
    fleet.under_way(guest, fleet.one, fleet.two)
    fleet.conductor.cast("node1", conductor.abort(order), topic="compute")
    entries = fleet.closed(order)
    assert {e.outcome for e in entries.values()} == {Outcome.CANCELLED}
    assert guest.running_on() == ["node1"]
    assert not guest.directory(fleet.two).exists()


def test_a_force_complete_cast_makes_a_busy_guest_arrive(fleet: Fleet):
    from devstack import conductor
    fleet.start(libvirt={"live_migration_bandwidth": 30})
    guest = fleet.lab.define_guest(fleet.one, busy=True)
    guest.wait_for_console(fleet.one)
    order = fleet.move(guest, fleet.one, fleet.two)
    fleet.under_way(guest, fleet.one, fleet.two)
    fleet.conductor.cast("node1", conductor.force_complete(order), topic="compute")
    entries = fleet.closed(order, seconds=60)
    assert {e.outcome for e in entries.values()} == {Outcome.COMPLETED}
    assert guest.running_on() == ["node2"]


@pytest.mark.parametrize("name", ["node1", "node2"])
def test_a_worker_killed_during_a_move_picks_it_up(fleet: Fleet, name: str):
    fleet.start(libvirt={"live_migration_bandwidth": 25})
    guest = fleet.lab.define_guest(fleet.one, memory_mib=128, talkative=True)
    guest.wait_for_console(fleet.one)
    order = fleet.move(guest, fleet.one, fleet.two)
    fleet.until(lambda: guest.state(fleet.two) is not None, "the guest at the destination")
    fleet.workers[name].kill9()
    fleet.restart(fleet.lab.host(name))
    entries = fleet.closed(order, seconds=60)
    assert {e.outcome for e in entries.values()} == {Outcome.COMPLETED}
    assert guest.running_on() == ["node2"]
    assert not guest.directory(fleet.one).exists()
    assert "tick" in (guest.directory(fleet.two) / "console.log.0").read_text()


@pytest.mark.parametrize("trouble", ["the next worker", "the same worker, which stood still"])
def test_a_move_that_arrives_only_with_help_gets_it_from(fleet: Fleet, trouble: str):
    """A guest that dirties memory without end needs more downtime than libvirt gives by itself."""
    fleet.start(libvirt={"live_migration_bandwidth": 60, "live_migration_downtime": 3000,
                         "live_migration_downtime_steps": 3, "live_migration_downtime_delay": 3})
    guest = fleet.lab.define_guest(fleet.one, busy=True)
    guest.wait_for_console(fleet.one)
    order = fleet.move(guest, fleet.one, fleet.two)
    fleet.until(lambda: guest.state(fleet.two) is not None, "the guest at the destination")
    if trouble == "the next worker":
        fleet.workers["node1"].kill9()
        fleet.restart(fleet.one)
    else:
        fleet.workers["node1"].service.pause()
        time.sleep(SILENCE)
        fleet.workers["node1"].service.resume()
    entries = fleet.closed(order, seconds=90)
    assert {e.outcome for e in entries.values()} == {Outcome.COMPLETED}
    assert guest.running_on() == ["node2"]
    assert "is watched again" in fleet.workers["node1"].log_text


def test_the_broker_restarted_between_two_migrations_loses_nothing(fleet: Fleet):
    fleet.start()
    guest = fleet.lab.define_guest(fleet.one)
    fleet.moved(guest, fleet.one, fleet.two)
    fleet.lab.broker.restart()
    from devstack.conductor import Conductor
    with Conductor(fleet.lab.broker_url) as conductor:  # Nova declares its exchange again
        for worker in fleet.workers.values():
            fleet.until(lambda worker=worker: worker.log_text.count("tap: hearing") > 1,
                        "that the worker hears again", 60)
        order = fleet.order(guest, fleet.two, fleet.one)
        conductor.live_migrate(order)
        entries = fleet.closed(order, seconds=60)
    assert {e.outcome for e in entries.values()} == {Outcome.COMPLETED}
    assert guest.running_on() == ["node1"]


def test_a_destination_without_worker_ends_in_a_failed_migration(fleet: Fleet):
    fleet.start(nova={"live_migration_retry_count": 1})
    fleet.workers["node2"].stop()
    guest = fleet.lab.define_guest(fleet.one)
    order = fleet.move(guest, fleet.one, fleet.two)
    fleet.until(lambda: not getattr(fleet.entry(fleet.one, order), "is_open", True), "the end")
    entry = fleet.entry(fleet.one, order)
    assert entry.outcome is Outcome.FAILED and "node2" in entry.reason
    assert guest.running_on() == ["node1"] and guest.directory(fleet.one).is_dir()


def test_hosts_without_a_worker_hold_up_no_order_to_another_host(fleet: Fleet):
    """As during a rollout; each of them is asked 31 times, a second apart."""
    fleet.start(workers=2)
    lost = []
    for _ in range(3):
        order = dataclasses.replace(
            fleet.order(fleet.lab.define_guest(fleet.one), fleet.one, fleet.two),
            destination="node9")
        fleet.conductor.live_migrate(order)
        lost.append(order)
    guest = fleet.lab.define_guest(fleet.one)
    order = fleet.move(guest, fleet.one, fleet.two)
    entries = fleet.closed(order, seconds=120)
    assert {e.outcome for e in entries.values()} == {Outcome.COMPLETED}
    for each in lost:
        entry = fleet.entry(fleet.one, each)
        assert entry is not None and entry.is_open, "they were over: this shows nothing"
