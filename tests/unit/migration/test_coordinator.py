# SPDX-License-Identifier: Apache-2.0
"""Who is woken when: with real threads where they matter, in virtual time elsewhere."""

import dataclasses
import itertools
import logging
import sqlite3
import threading
import time
import typing as ty

import pytest

from devstack import conductor
from devstack.lab import processes
from rbd_worker import errors
from rbd_worker.host import staging
from rbd_worker.migration.coordinator import Coordinator
from rbd_worker.model import Executor, GuestState, Migration, Outcome, Role
from tests.unit.conftest import MakeWorld
from tests.world import World


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world("libvirt")


@pytest.fixture
def threaded(world: World) -> ty.Iterator[Coordinator]:
    """The first host's coordinator with a real pool and real timers."""
    coordinator = Coordinator(world.hosts[0].alive.ports)
    yield coordinator
    coordinator.stop()


def _migration(number: int) -> Migration:
    """Of a guest that is not here: its plan ends at once."""
    return Migration(f"m{number}", f"{number:08x}-d71a-48c7-bf99-94d829b20aef", Role.SOURCE,
                     "node01", "node02", Executor.LIBVIRT)


def _wait_until(condition: ty.Callable[[], bool]) -> None:
    processes.wait_until(condition, 10, "what the coordinator does")


def test_many_migrations_come_to_their_end_at_once(world: World, threaded: Coordinator) -> None:
    for number in range(50):
        assert threaded.begin(_migration(number)) is not None
    _wait_until(lambda: threaded.tasks() == [])
    assert {e.outcome for e in world.hosts[0].entries()} == {Outcome.FAILED}
    assert len(world.hosts[0].entries()) == 50


def test_a_wake_while_another_thread_has_the_task_is_not_lost(world: World,
                                                              threaded: Coordinator) -> None:
    journal = world.hosts[0].alive.journal
    journal.open(_migration(1))
    task = threaded.adopt(_migration(1))
    with threaded.holding(task):
        for _ in range(10):
            threaded.wake(("m1", Role.SOURCE))
        time.sleep(0.1)
        assert not task.is_closed
    _wait_until(lambda: task.is_closed)


def test_a_task_that_is_held_blocks_no_other(world: World, threaded: Coordinator) -> None:
    journal = world.hosts[0].alive.journal
    journal.open(_migration(1))
    with threaded.holding(threaded.adopt(_migration(1))):
        for _ in range(100):
            threaded.wake(("m1", Role.SOURCE))
        threaded.begin(_migration(2))
        _wait_until(lambda: len(threaded.tasks()) == 1)


def test_of_two_orders_for_one_guest_at_the_same_moment_one_is_refused(
        world: World, threaded: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = _migration(1), dataclasses.replace(_migration(1), key="m2", destination="node03")
    journal = world.hosts[0].alive.journal
    write, refused = journal.open, []
    monkeypatch.setattr(threaded, "wake", lambda key: None)  # the first one stays open

    def begin_two() -> None:
        try:
            threaded.begin(two)
        except errors.BadInput as e:
            refused.append(e.sentence)
    second = threading.Thread(target=begin_two)

    def while_two_comes(migration: Migration, *arguments: ty.Any) -> bool:
        if migration is one:
            second.start()
            second.join(0.3)
        return write(migration, *arguments)
    monkeypatch.setattr(journal, "open", while_two_comes)
    threaded.begin(one)
    second.join(10)
    assert [entry.migration.key for entry in world.hosts[0].entries()] == ["m1"]
    assert ["m1 of the same guest is still open" in sentence for sentence in refused] == [True]


def test_after_a_stop_nothing_begins(world: World) -> None:
    coordinator = Coordinator(world.hosts[0].alive.ports)
    coordinator.stop()
    coordinator.begin(_migration(1))
    coordinator.submit(lambda: pytest.fail("it ran"))
    time.sleep(0.05)
    (entry,) = world.hosts[0].entries()
    assert entry.is_open


def test_an_unforeseen_error_is_logged_and_tried_again(world: World,
                                                       caplog: pytest.LogCaptureFixture) -> None:
    here, there = world.hosts
    guest = world.boot(here)
    original = here.libvirt.state
    here.libvirt.state = lambda instance: 1 // 0  # type: ignore[method-assign,return-value]
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    with caplog.at_level(logging.ERROR):
        world.timeline.pass_time(10)
    assert "not foreseen" in caplog.text
    assert here.entry(order.uuid).is_open
    here.libvirt.state = original  # type: ignore[method-assign]
    world.timeline.pass_time(60)
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED


def test_without_a_journal_a_migration_stands_still_and_then_goes_on(
        world: World, caplog: pytest.LogCaptureFixture) -> None:
    here, there = world.hosts
    guest = world.boot(here)
    here.alive.journal._db.execute("PRAGMA busy_timeout=0")
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    blocker = sqlite3.connect(here.alive.journal.path, isolation_level=None, timeout=0)
    blocker.execute("BEGIN IMMEDIATE")
    with caplog.at_level(logging.ERROR):
        world.timeline.pass_time(10)
    assert "stands still" in caplog.text
    assert here.libvirt.states == {guest: GuestState.RUNNING}
    assert not there.has_directory(guest)
    blocker.execute("ROLLBACK")
    blocker.close()
    world.timeline.pass_time(60)
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED


def test_a_finished_migration_is_not_kept_in_memory(world: World) -> None:
    here, there = world.hosts
    world.migrate(world.boot(here), here, there)
    assert here.alive.coordinator.tasks() == there.alive.coordinator.tasks() == []


def test_after_a_restart_only_open_migrations_are_picked_up(world: World) -> None:
    here, there = world.hosts
    guest = world.boot(here)
    world.migrate(guest, here, there, how="fail")
    here.ceph.is_down = True
    world.migrate(guest, here, there)
    here.restarts_after = 0
    here.kill()
    world.timeline.pass_time(1)
    assert [t.migration.instance for t in here.alive.coordinator.tasks()] == [guest]


def test_an_unresolved_migration_is_looked_at_less_and_less_often(make_world: MakeWorld) -> None:
    world = make_world("libvirt", unresolved_retry_max=100)
    here, there = world.hosts
    guest = world.boot(here)
    there.restarts_after = None
    here.cast(conductor.live_migration(world.order(guest, here, there)))
    world.timeline.pass_time(1)
    there.kill()
    asked: list[float] = []

    def count(call: ty.Any) -> None:
        asked.append(world.timeline.now)
    world.bus.fate = count
    world.timeline.pass_time(1000)
    pauses = [round(after - before) for before, after in itertools.pairwise(asked)]
    assert pauses == sorted(pauses)
    assert max(pauses) == 100
    assert len(pauses) < 20


def test_a_plan_for_which_no_thread_could_be_started_is_woken_again(world: World) -> None:
    here, there = world.hosts
    pool = here.alive.coordinator._pool
    submit, queued, looks = pool.submit, [], []
    starved = True

    def scarce(action: ty.Callable[..., None], *args: ty.Any) -> ty.Any:
        queued.append((action, args))
        if starved:
            raise RuntimeError("can't start new thread")
        while queued:  # as the standard library does: what was refused is queued all the same
            submit(*queued.pop(0)[:1], *args)
    pool.submit = scarce  # type: ignore[method-assign, assignment]
    order = world.order(world.boot(here), here, there)
    here.cast(conductor.live_migration(order))
    world.timeline.pass_time(60)
    (task,) = here.alive.coordinator.tasks()
    assert len(queued) > 10 and not task.states
    starved = False
    ask = here.libvirt.state
    here.libvirt.state = (  # type: ignore[method-assign]
        lambda instance: looks.append(instance) or ask(instance))  # type: ignore[func-returns-value]
    world.timeline.pass_time(600)
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED
    assert len(looks) < 20


def test_a_call_that_fails_in_a_way_that_is_not_foreseen_leaves_no_entry_asleep(
        make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world("libvirt", live_migration_retry_count=2)
    here, there = world.hosts

    def no_thread(*_: object, **__: object) -> ty.Any:
        raise RuntimeError("can't start new thread")
    monkeypatch.setattr(staging.Staging, "ensure", no_thread)
    world.bus.fate = lambda call: (
        "unreachable" if call.method == "rollback_live_migration" else None)
    order = world.migrate(world.boot(here), here, there, seconds=5)
    assert here.entry(order.uuid).outcome is Outcome.FAILED
    assert there.entry(order.uuid).is_open
    monkeypatch.undo()
    world.timeline.pass_time(60)
    assert there.entry(order.uuid).outcome is Outcome.FAILED


def test_an_order_whose_entry_could_not_be_read_back_goes_on_when_it_is_delivered_again(
        world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = world.hosts
    order = world.order(world.boot(here), here, there)
    message = conductor.live_migration(order)

    def unreadable(*_: object) -> ty.Any:
        raise errors.JournalUnusable(path="journal", reason="disk I/O error", fix="Look at it")
    monkeypatch.setattr(here.alive.journal, "entry", unreadable)
    with pytest.raises(errors.JournalUnusable):
        here.cast(message)
    monkeypatch.undo()
    here.cast(message)
    world.timeline.pass_time(600)
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED
