# SPDX-License-Identifier: Apache-2.0
"""A peer that does not answer is asked again and again, and no thread waits in between."""

import pytest

from devstack import conductor
from rbd_worker.model import Outcome
from tests.unit.conftest import MakeWorld
from tests.world import Host, World


@pytest.fixture
def lonely(make_world: MakeWorld) -> World:
    """Two hosts, of which the second has no worker."""
    world = make_world("libvirt", live_migration_retry_count=5)
    world.hosts[1].restarts_after = None
    world.hosts[1].kill()
    return world


def _ordered(world: World) -> conductor.LiveMigration:
    here, there = world.hosts
    order = world.order(world.boot(here), here, there)
    here.cast(conductor.live_migration(order))
    world.timeline.pass_time(0.1)
    return order


def _attempts(world: World) -> int:
    return [call.method for call in world.bus.calls].count("pre_live_migration")


def _nonces(host: Host) -> list[str]:
    return sorted(path.name for path in (host.path / ".rbd-worker/nonce").iterdir())


def test_a_plan_is_parked_until_its_next_attempt(lonely: World) -> None:
    here = lonely.hosts[0]
    order = _ordered(lonely)
    assert _attempts(lonely) == 1
    (task,) = here.alive.coordinator.tasks()
    assert "node02" in task.waits_for
    lonely.timeline.pass_time(2.5)
    assert _attempts(lonely) == 3
    assert "node02" in here.entry(order.uuid).reason and here.entry(order.uuid).is_open


def test_whoever_wakes_it_meanwhile_hurries_no_attempt(lonely: World) -> None:
    here = lonely.hosts[0]
    _ordered(lonely)
    for _ in range(20):
        here.alive.coordinator.wake_all()
        lonely.timeline.pass_time(0.02)
    assert _attempts(lonely) == 1
    lonely.timeline.pass_time(0.6)
    assert _attempts(lonely) == 2


def test_one_nonce_is_there_for_all_attempts_and_goes_with_the_last(lonely: World) -> None:
    here = lonely.hosts[0]
    order = _ordered(lonely)
    first = _nonces(here)
    assert len(first) == 1
    lonely.timeline.pass_time(3.5)
    assert _nonces(here) == first
    lonely.timeline.pass_time(60)
    assert here.entry(order.uuid).outcome is Outcome.FAILED
    assert _nonces(here) == []


def test_a_worker_that_stops_meanwhile_takes_the_nonce_away(lonely: World) -> None:
    here = lonely.hosts[0]
    _ordered(lonely)
    assert len(_nonces(here)) == 1
    here.alive.coordinator.stop()
    assert _nonces(here) == []


def test_the_hand_over_is_tried_once_a_look_when_all_attempts_are_used_up(
        make_world: MakeWorld) -> None:
    world = make_world("nova", live_migration_retry_count=3, unresolved_retry_max=30)
    here, there = world.hosts
    guest = world.boot(here)
    world.bus.fate = lambda call: "unreachable" if call.method == "post_live_migration" else None
    order = world.migrate(guest, here, there)
    entry = here.entry(order.uuid)
    assert entry.is_open and entry.outcome is Outcome.UNRESOLVED
    before = [c.method for c in world.bus.calls].count("post_live_migration")
    assert before >= 4
    limit = here.settings.unresolved_retry_max
    world.timeline.pass_time(10 * limit)
    after = [c.method for c in world.bus.calls].count("post_live_migration")
    assert 9 <= after - before <= 11
    world.bus.fate = lambda call: None
    world.timeline.pass_time(2 * limit)
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED


def test_what_was_unresolved_stays_so_while_a_new_worker_asks_again(
        make_world: MakeWorld) -> None:
    world = make_world("nova", live_migration_retry_count=30)
    here, there = world.hosts
    world.bus.fate = lambda call: "unreachable" if call.method == "post_live_migration" else None
    order = world.migrate(world.boot(here), here, there)
    before = here.entry(order.uuid)
    assert before.outcome is Outcome.UNRESOLVED and before.reason
    here.kill()
    for _ in range(8):
        world.timeline.pass_time(1)
        if here.worker is not None:
            entry = here.entry(order.uuid)
            assert (entry.outcome, entry.reason) == (before.outcome, before.reason)
    (task,) = here.alive.coordinator.tasks()
    assert 1 < task.tries < 30
    here.alive.coordinator.resolve(task, Outcome.COMPLETED, "looked at both hosts")
    assert not here.entry(order.uuid).is_open
    assert _nonces(here) == []


def test_a_nonce_that_was_taken_for_stale_is_there_again_for_the_next_attempt(
        lonely: World) -> None:
    here = lonely.hosts[0]
    _ordered(lonely)
    (name,) = _nonces(here)
    (here.path / ".rbd-worker/nonce" / name).unlink()
    lonely.timeline.pass_time(1.5)
    assert _attempts(lonely) == 2
    assert _nonces(here) == [name]
