# SPDX-License-Identifier: Apache-2.0
"""Executor libvirt: the guest moves there, back, and there again."""

import pytest

from tests.functional.fleet import Fleet, furnish, states

pytestmark = pytest.mark.lab


def _without_console(directory):
    return {name: state for name, state in states(directory).items()
            if not name.startswith("console.log")}


def test_there_and_back_and_there_again_keeps_every_file(fleet: Fleet):
    fleet.start()
    guest = fleet.lab.define_guest(fleet.one, talkative=True)
    furnish(guest.directory(fleet.one))
    guest.wait_for_console(fleet.one)
    before = _without_console(guest.directory(fleet.one))
    assert len(before) == 7

    here, there = fleet.one, fleet.two
    for moves in range(1, 4):
        said = guest.console(here)
        fleet.moved(guest, here, there)
        assert guest.running_on() == [there.name]
        assert not guest.directory(here).exists()
        assert _without_console(guest.directory(there)) == before
        history = (guest.directory(there) / "console.log.0").read_text()
        assert history.startswith(said)
        assert set(guest.watchers()) == {there.address}
        sparse = (guest.directory(there) / "ephemeral").stat()
        assert sparse.st_blocks * 512 < 2 << 20
        assert len(fleet.trash(here)) == (moves + 1) // 2
        assert fleet.staging(there) == []
        here, there = there, here


def test_two_guests_cross(fleet: Fleet):
    fleet.start()
    left = fleet.lab.define_guest(fleet.one)
    right = fleet.lab.define_guest(fleet.two)
    orders = [fleet.move(left, fleet.one, fleet.two), fleet.move(right, fleet.two, fleet.one)]
    for order in orders:
        entries = fleet.closed(order)
        assert [e.outcome for e in entries.values()] == ["completed", "completed"]
    assert (left.running_on(), right.running_on()) == (["node2"], ["node1"])
    assert not left.directory(fleet.one).exists() and left.directory(fleet.two).is_dir()
    assert not right.directory(fleet.two).exists() and right.directory(fleet.one).is_dir()


def test_a_leftover_at_the_destination_is_trashed_and_the_guest_moves(fleet: Fleet):
    fleet.start()
    guest = fleet.lab.define_guest(fleet.one)
    leftover = guest.directory(fleet.two)
    leftover.mkdir()
    (leftover / "console.log").write_text("from an earlier life\n")
    order = fleet.moved(guest, fleet.one, fleet.two)
    assert fleet.notes(fleet.two, order)["ensure_leftover_trashed"]["trash"]
    (item,) = fleet.trash(fleet.two)
    assert (item / "console.log").read_text() == "from an earlier life\n"
    assert guest.running_on() == ["node2"]


def test_a_repeated_cast_begins_nothing(fleet: Fleet):
    fleet.start()
    guest = fleet.lab.define_guest(fleet.one)
    order = fleet.moved(guest, fleet.one, fleet.two)
    fleet.conductor.live_migrate(order)
    fleet.workers["node1"].wait_log("was heard before")
    assert guest.running_on() == ["node2"]


def test_a_second_cast_for_the_same_guest_is_refused_while_one_runs(fleet: Fleet):
    fleet.start(libvirt={"live_migration_bandwidth": 20})
    guest = fleet.lab.define_guest(fleet.one, busy=True)
    first = fleet.move(guest, fleet.one, fleet.two)
    fleet.until(lambda: _phase(fleet, first) == "live_migration", "the first move")
    second = fleet.move(guest, fleet.one, fleet.two)
    fleet.until(lambda: any(first.uuid in reason for reason in fleet.refusals(fleet.one)),
                "the refusal of the second")
    assert fleet.entry(fleet.one, second) is None
    assert fleet.entry(fleet.one, first).is_open


def _phase(fleet: Fleet, order):
    entry = fleet.entry(fleet.one, order)
    return entry.phase if entry else None


def test_on_a_shared_path_nothing_is_copied_and_nothing_is_removed(fleet: Fleet):
    fleet.two.run(["mount", "--bind", str(fleet.one.root / "var/lib/nova/instances"),
                   "/var/lib/nova/instances"])
    try:
        fleet.start()
        guest = fleet.lab.define_guest(fleet.one)
        furnish(guest.directory(fleet.one))
        before = _without_console(guest.directory(fleet.one))
        order = fleet.moved(guest, fleet.one, fleet.two)
        assert guest.running_on() == ["node2"]
        assert _without_console(guest.directory(fleet.one)) == before
        assert fleet.trash(fleet.one) == [] and fleet.staging(fleet.one) == []
        assert fleet.notes(fleet.one, order)["ensure_source_removed"] == {
            "kept": "the path is shared"}
    finally:
        for worker in fleet.workers.values():
            worker.stop()
        fleet.two.run(["umount", "-l", "/var/lib/nova/instances"])
