# SPDX-License-Identifier: Apache-2.0
"""Whole migrations on the fakes, and what is told of them."""

import json

import pytest

from rbd_worker.insight.notices import DIRECTORY_FIELDS, MIGRATION_FIELDS, Notice, Notices
from rbd_worker.model import Executor, Migration, Outcome, Role
from tests.unit.conftest import MakeWorld
from tests.world import Host, World

MIGRATION = Migration("m-1", "instance", Role.SOURCE, "node01", "node02", Executor.NOVA)


def told_by(host: Host) -> list[Notice]:
    """Filled while that host works."""
    found: list[Notice] = []
    host.told.add(Notices(host.name, found.append))
    return found


def types(notices: list[Notice]) -> list[str]:
    return [notice.event.type.removeprefix("rbd_worker.") for notice in notices]


@pytest.fixture(params=["nova", "libvirt"])
def world(request: pytest.FixtureRequest, make_world: MakeWorld) -> World:
    return make_world(request.param)


def test_both_hosts_tell_the_beginning_and_the_end(world: World) -> None:
    at_source, at_destination = (told_by(host) for host in world.hosts)
    order = world.migrate(world.boot(world.hosts[0]), *world.hosts)
    assert types(at_destination) == ["migration.start", "migration.end"]
    told = [n for n in at_source if n.event.type != "rbd_worker.leftover.trashed"]
    assert types(told) == ["migration.start", "migration.end"]
    begun, ended = (notice.payload for notice in told)
    assert begun["request_id"] == ended["request_id"] == order.request_id
    assert (begun["migration"], begun["instance"]) == (order.uuid, order.instance)
    assert (begun["outcome"], begun["ended_at"]) == ("", None)
    assert (ended["outcome"], ended["role"]) == ("completed", "source")
    assert begun["started_at"] == ended["started_at"] <= ended["ended_at"]


def test_a_failure_is_an_error(world: World) -> None:
    at_source = told_by(world.hosts[0])
    world.migrate(world.boot(world.hosts[0]), *world.hosts, how="fail")
    assert types(at_source) == ["migration.start", "migration.error"]
    assert at_source[-1].event.priority == "error"
    assert at_source[-1].payload["reason"]


def test_a_directory_that_leaves_is_told_with_the_item_that_restores_it(
        make_world: MakeWorld) -> None:
    world = make_world("libvirt")
    at_source = told_by(world.hosts[0])
    order = world.migrate(world.boot(world.hosts[0]), *world.hosts)
    (notice,) = [n for n in at_source if n.event.type == "rbd_worker.leftover.trashed"]
    (item,) = world.hosts[0].trashed()
    assert notice.payload == {"host": world.hosts[0].name, "instance": order.instance,
                              "item": item.id, "cause": "plan"}


def test_doubt_is_told_once_for_as_long_as_it_lasts() -> None:
    found: list[Notice] = []
    one = Notices("node01", found.append)
    one.begun(MIGRATION, 0.0)
    for reason in ("the peer is away", "the peer is still away"):
        one.marked(MIGRATION, Outcome.UNRESOLVED, reason)
    one.marked(MIGRATION, None, "")
    one.marked(MIGRATION, Outcome.UNRESOLVED, "again")
    assert types(found) == ["migration.start", "migration.unresolved", "migration.unresolved"]
    assert [n.payload["reason"] for n in found[1:]] == ["the peer is away", "again"]


def test_what_was_unresolved_before_a_restart_is_not_told_again() -> None:
    found: list[Notice] = []
    one = Notices("node01", found.append)
    one.resumed(MIGRATION, 60.0, True)
    one.marked(MIGRATION, Outcome.UNRESOLVED, "the peer is away")
    one.ended(MIGRATION, Outcome.CANCELLED, "aborted", 90.0)
    assert types(found) == ["migration.end"]
    assert found[0].payload["started_at"] == "1970-01-01T00:01:00.000+00:00"
    assert found[0].payload["ended_at"] == "1970-01-01T00:01:30.000+00:00"


def test_payloads_have_the_documented_fields_and_nothing_else(make_world: MakeWorld) -> None:
    world = make_world("libvirt")
    found = told_by(world.hosts[0])
    world.migrate(world.boot(world.hosts[0]), *world.hosts)
    for notice in found:
        fields = MIGRATION_FIELDS if "migration" in notice.event.type else DIRECTORY_FIELDS
        assert list(notice.payload) == list(fields)
        json.dumps(notice.payload)
