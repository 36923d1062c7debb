# SPDX-License-Identifier: Apache-2.0
"""What a heard message sets off, and what is durable when it may be acknowledged."""

import logging
import sqlite3
import typing as ty

import pytest

from devstack import conductor
from rbd_worker import errors
from rbd_worker.migration import journal_file
from tests.unit.conftest import MakeWorld
from tests.world import Host, World

BAD_BODIES: dict[str, bytes] = {
    "no JSON": b"this is no JSON live_migration",
    "no object": b"[1, 2]",
    "another version": b'{"oslo.version": "3.0", "oslo.message": "{}"}',
    "no text inside": b'{"oslo.version": "2.0", "oslo.message": {"method": "live_migration"}}',
    "not UTF-8": b'{"oslo.version": "2.0", "oslo.message": "\xff live_migration"}',
    "too large": b'{"oslo.version": "2.0", "oslo.message": "' + b"x" * (5 << 20) + b'"}',
}


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world("libvirt")


def _cast(world: World, guest: str, **changes: ty.Any) -> dict[str, ty.Any]:
    order = world.order(guest, *world.hosts)
    return conductor.live_migration(order, **changes)


def test_a_cast_is_in_the_journal_before_it_may_be_acknowledged(world: World,
                                                                here: Host) -> None:
    guest = world.boot(here)
    here.alive.hearing.heard(conductor.envelope(_cast(world, guest)))
    (entry,) = here.entries()  # nothing ran yet: time stands still
    assert (entry.migration.instance, entry.migration.source, entry.migration.destination) == (
        guest, "node01", "node02")
    assert here.libvirt.orders == []


def test_the_entry_has_what_the_cast_said(world: World, here: Host) -> None:
    guest = world.boot(here)
    order = world.order(guest, *world.hosts, number=77)
    here.cast(conductor.live_migration(order))
    (entry,) = here.entries()
    assert entry.migration.key == order.uuid
    assert entry.migration.number == 77
    assert entry.migration.request_id == order.request_id


@pytest.mark.parametrize("case", sorted(BAD_BODIES))
def test_bad_input_is_refused_for_the_operator_to_see(here: Host, case: str,
                                                      caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        here.hear(BAD_BODIES[case])
    (refusal,) = here.alive.journal.refusals()
    assert refusal.reason
    assert here.entries() == []
    assert "live_migration" not in refusal.reason, "the body is not repeated"
    warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1 and "\n" not in warnings[0].getMessage()


@pytest.mark.parametrize("changes", [
    {"dest": "node01"}, {"dest": "node/2"}, {"dest": None}, {"instance": None},
    {"instance": {"nova_object.data": {"uuid": "../../etc"}}},
    {"instance": {"nova_object.data": {"uuid": "A05482EC-D71A-48C7-BF99-94D829B20AEF"}}}],
    ids=str)
def test_a_cast_with_unusable_arguments_is_refused(world: World, here: Host,
                                                   changes: dict[str, ty.Any]) -> None:
    guest = world.boot(here)
    here.cast(_cast(world, guest, **changes))
    (refusal,) = here.alive.journal.refusals()
    assert "../../etc" not in refusal.reason
    assert here.entries() == []


@pytest.mark.parametrize("method", ["build_and_run_instance", "prep_resize", "reboot_instance"])
def test_what_is_none_of_our_business_leaves_no_trace(here: Host, method: str) -> None:
    here.cast({"method": method, "args": {}, "_unique_id": "u"})
    assert here.alive.journal.refusals() == []
    assert here.entries() == []


def test_neither_token_nor_body_reach_the_log_or_the_journal(
        world: World, here: Host, caplog: pytest.LogCaptureFixture) -> None:
    guest = world.boot(here)
    with caplog.at_level(logging.DEBUG):
        message = _cast(world, guest)
        here.cast(message)
        here.cast(message | {"args": message["args"] | {"dest": "node/2"}, "_unique_id": "x"})
        here.hear(conductor.envelope(message)[:-10])
        world.timeline.pass_time(60)
    for path in world.root.rglob("*"):
        assert not path.is_file() or conductor.SECRET_TOKEN.encode() not in path.read_bytes()
    assert conductor.SECRET_TOKEN not in caplog.text
    assert "b" * 32 not in caplog.text, "nor the user's id"


def test_a_journal_that_cannot_be_written_keeps_the_message_in_the_queue(
        world: World, here: Host) -> None:
    guest = world.boot(here)
    blocker = sqlite3.connect(here.alive.journal.path, isolation_level=None, timeout=0)
    here.alive.journal._db.execute("PRAGMA busy_timeout=0")
    blocker.execute("BEGIN IMMEDIATE")
    body = conductor.envelope(_cast(world, guest))
    with pytest.raises(errors.JournalUnusable):
        here.alive.hearing.heard(body)
    blocker.execute("ROLLBACK")
    blocker.close()
    here.alive.hearing.heard(body)
    assert len(here.entries()) == 1


def test_the_same_message_again_begins_nothing(world: World, here: Host) -> None:
    guest = world.boot(here)
    body = conductor.envelope(_cast(world, guest))
    for _ in range(3):
        here.hear(body)
    assert len(here.entries()) == 1


def test_an_abort_is_not_lost_where_the_disk_fills_up_in_the_middle_of_it(
        world: World, here: Host) -> None:
    """It is remembered as heard only when it was noted for the plan."""
    order = world.migrate(world.boot(here), *world.hosts, seconds=1)
    here.alive.journal._db.execute(
        "CREATE TEMP TRIGGER full BEFORE INSERT ON record"
        " BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END")
    body = conductor.envelope(conductor.abort(order))
    with pytest.raises(errors.JournalUnusable):
        here.alive.hearing.heard(body)
    here.alive.journal._db.execute("DROP TRIGGER full")
    here.alive.hearing.heard(body)  # the tap asks again
    world.timeline.pass_time(600)
    assert "aborted on request" in here.entry(order.uuid).reason


def test_an_abort_that_is_delivered_again_hits_no_later_migration(world: World,
                                                                  here: Host) -> None:
    guest = world.boot(here)
    first = world.order(guest, *world.hosts)
    abort = conductor.abort(first)
    here.cast(conductor.live_migration(first))
    here.cast(abort)
    world.timeline.pass_time(60)
    assert here.entry(first.uuid).outcome == "cancelled"
    second = world.order(guest, *world.hosts)
    here.cast(conductor.live_migration(second))
    here.cast(abort)
    world.timeline.pass_time(60)
    assert here.entry(second.uuid).outcome == "completed"


def test_no_table_of_the_journal_has_room_for_a_body() -> None:
    """Only listed fields: a column for a body or a token would be seen here."""
    db = sqlite3.connect(":memory:")
    db.executescript(journal_file._TABLES)
    tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    columns = {row[1] for (table,) in tables
               for row in db.execute(f"PRAGMA table_info({table})")}
    assert columns == {
        "key", "role", "instance", "source", "destination", "executor", "request_id", "number",
        "opened", "phase", "outcome", "reason", "closed", "id", "at", "step", "state", "data",
        "unique_id", "origin"}
