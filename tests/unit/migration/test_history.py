# SPDX-License-Identifier: Apache-2.0
"""The journal read page by page, on its host or from another one."""

import typing as ty

import pytest

from rbd_worker.migration import history as histories
from rbd_worker.migration.history import History
from rbd_worker.migration.journal import StepState
from rbd_worker.model import Role
from rpcapi import history as contract
from tests.unit.conftest import MakeWorld
from tests.world import Host, World

GUEST = "a05482ec-d71a-48c7-bf99-94d829b20aef"


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """Seven migrations, there and back, a minute apart."""
    world = make_world("libvirt")
    here, there = world.hosts
    world.boot(here, GUEST)
    for number in range(7):
        source, destination = (here, there) if number % 2 == 0 else (there, here)
        world.migrate(GUEST, source, destination, seconds=60, number=number + 1)
    return world


def history(host: Host) -> History:
    return History(host.name, host.alive.journal)


def numbers(entries: ty.Iterable[contract.Entry]) -> list[float]:
    return [entry.opened for entry in entries]


def test_pages_together_are_the_whole_journal_newest_first(here: Host) -> None:
    every = numbers(history(here).page(contract.HistoryRequest()).entries)
    assert every == sorted(every, reverse=True)
    assert len(every) == 7
    asked: list[int] = []

    def page(request: contract.HistoryRequest) -> contract.HistoryReply:
        asked.append(request.skip)
        return history(here).page(contract.HistoryRequest(skip=request.skip, limit=3))

    assert numbers(contract.pages(page, contract.HistoryRequest(), most=100)) == every
    assert asked == [0, 3, 6]


@pytest.mark.parametrize("most", [0, 1, 3, 4, 7, 8])
def test_no_more_than_asked_for_are_fetched(here: Host, most: int) -> None:
    found = list(contract.pages(history(here).page, contract.HistoryRequest(), most))
    assert len(found) == min(most, 7)


def test_a_time_cuts_the_journal(here: Host) -> None:
    every = numbers(history(here).page(contract.HistoryRequest()).entries)
    page = history(here).page(contract.HistoryRequest(since=every[4], until=every[1]))
    assert numbers(page.entries) == every[1:5]


def test_only_open_ones_can_be_asked_for(world: World, here: Host, there: Host) -> None:
    assert history(here).page(contract.HistoryRequest(open_only=True)).entries == ()
    key = world.migrate(GUEST, there, here, how="hang", seconds=5, number=9).uuid
    (entry,) = history(there).page(contract.HistoryRequest(open_only=True)).entries
    assert (entry.migration, entry.role, entry.closed, entry.outcome) == (key, "source", 0, "")


def test_one_migration_comes_with_its_records_in_order(here: Host) -> None:
    newest = history(here).page(contract.HistoryRequest(limit=1)).entries[0]
    (entry,) = history(here).page(contract.HistoryRequest(
        migration=newest.migration, records=True)).entries
    assert [(r.step, r.state) for r in entry.records] == here.records(newest.migration)
    assert newest.records == ()
    prepared = next(r for r in entry.records
                    if r.step == "ensure_destination_prepared" and r.state == "done")
    assert "staged" in histories.data_of(prepared)


def test_a_page_travels(here: Host) -> None:
    page = history(here).page(contract.HistoryRequest(records=True, limit=2))
    assert contract.HistoryReply.from_wire(page.to_wire()) == page
    assert page.more


def test_a_record_that_is_too_long_for_a_message_is_left_out_and_the_rest_travels(
        here: Host) -> None:
    newest = history(here).page(contract.HistoryRequest(limit=1)).entries[0]
    entry = here.alive.journal.entry(newest.migration, Role(newest.role))
    assert entry is not None
    here.alive.journal.record(entry.migration, ("long", StepState.DONE,
                                                {"placed": "x" * contract.MAX_DATA}))
    page = history(here).page(contract.HistoryRequest(
        migration=newest.migration, records=True))
    (told,) = contract.HistoryReply.from_wire(page.to_wire()).entries
    assert list(histories.data_of(told.records[-1])) == ["left_out"]
    assert all("left_out" not in record.data for record in told.records[:-1])


@pytest.mark.parametrize("data", ["", "[]", "{", "null", "[" * 100_000])
def test_a_record_that_cannot_be_read_has_no_data(data: str) -> None:
    assert histories.data_of(contract.Record(at=0, step="s", state="done", data=data)) == {}
