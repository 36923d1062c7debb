# SPDX-License-Identifier: Apache-2.0
"""Whoever may send messages may send very many: what this host keeps of them has an end."""

import sqlite3
import typing as ty
import uuid

import pytest

from devstack import conductor
from rbd_worker.migration import coordinator, desk, journal, rollback_hints
from rbd_worker.model import Executor, Migration, Outcome, Role
from rbd_worker.triggers import hearing
from rpcapi import errors as peer_errors
from rpcapi import payloads
from tests.fakes import Client
from tests.unit.conftest import MakeWorld
from tests.unit.migration.test_forged_calls import _request, _sent
from tests.world import World


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world("nova")


def _migration(number: int) -> Migration:
    return Migration(f"key-{number}", str(uuid.UUID(int=number)), Role.SOURCE, "node01", "node02",
                     Executor.NOVA)


def _count(opened: journal.Journal, table: str) -> int:
    db = sqlite3.connect(opened.path)
    try:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    finally:
        db.close()


def test_no_more_migrations_are_opened_than_there_is_room_for(
        world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator, "MAX_OPEN", 3)
    here, there = world.hosts
    for _ in range(5):
        here.cast(conductor.live_migration(world.order(world.boot(here), here, there)))
    assert len(here.entries()) == 3
    told = [refusal.reason for refusal in here.alive.journal.refusals()]
    assert len(told) == 2
    assert "3 are open here already" in told[0]
    assert "Nova moves the guest without this worker" in told[0]


def test_a_destination_with_too_many_open_refuses_the_next(
        world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = world.hosts
    orders = [world.order(world.boot(here), here, there) for _ in range(2)]
    here.cast(conductor.live_migration(orders[0]))
    world.timeline.pass_time(1)
    assert len(there.entries()) == 1
    monkeypatch.setattr(coordinator, "MAX_OPEN", 1)
    monkeypatch.setattr(here.alive.testimonies, "_listed", lambda _migration: None)  # as in 1.1
    with pytest.raises(peer_errors.PeerRefused, match="1 are open here already"):
        here.alive.journal.open(Migration(orders[1].uuid, orders[1].instance, Role.SOURCE,
                                          here.name, there.name, Executor.NOVA))
        Client(world.bus, here.name).pre_live_migration(there.name, _request(
            payloads.PrepareRequest, world, orders[1].instance, here.name, there.name,
            migration=orders[1].uuid))
    assert len(there.entries()) == 1


def test_one_migration_is_prepared_only_so_often(world: World,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "MAX_PREPARES", 3)
    here, there = world.hosts
    order = world.order(world.boot(here), here, there)
    here.alive.journal.open(Migration(order.uuid, order.instance, Role.SOURCE, here.name,
                                      there.name, Executor.NOVA))
    monkeypatch.setattr(here.alive.testimonies, "_listed", lambda _migration: None)  # as in 1.1
    request = _request(payloads.PrepareRequest, world, order.instance, here.name, there.name,
                       migration=order.uuid)
    answers = [_sent(lambda: Client(world.bus, "mallory").pre_live_migration(
        there.name, request)) for _ in range(4)]
    assert isinstance(answers[0], payloads.PrepareReply)
    assert isinstance(answers[-1], peer_errors.PeerRefused)


def test_a_journal_forgets_the_oldest_messages_and_closed_entries_while_it_runs(
        tmp_path: ty.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MAX_MESSAGES", 50), ("MAX_CLOSED", 20), ("_FORGET_EVERY", 10)):
        monkeypatch.setattr(journal, name, value)
    opened = journal.Journal(tmp_path)
    try:
        opened.open(_migration(0), "message-0")  # stays open
        for number in range(1, 200):
            opened.open(_migration(number), f"message-{number}")
            opened.record(_migration(number), ("step", journal.StepState.DONE, {}))
            opened.close_entry(_migration(number), Outcome.COMPLETED)
        assert _count(opened, "message") <= 50 + 10
        assert _count(opened, "entry") <= 1 + 20 + 10
        assert _count(opened, "record") <= 20 + 10
        assert [e.migration.key for e in opened.open_entries()] == ["key-0"]
        assert opened.newest_entries(1)[0].migration.key == "key-199"
        assert not opened.heard("message-199"), "a young message is remembered"
    finally:
        opened.close()


def test_only_the_newest_rollbacks_that_nobody_waits_for_are_remembered() -> None:
    hints = rollback_hints.RollbackHints(lambda: 0.0)
    for number in range(1500):
        hints.keep(f"{number}")
    assert [n for n in range(1500) if hints.take(f"{n}")] == list(range(500, 1500))


def test_a_leftover_is_looked_at_once_at_a_time(world: World) -> None:
    here, there = world.hosts
    guest = world.boot(here)
    there.directory(guest).mkdir()
    order = world.order(guest, here, there)
    for _ in range(20):
        there.cast(conductor.check_destination(order))
    world.timeline.pass_time(1)
    assert len(there.alive.journal.refusals()) <= 1
    for number in range(hearing.MAX_LOOKS + 20):
        there.cast(conductor.check_destination(world.order(
            str(uuid.UUID(int=number)), here, there)))
    assert len(there.alive.hearing._looking) <= hearing.MAX_LOOKS
    world.timeline.pass_time(60)
    assert not there.alive.hearing._looking


def test_holders_of_guests_that_nobody_asked_for_are_not_kept(world: World) -> None:
    here = world.hosts[0]
    asked = str(uuid.UUID(int=1))
    audit = here.alive.audit

    def flood(request: payloads.WhoHoldsRequest) -> None:
        for host in range(10):
            audit.holding(payloads.HoldingReport(
                host=f"h{host}", token=request.token,
                instances=tuple(str(uuid.UUID(int=n)) for n in range(1, 100))))
    here.alive.ports.peers.who_holds = flood  # type: ignore[method-assign]
    holders = audit._ask_all([asked])
    assert set(holders) == {asked}
    assert 2 <= len(holders[asked]) <= 4
