# SPDX-License-Identifier: Apache-2.0
"""Executor libvirt: a cast is heard, two workers act, the guest moves; and what may go wrong."""

import pathlib
import typing as ty

import pytest

from devstack import conductor
from rbd_worker.host import walk
from rbd_worker.migration.journal import StepState
from rbd_worker.model import Executor, GuestState, Migration, Outcome, Phase, Role
from rpcapi import payloads
from tests import world as worlds
from tests.unit.conftest import MakeWorld
from tests.unit.host.entries import entry_of
from tests.world import Host, World

PLAN = {
    "source": ["ensure_files_pinned", "ensure_destination_prepared", "ensure_guest_moved",
               "ensure_outcome_settled", "ensure_files_handed_over", "ensure_source_removed"],
    "destination": ["ensure_leftover_trashed", "ensure_files_staged", "ensure_directory_made",
                    "ensure_outcome_settled", "ensure_files_placed"],
}


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world("libvirt")


def _steps(host: Host, key: str, *states: str) -> list[str]:
    return [step for step, state in host.records(key) if state in states]


# -- success -----------------------------------------------------------------


def test_the_guest_goes_there_and_takes_its_directory_along(world: World, here: Host,
                                                            there: Host) -> None:
    guest = world.boot(here)
    order = world.migrate(guest, here, there)
    assert there.libvirt.states == {guest: GuestState.RUNNING}
    assert here.libvirt.states == {}
    found = there.files(guest)
    assert {name: found[name] for name in worlds.FILES} == worlds.FILES
    assert found["console.log.0"].decode().splitlines() == here.libvirt.said
    assert found["console.log"].decode().splitlines() == there.libvirt.said
    for host in world.hosts:
        assert host.entry(order.uuid).outcome is Outcome.COMPLETED
        assert host.staged(guest) == []


def test_the_sources_directory_is_in_the_trash_with_its_reasons(world: World, here: Host,
                                                                there: Host) -> None:
    guest = world.boot(here)
    before = here.files(guest)
    order = world.migrate(guest, here, there)
    assert not here.has_directory(guest)
    (item,) = here.trashed()
    assert (item.instance, item.migration) == (guest, order.uuid)
    assert {fact.witness for fact in item.facts} == {"libvirt here", "holder", "watchers", "path"}
    kept = worlds.files_below(here.path / ".rbd-worker/trash" / item.id / "directory")
    assert {n: c for n, c in kept.items() if n != "console.log"} == {
        n: c for n, c in before.items() if n != "console.log"}
    assert kept["console.log"].startswith(before["console.log"])


def test_the_directory_stands_before_qemu_starts(world: World, here: Host, there: Host) -> None:
    """Without it QEMU could not open its console log, and the move would fail."""
    guest = world.boot(here)
    here.cast(conductor.live_migration(world.order(guest, here, there)))
    world.timeline.pass_time(0.1)
    assert there.libvirt.states == {guest: GuestState.INCOMING}
    assert set(there.files(guest)) == {"console.log", *worlds.FILES}


def test_each_step_is_written_before_and_after_it_is_done(world: World, here: Host,
                                                          there: Host) -> None:
    guest = world.boot(here)
    order = world.migrate(guest, here, there)
    for host, role in ((here, "source"), (there, "destination")):
        assert _steps(host, order.uuid, "doing") == PLAN[role]
        assert _steps(host, order.uuid, "done") == PLAN[role]
        seen = [(s, state) for s, state in host.records(order.uuid) if state != "note"]
        assert seen == [(step, state) for step in PLAN[role] for state in ("doing", "done")]


def test_there_and_back_and_there_again_keeps_the_whole_history(world: World, here: Host,
                                                                there: Host) -> None:
    guest = world.boot(here)
    for source, destination in ((here, there), (there, here), (here, there)):
        world.migrate(guest, source, destination)
    found = there.files(guest)
    logs = [found[f"console.log.{n}"].decode().splitlines() for n in (2, 1, 0)]
    said = [line for log in (*logs, found["console.log"].decode().splitlines()) for line in log]
    assert sorted(said) == sorted(here.libvirt.said + there.libvirt.said)
    assert said[0].startswith("[node01] the guest has booted")
    assert said[-1].startswith("[node02] the guest has arrived")


def test_two_guests_cross_each_other(world: World, here: Host, there: Host) -> None:
    first, second = world.boot(here), world.boot(there)
    here.cast(conductor.live_migration(world.order(first, here, there, 1)))
    there.cast(conductor.live_migration(world.order(second, there, here, 2)))
    world.timeline.pass_time(600)
    assert here.libvirt.states == {second: GuestState.RUNNING}
    assert there.libvirt.states == {first: GuestState.RUNNING}
    assert not here.has_directory(first) and not there.has_directory(second)


def test_only_so_many_guests_leave_at_once(make_world: MakeWorld) -> None:
    world = make_world("libvirt", max_concurrent_live_migrations=0)
    here, there = world.hosts
    guests = [world.boot(here) for _ in range(3)]
    for number, guest in enumerate(guests, 1):
        here.cast(conductor.live_migration(world.order(guest, here, there, number)))
    world.timeline.pass_time(600)
    assert set(there.libvirt.states) == set(guests)


def test_a_guest_without_any_directory_gets_one(world: World, here: Host, there: Host) -> None:
    guest = world.boot(here)
    for path in sorted(here.directory(guest).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    here.directory(guest).rmdir()
    here.libvirt.say = lambda *_: None  # type: ignore[method-assign]  # its log is gone too
    world.migrate(guest, here, there)
    assert there.libvirt.states == {guest: GuestState.RUNNING}
    assert set(there.files(guest)) == {"console.log"}


# -- failure and undo --------------------------------------------------------


@pytest.mark.parametrize("how", ["refuse", "fail"])
def test_a_failed_move_is_undone_backwards(world: World, here: Host, there: Host,
                                           how: str) -> None:
    guest = world.boot(here)
    before = here.files(guest)
    order = world.migrate(guest, here, there, how=how)
    assert here.libvirt.states == {guest: GuestState.RUNNING}
    assert {n: c for n, c in here.files(guest).items() if n in worlds.FILES} == {
        n: c for n, c in before.items() if n in worlds.FILES}
    assert not there.has_directory(guest)
    assert there.staged(guest) == []
    assert _steps(here, order.uuid, "undone") == ["ensure_destination_prepared",
                                                  "ensure_files_pinned"]
    assert _steps(there, order.uuid, "undone") == ["ensure_directory_made", "ensure_files_staged"]
    for host in world.hosts:
        assert host.entry(order.uuid).outcome is Outcome.FAILED
        assert host.entry(order.uuid).reason


def test_what_was_made_at_the_destination_goes_to_its_trash(world: World, here: Host,
                                                            there: Host) -> None:
    guest = world.boot(here)
    order = world.migrate(guest, here, there, how="fail")
    (item,) = there.trashed()
    assert (item.instance, item.migration) == (guest, order.uuid)
    assert here.trashed() == []


def test_libvirts_refusal_is_told_with_its_remedy(world: World, here: Host, there: Host) -> None:
    guest = world.boot(here)
    order = world.migrate(guest, here, there, how="refuse")
    assert "no secret" in here.entry(order.uuid).reason
    assert "Define it" in here.entry(order.uuid).reason


def test_after_a_failure_the_next_attempt_works(world: World, here: Host, there: Host) -> None:
    guest = world.boot(here)
    world.migrate(guest, here, there, how="fail")
    world.migrate(guest, here, there)
    assert there.libvirt.states == {guest: GuestState.RUNNING}
    assert not here.has_directory(guest)


def test_an_interrupted_order_is_given_again(world: World, here: Host, there: Host) -> None:
    guest = world.boot(here)
    here.libvirt.next_moves = ["interrupt", "interrupt", "succeed"]
    here.cast(conductor.live_migration(world.order(guest, here, there)))
    world.timeline.pass_time(60)
    assert there.libvirt.states == {guest: GuestState.RUNNING}
    assert here.libvirt.orders == [("move", guest)] * 3


def test_an_order_that_is_always_interrupted_fails_after_the_retries(
        make_world: MakeWorld) -> None:
    world = make_world("libvirt", live_migration_retry_count=4)
    here, there = world.hosts
    guest = world.boot(here)
    here.libvirt.next_moves = ["interrupt"] * 100
    order = world.order(guest, here, there)
    here.cast(conductor.live_migration(order))
    world.timeline.pass_time(600)
    assert here.libvirt.orders == [("move", guest)] * 5
    assert here.entry(order.uuid).outcome is Outcome.FAILED
    assert not there.has_directory(guest)


def test_an_answer_that_was_lost_is_settled_by_asking_both_hosts(world: World, here: Host,
                                                                 there: Host) -> None:
    guest = world.boot(here)
    order = world.migrate(guest, here, there, how="lose answer")
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED
    assert there.libvirt.states == {guest: GuestState.RUNNING}
    assert not here.has_directory(guest)


def test_a_directory_that_cannot_be_carried_ends_the_migration_before_it_begins(
        world: World, here: Host, there: Host) -> None:
    guest = world.boot(here)
    (here.directory(guest) / "link").symlink_to("/etc/passwd")
    order = world.migrate(guest, here, there)
    assert here.entry(order.uuid).outcome is Outcome.FAILED
    assert "link" in here.entry(order.uuid).reason
    assert here.libvirt.orders == []
    assert world.bus.calls == [] or {c.method for c in world.bus.calls} <= {"testify"}
    assert (here.directory(guest) / "link").is_symlink()


@pytest.mark.parametrize("stands", ["link", "dangling link", "file"])
def test_what_is_no_directory_at_the_destination_is_named_and_not_called_shared(
        world: World, here: Host, there: Host, tmp_path: pathlib.Path, stands: str) -> None:
    guest = world.boot(here)
    place = there.directory(guest)
    precious = tmp_path / "precious"
    precious.mkdir()
    {"link": lambda: place.symlink_to(precious), "file": place.touch,
     "dangling link": lambda: place.symlink_to("nowhere")}[stands]()
    before = place.lstat()
    order = world.migrate(guest, here, there)
    entry = here.entry(order.uuid)
    assert entry.outcome is Outcome.FAILED
    assert guest in entry.reason and "no directory" in entry.reason
    assert "is on a path that both hosts share" not in entry.reason
    assert "as it should be" not in entry.reason
    assert place.lstat() == before and list(precious.iterdir()) == []
    assert here.libvirt.states == {guest: GuestState.RUNNING}


# -- the other worker --------------------------------------------------------


@pytest.mark.parametrize("count", [0, 3])
def test_an_absent_worker_is_asked_once_a_second_and_then_it_fails(make_world: MakeWorld,
                                                                   count: int) -> None:
    world = make_world("libvirt", live_migration_retry_count=count)
    here, there = world.hosts
    there.restarts_after = None
    there.kill()
    guest = world.boot(here)
    order, begun = world.order(guest, here, there), world.timeline.now
    here.cast(conductor.live_migration(order))
    world.timeline.pass_time(600)
    assert [c.method for c in world.bus.calls].count("pre_live_migration") == count + 1
    entry = here.entry(order.uuid)
    assert entry.outcome is Outcome.FAILED
    assert "node02" in entry.reason and "Check that rbd-worker runs" in entry.reason
    assert entry.closed is not None and count <= entry.closed - begun < count + 1
    assert here.libvirt.orders == []
    assert set(here.files(guest)) == {"console.log", *worlds.FILES}


def test_a_worker_that_comes_back_in_time_is_enough(world: World, here: Host,
                                                    there: Host) -> None:
    there.restarts_after = 10
    there.kill()
    guest = world.boot(here)
    world.migrate(guest, here, there)
    assert there.libvirt.states == {guest: GuestState.RUNNING}


def test_an_unknown_destination_fails_with_a_reason(world: World, here: Host) -> None:
    guest = world.boot(here)
    order = conductor.LiveMigration(guest, here.name, "nowhere")
    here.cast(conductor.live_migration(order))
    world.timeline.pass_time(600)
    assert here.entry(order.uuid).outcome is Outcome.FAILED
    assert "nowhere" in here.entry(order.uuid).reason
    assert here.libvirt.states == {guest: GuestState.RUNNING}


def test_a_refusal_of_the_peer_is_not_repeated(make_world: MakeWorld) -> None:
    world = make_world("libvirt")
    here, there = world.hosts
    there.settings = worlds.settings_of(there.name, world.root / there.name, "nova")
    there.restarts_after = 0
    there.kill()
    world.timeline.pass_time(1)
    guest = world.boot(here)
    order = world.migrate(guest, here, there)
    assert [c.method for c in world.bus.calls].count("pre_live_migration") == 1
    assert "Set the same executor on both hosts" in here.entry(order.uuid).reason
    assert here.entry(order.uuid).outcome is Outcome.FAILED
    assert here.libvirt.orders == []
    assert there.entries() == []


def test_a_file_that_could_not_be_fetched_at_once_is_fetched_later(make_world: MakeWorld) -> None:
    """The destination's plan does not turn back: the source asks again a second later."""
    world = make_world("libvirt", inline_bytes=0)
    here, there = world.hosts
    guest = world.boot(here)
    lost: list[int] = []

    def twice(call: ty.Any) -> str | None:
        if call.method == "read_chunk" and len(lost) < 2:
            lost.append(call.number)
            return "unreachable"
        return None
    world.bus.fate = twice
    order = world.migrate(guest, here, there)
    assert len(lost) == 2
    assert there.entry(order.uuid).outcome is Outcome.COMPLETED
    assert {n: c for n, c in there.files(guest).items() if n in worlds.FILES} == worlds.FILES


@pytest.mark.parametrize("method", ["pre_live_migration", "post_live_migration"])
@pytest.mark.parametrize("fate", ["lose reply", "repeat", "unreachable", "kill after"])
def test_a_call_that_goes_astray_once_changes_nothing(world: World, here: Host, there: Host,
                                                      method: str, fate: str) -> None:
    guest = world.boot(here)
    struck: list[int] = []

    def once(call: ty.Any) -> str | None:
        if call.method == method and not struck:
            struck.append(call.number)
            return fate
        return None
    world.bus.fate = once
    world.migrate(guest, here, there)
    assert struck
    assert there.libvirt.states == {guest: GuestState.RUNNING}
    found = there.files(guest)
    assert {name: found[name] for name in worlds.FILES} == worlds.FILES
    assert found["console.log.0"].decode().splitlines() == here.libvirt.said
    assert "console.log.1" not in found
    assert not here.has_directory(guest)


def test_while_the_destination_cannot_be_asked_nothing_is_concluded(world: World, here: Host,
                                                                    there: Host) -> None:
    """The guest has moved, and the source cannot know: unresolved, not failed."""
    guest = world.boot(here)
    there.restarts_after = None
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    world.timeline.pass_time(1)
    assert there.libvirt.states == {guest: GuestState.INCOMING}
    there.kill()
    world.timeline.pass_time(3600)
    entry = here.entry(order.uuid)
    assert entry.is_open and entry.outcome is Outcome.UNRESOLVED
    assert "node02 does not answer" in entry.reason
    assert here.has_directory(guest)
    there.start()
    world.timeline.pass_time(600)
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED
    assert there.entry(order.uuid).outcome is Outcome.COMPLETED
    assert not here.has_directory(guest)


def test_while_libvirt_here_is_down_nothing_is_concluded(world: World, here: Host,
                                                         there: Host) -> None:
    guest = world.boot(here)
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    world.timeline.pass_time(1)
    here.libvirt.is_down = True
    world.timeline.pass_time(600)
    entry = here.entry(order.uuid)
    assert entry.is_open and entry.outcome is Outcome.UNRESOLVED
    assert "libvirt" in entry.reason
    assert here.has_directory(guest)
    here.libvirt.is_down = False
    world.timeline.pass_time(600)
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED


def test_an_order_that_comes_while_libvirt_is_restarted_is_carried_out(world: World, here: Host,
                                                                       there: Host) -> None:
    guest = world.boot(here)
    here.libvirt.is_down = True
    world.timeline.after(5, lambda: setattr(here.libvirt, "is_down", False))
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    world.timeline.pass_time(600)
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED
    assert there.libvirt.states == {guest: GuestState.RUNNING}
    assert not here.has_directory(guest)


def test_a_destination_whose_source_vanished_waits_and_then_lets_go(world: World, here: Host,
                                                                    there: Host) -> None:
    """The source is killed right after the destination is ready, and is back much later."""
    guest = world.boot(here)
    here.restarts_after = 7200
    here.kills_at = here.alive.life.kills_at = lambda number, side: number == 5
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    world.timeline.pass_time(3600)
    assert there.has_directory(guest), "nobody said that it may go"
    assert there.entry(order.uuid).is_open
    here.kills_at = lambda number, side: False
    world.timeline.pass_time(2 * 3600)
    assert there.libvirt.states == {guest: GuestState.RUNNING}
    assert there.entry(order.uuid).outcome is Outcome.COMPLETED


def test_a_move_that_ends_while_it_is_asked_for_is_not_ordered_again(
        world: World, here: Host, there: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = world.boot(here)
    order = world.order(guest, here, there)
    here.libvirt.next_moves = ["hang"]
    here.cast(conductor.live_migration(order))
    world.timeline.pass_time(3)
    movers, (transfer,) = here.alive.ports.movers, here.libvirt.transfers

    def ending_after(ask: ty.Callable[[str], ty.Any]) -> ty.Callable[[str], ty.Any]:
        def asked(key: str) -> ty.Any:
            found = ask(key)
            if not transfer.is_over:  # what the thread that moves the guest does at its end
                transfer.fail()
                del movers._moving[key]
                movers._ends[key] = {"error": "connection lost"}
            return found
        return asked
    for name in ("is_moving", "end_of"):
        monkeypatch.setattr(movers, name, ending_after(getattr(movers, name)))
    world.timeline.pass_time(600)
    assert here.libvirt.orders == [("move", guest)]
    assert here.libvirt.states == {guest: GuestState.RUNNING}
    assert here.entry(order.uuid).outcome is Outcome.FAILED
    assert here.has_directory(guest) and not there.has_directory(guest)


# -- stop, abort and force-complete ------------------------------------------


def test_a_stop_ends_the_retries_at_once_and_keeps_the_entry(world: World, here: Host,
                                                             there: Host) -> None:
    there.restarts_after = None
    there.kill()
    guest = world.boot(here)
    worker, begun = here.alive, world.timeline.now
    world.timeline.after(3.5, worker.shutdown.set)
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    world.timeline.pass_time(30)
    calls = [c for c in world.bus.calls if c.method == "pre_live_migration"]
    assert len(calls) <= 5
    entry = here.entry(order.uuid)
    assert entry.is_open and entry.outcome is None
    assert entry.phase is Phase.PRE
    there.start()
    here.restart()
    world.timeline.pass_time(600)
    assert there.libvirt.states == {guest: GuestState.RUNNING}
    assert world.timeline.now > begun


def test_an_abort_while_the_guest_moves_brings_it_back(world: World, here: Host,
                                                       there: Host) -> None:
    guest = world.boot(here)
    here.libvirt.next_moves = ["hang"]
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    world.timeline.pass_time(5)
    here.cast(conductor.abort(order))
    world.timeline.pass_time(60)
    assert here.libvirt.states == {guest: GuestState.RUNNING}
    assert not there.has_directory(guest)
    for host in world.hosts:
        assert host.entry(order.uuid).outcome is Outcome.CANCELLED
    assert "aborted on request" in here.entry(order.uuid).reason


def test_an_abort_before_the_guest_moves_is_in_time(world: World, here: Host,
                                                    there: Host) -> None:
    there.restarts_after = 10
    there.kill()
    guest = world.boot(here)
    world.timeline.after(3, lambda: here.cast(conductor.abort(order)))
    order = world.order(guest, here, there)
    here.cast(conductor.live_migration(order))
    world.timeline.pass_time(600)
    assert here.libvirt.orders == []
    assert here.entry(order.uuid).outcome is Outcome.CANCELLED
    assert not there.has_directory(guest)


def test_an_abort_while_libvirtd_is_away_waits_for_nobody(world: World, here: Host,
                                                          there: Host) -> None:
    guest = world.boot(here)
    here.libvirt.is_down = True
    world.timeline.after(3, lambda: here.cast(conductor.abort(order)))
    order = world.order(guest, here, there)
    here.cast(conductor.live_migration(order))
    world.timeline.pass_time(6)
    assert here.entry(order.uuid).outcome is Outcome.CANCELLED
    assert here.directory(guest).is_dir() and not there.has_directory(guest)


def test_an_abort_is_not_forgotten_by_a_restart(world: World, here: Host, there: Host) -> None:
    there.restarts_after = 60
    there.kill()
    guest = world.boot(here)
    order = world.order(guest, here, there)
    world.timeline.after(3.2, lambda: here.cast(conductor.abort(order)))
    world.timeline.after(3.4, here.kill)
    here.cast(conductor.live_migration(order))
    world.timeline.pass_time(600)
    assert here.libvirt.orders == []
    assert here.entry(order.uuid).outcome is Outcome.CANCELLED


def test_an_abort_of_another_migration_is_ignored(world: World, here: Host, there: Host) -> None:
    guest = world.boot(here)
    order = world.order(guest, here, there, 7)
    here.cast(conductor.live_migration(order))
    world.timeline.pass_time(1)
    here.cast(conductor.abort(world.order(guest, here, there, 8)))
    world.timeline.pass_time(60)
    assert here.libvirt.orders == [("move", guest)]
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED


def test_an_abort_at_the_destination_does_nothing(world: World, here: Host, there: Host) -> None:
    guest = world.boot(here)
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    world.timeline.pass_time(1)
    there.cast(conductor.abort(order))
    world.timeline.pass_time(60)
    assert there.libvirt.orders == []
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED


def test_force_complete_ends_a_move_that_would_not_end(world: World, here: Host,
                                                       there: Host) -> None:
    guest = world.boot(here)
    here.libvirt.next_moves = ["hang"]
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    world.timeline.pass_time(5)
    here.cast(conductor.force_complete(order))
    world.timeline.pass_time(60)
    assert ("force_complete", guest) in here.libvirt.orders
    assert there.libvirt.states == {guest: GuestState.RUNNING}


# -- casts that do not fit ---------------------------------------------------


def test_a_second_cast_for_the_same_guest_is_refused(world: World, here: Host,
                                                     there: Host) -> None:
    guest = world.boot(here)
    first = world.order(guest, here, there, 1)
    second = world.order(guest, here, there, 2)
    here.cast(conductor.live_migration(first))
    world.timeline.pass_time(1)
    here.cast(conductor.live_migration(second))
    world.timeline.pass_time(60)
    assert [entry.migration.key for entry in here.entries()] == [first.uuid]
    (refusal,) = here.alive.journal.refusals()
    assert second.uuid in refusal.reason and first.uuid in refusal.reason
    assert here.entry(first.uuid).outcome is Outcome.COMPLETED


def test_the_same_cast_heard_twice_is_acted_upon_once(world: World, here: Host,
                                                      there: Host) -> None:
    guest = world.boot(here)
    message = conductor.live_migration(world.order(guest, here, there))
    here.cast(message)
    here.cast(message)
    world.timeline.pass_time(60)
    here.cast(message)
    world.timeline.pass_time(60)
    assert len(here.entries()) == 1
    assert here.libvirt.orders == [("move", guest)]


def test_a_cast_for_a_guest_that_is_nowhere_fails_and_makes_nothing(world: World, here: Host,
                                                                    there: Host) -> None:
    guest = "b05482ec-d71a-48c7-bf99-94d829b20aef"
    order = world.migrate(guest, here, there)
    entry = here.entry(order.uuid)
    assert entry.outcome is Outcome.FAILED
    assert entry.reason == f"no guest {guest} on node01"
    assert not here.has_directory(guest) and not there.has_directory(guest)


def test_a_directory_whose_guest_is_nowhere_stays(world: World, here: Host, there: Host) -> None:
    guest = world.boot(here)
    del here.libvirt.states[guest]
    before = here.files(guest)
    world.migrate(guest, here, there)
    assert here.files(guest) == before
    assert not there.has_directory(guest)


def test_a_late_cast_removes_nothing_by_itself(world: World, here: Host, there: Host) -> None:
    """The guest is at its destination already; that host refuses to be prepared for it."""
    guest = world.boot(there)
    (here.directory(guest)).mkdir()
    (here.directory(guest) / "console.log").write_text("what is left here\n")
    order = world.migrate(guest, here, there)
    assert here.files(guest) == {"console.log": b"what is left here\n"}
    assert here.entry(order.uuid).outcome is Outcome.FAILED
    assert "libvirt on node02 has that guest" in here.entry(order.uuid).reason


def test_beside_nova_compute_nothing_is_moved(world: World, here: Host, there: Host) -> None:
    guest = world.boot(here)
    here.nova_consumers = 1
    order = world.migrate(guest, here, there)
    assert here.libvirt.orders == []
    assert here.entry(order.uuid).outcome is Outcome.FAILED
    assert "executor = nova" in here.entry(order.uuid).reason
    assert not there.has_directory(guest)


def test_an_order_is_not_given_a_day_later(make_world: MakeWorld) -> None:
    world = make_world("libvirt", prepare_timeout=3600)
    here, there = world.hosts
    guest = world.boot(here)
    here.restarts_after = 4000
    here.kills_at = here.alive.life.kills_at = lambda number, side: number == 4
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    here.kills_at = lambda number, side: False
    world.timeline.pass_time(9000)
    assert here.libvirt.orders == []
    assert here.entry(order.uuid).outcome is Outcome.FAILED
    assert "prepare_timeout" in here.entry(order.uuid).reason
    assert not there.has_directory(guest)


def test_a_move_whose_end_libvirt_left_open_is_explained_and_goes_on_when_it_is_closed(
        world: World, here: Host, there: Host) -> None:
    """The source's libvirtd was ended in the last part: "a third party needs to check"."""
    guest = world.boot(here)
    here.libvirt.next_moves = ["hang"]
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    world.timeline.pass_time(5)
    here.libvirt.transfers[-1].is_over = True
    here.libvirt.left_open.add(guest)
    there.libvirt.states[guest] = GuestState.RUNNING
    here.restart()
    world.timeline.pass_time(3600)
    entry = here.entry(order.uuid)
    assert entry.is_open and entry.outcome is Outcome.UNRESOLVED
    assert f"virsh destroy {guest}" in entry.reason and "says running" in entry.reason
    assert here.has_directory(guest) and there.has_directory(guest)
    assert ("abort", guest) not in here.libvirt.orders, "the copy is not the worker's to end"
    del here.libvirt.states[guest]
    world.timeline.pass_time(3600)
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED
    assert not here.has_directory(guest)
    assert {name: there.files(guest)[name] for name in worlds.FILES} == worlds.FILES


def test_a_guest_that_comes_although_its_destination_turned_back_gets_its_files(
        world: World) -> None:
    """A late repetition of a call failed, when the source went on with its first answer."""
    here, there = world.hosts
    guest = world.boot(there)
    (there.directory(guest) / "disk.info").unlink()
    sides = [Migration("key", guest, role, here.name, there.name, Executor.LIBVIRT)
             for role in (Role.SOURCE, Role.DESTINATION)]
    for host, migration in zip(world.hosts, sides, strict=True):
        host.alive.journal.open(migration)
    here.alive.journal.record(sides[0], phase=Phase.POST)
    there.alive.journal.record(
        sides[1], ("ensure_directory_made", StepState.UNDOING, {}),
        ("turned_back", StepState.NOTE, {"outcome": "failed", "reason": "disk full"}),
        phase=Phase.ROLLBACK)
    request = payloads.FinishRequest(
        migration="key", instance=guest, source=here.name, destination=there.name,
        executor="libvirt", probe=payloads.PathProbe(), root=walk.EMPTY_ROOT,
        entries=(entry_of("disk.info", b"as it was"),))
    here.alive.coordinator.adopt(sides[0]).listed = payloads.fingerprint(request)
    there.alive.desk.post_live_migration(request)
    assert there.entry("key").outcome is Outcome.COMPLETED
    assert there.files(guest)["disk.info"] == b"as it was"
