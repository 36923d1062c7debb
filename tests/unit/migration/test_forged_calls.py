# SPDX-License-Identifier: Apache-2.0
"""Calls and casts that nobody should have sent: they open an entry at most, and remove nothing.

Sent through the bus as JSON, as any process on the message bus could.
"""

import typing as ty
import uuid

import msgspec
import pytest

from devstack import conductor
from devstack.conductor import LiveMigration
from rbd_worker.host import walk
from rbd_worker.model import Executor, GuestState, Migration, Outcome, Phase, Role
from rpcapi import errors as peer_errors
from rpcapi import payloads
from tests import world as worlds
from tests.fakes import Client
from tests.unit.conftest import MakeWorld
from tests.unit.host.entries import entry_of
from tests.world import Nova, World

EXECUTORS = ["libvirt", "nova"]


@pytest.fixture(params=EXECUTORS)
def world(make_world: MakeWorld, request: pytest.FixtureRequest) -> World:
    return make_world(request.param, hosts=3)


def _mallory(world: World) -> Client:
    return Client(world.bus, "mallory")


def _request(kind: type[ty.Any], world: World, guest: str, source: str, destination: str,
             **changes: ty.Any) -> ty.Any:
    fields: dict[str, ty.Any] = {
        "migration": str(uuid.uuid4()), "instance": guest, "source": source,
        "destination": destination, "executor": world.executor}
    if kind is not payloads.RollbackRequest:
        fields |= {"probe": payloads.PathProbe(), "root": walk.EMPTY_ROOT}
    return kind(**fields | changes)


def _snapshot(world: World, guest: str) -> list[dict[str, bytes]]:
    return [host.files(guest) for host in world.hosts]


def _assert_nothing_was_removed(world: World, guest: str,
                                before: list[dict[str, bytes]]) -> None:
    assert _snapshot(world, guest) == before
    assert [item for host in world.hosts for item in host.trashed()] == []
    assert all(host.libvirt.orders == [] for host in world.hosts)


def _sent(call: ty.Callable[[], ty.Any]) -> object:
    """The reply or the refusal."""
    try:
        return call()
    except (peer_errors.PeerRefused, peer_errors.PeerBusy, peer_errors.PeerUndecided) as e:
        return e


def test_prepare_for_a_guest_that_runs_here_removes_nothing(world: World) -> None:
    here, there, _ = world.hosts
    guest = world.boot(there)
    before = _snapshot(world, guest)
    request = _request(payloads.PrepareRequest, world, guest, here.name, there.name)
    _sent(lambda: _mallory(world).pre_live_migration(there.name, request))
    world.timeline.pass_time(7200)
    _assert_nothing_was_removed(world, guest, before)
    assert there.libvirt.states == {guest: GuestState.RUNNING}


def test_prepare_does_not_take_a_leftover_whose_holder_knows_nothing(world: World) -> None:
    """The named source has no such guest."""
    here, there, _ = world.hosts
    guest = str(uuid.uuid4())
    there.directory(guest).mkdir()
    (there.directory(guest) / "console.log").write_text("the only copy\n")
    before = _snapshot(world, guest)
    request = _request(payloads.PrepareRequest, world, guest, here.name, there.name)
    _sent(lambda: _mallory(world).pre_live_migration(there.name, request))
    world.timeline.pass_time(7200)
    _assert_nothing_was_removed(world, guest, before)
    assert there.entries() == []


def test_a_prepare_that_the_source_knows_nothing_of_leaves_no_trace(world: World) -> None:
    here, there, _ = world.hosts
    guest = world.boot(here)
    before = _snapshot(world, guest)
    request = _request(payloads.PrepareRequest, world, guest, here.name, there.name,
                       entries=(entry_of("disk.info", b"forged"),))
    answer = _sent(lambda: _mallory(world).pre_live_migration(there.name, request))
    assert isinstance(answer, peer_errors.PeerRefused)
    assert "does not have it open" in str(answer)
    assert there.entries() == []
    assert there.staged(guest) == []
    world.timeline.pass_time(7200)
    _assert_nothing_was_removed(world, guest, before)


def test_a_stranger_puts_no_file_beside_a_guest_that_runs(world: World) -> None:
    """Prepared by a stranger alone, the move would look as if it had ended long ago."""
    here, there, _ = world.hosts
    guest = world.boot(there)
    before = _snapshot(world, guest)
    request = _request(payloads.PrepareRequest, world, guest, here.name, there.name,
                       entries=(entry_of("console.log", b"forged\n"), entry_of("disk", b"x")))
    _sent(lambda: _mallory(world).pre_live_migration(there.name, request))
    there.cast(conductor.rollback_at_destination(world.order(guest, here, there)))
    world.timeline.pass_time(7200)
    assert _snapshot(world, guest) == before


def test_finish_for_a_guest_that_is_not_here_places_nothing(world: World) -> None:
    here, there, _ = world.hosts
    guest = world.boot(here)
    before = _snapshot(world, guest)
    request = _request(payloads.FinishRequest, world, guest, here.name, there.name)
    answer = _sent(lambda: _mallory(world).post_live_migration(there.name, request))
    assert isinstance(answer, peer_errors.PeerRefused)
    assert "does not have it open" in str(answer)
    world.timeline.pass_time(7200)
    _assert_nothing_was_removed(world, guest, before)


def test_an_early_finish_places_nothing_before_the_guest_is_there(
        make_world: MakeWorld) -> None:
    """The migration is open on both hosts, the guest still on the source."""
    world = make_world("nova")
    here, there = world.hosts
    guest = world.boot(here)
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    world.timeline.pass_time(1)
    request = _request(payloads.FinishRequest, world, guest, here.name, there.name,
                       migration=order.uuid)
    answer = _sent(lambda: _mallory(world).post_live_migration(there.name, request))
    assert isinstance(answer, peer_errors.PeerRefused)
    assert "node01 says that it is in live_migration" in str(answer)
    world.timeline.pass_time(600)
    assert not there.has_directory(guest)
    assert there.entry(order.uuid).is_open


def _as_of_1_1(monkeypatch: pytest.MonkeyPatch, *hosts: worlds.Host) -> None:
    """Workers that do not tell which list of files they have sent."""
    for host in hosts:
        monkeypatch.setattr(host.alive.testimonies, "_listed", lambda _migration: None)


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_a_forged_hand_over_ends_no_migration_before_the_source_does(
        make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """The guest has arrived and the source has not seen it yet, nor sent its last lines."""
    world = make_world("nova")
    here, there = world.hosts
    if version == "1.1":
        _as_of_1_1(monkeypatch, here)
    guest = world.boot(here)
    here.libvirt.on_event = lambda _instance: None
    order = world.migrate(guest, here, there, seconds=10)
    assert there.libvirt.states == {guest: GuestState.RUNNING}
    assert here.entry(order.uuid).phase is Phase.LIVE
    request = _request(payloads.FinishRequest, world, guest, here.name, there.name,
                       migration=order.uuid)
    answer = _sent(lambda: _mallory(world).post_live_migration(there.name, request))
    assert isinstance(answer, peer_errors.PeerRefused)
    world.timeline.pass_time(600)
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED
    assert there.entry(order.uuid).outcome is Outcome.COMPLETED
    history = b"".join(content for name, content in there.files(guest).items()
                       if name.startswith("console.log"))
    assert b"the guest has booted" in history


@pytest.mark.parametrize(("kind", "method", "phase"), [
    (payloads.PrepareRequest, "pre_live_migration", Phase.PRE),
    (payloads.FinishRequest, "post_live_migration", Phase.POST)])
def test_a_list_of_files_that_the_source_did_not_send_is_refused(
        world: World, kind: type[ty.Any], method: str, phase: Phase) -> None:
    """The phase is right: only the source's own word tells its list from another."""
    here, there, _ = world.hosts
    guest = world.boot(here)
    order = world.order(guest, here, there)
    migration = Migration(order.uuid, guest, Role.SOURCE, here.name, there.name,
                          Executor(world.executor))
    here.alive.journal.open(migration)
    here.alive.journal.record(migration, phase=phase)
    task = here.alive.coordinator.adopt(migration)
    true = _request(kind, world, guest, here.name, there.name, migration=order.uuid,
                    entries=(entry_of("disk.info", b"true"),))
    task.listed = payloads.fingerprint(true)
    for forged in (msgspec.structs.replace(true, entries=(entry_of("disk.info", b"lie"),)),
                   msgspec.structs.replace(true, entries=()),
                   msgspec.structs.replace(true, probe=payloads.PathProbe(inode=7)),
                   msgspec.structs.replace(true, root=msgspec.structs.replace(
                       true.root, mode=0o777))):
        answer = _sent(lambda f=forged: getattr(_mallory(world), method)(there.name, f))
        assert isinstance(answer, peer_errors.PeerRefused)
        assert "another list of files" in str(answer)
        assert there.entries() == []


def test_a_source_of_an_earlier_version_still_hands_over(
        world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there, _ = world.hosts
    _as_of_1_1(monkeypatch, here)
    guest = world.boot(here)
    order = world.migrate(guest, here, there)
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED
    assert {n: c for n, c in there.files(guest).items() if n in worlds.FILES} == worlds.FILES


def test_rollback_of_an_unknown_migration_does_nothing(world: World) -> None:
    here, there, _ = world.hosts
    guest = world.boot(there)
    before = _snapshot(world, guest)
    request = _request(payloads.RollbackRequest, world, guest, here.name, there.name)
    reply = _sent(lambda: _mallory(world).rollback_live_migration(there.name, request))
    assert reply == payloads.RollbackReply(done=True, reason="nothing was staged here")
    world.timeline.pass_time(7200)
    _assert_nothing_was_removed(world, guest, before)


def test_rollback_of_a_migration_that_runs_does_not_hinder_it(make_world: MakeWorld) -> None:
    world = make_world("libvirt")
    here, there = world.hosts
    guest = world.boot(here)
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    world.timeline.pass_time(1)
    assert there.libvirt.states == {guest: GuestState.INCOMING}
    request = _request(payloads.RollbackRequest, world, guest, here.name, there.name,
                       migration=order.uuid)
    reply = _sent(lambda: _mallory(world).rollback_live_migration(there.name, request))
    assert isinstance(reply, payloads.RollbackReply) and not reply.done
    assert there.has_directory(guest)
    world.timeline.pass_time(600)
    assert there.libvirt.states == {guest: GuestState.RUNNING}
    assert {n: c for n, c in there.files(guest).items() if n in worlds.FILES} == worlds.FILES
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED


def test_rollback_after_the_guest_arrived_keeps_it(world: World) -> None:
    here, there, _ = world.hosts
    guest = world.boot(here)
    order = world.migrate(guest, here, there)
    before = _snapshot(world, guest)
    request = _request(payloads.RollbackRequest, world, guest, here.name, there.name,
                       migration=order.uuid)
    _sent(lambda: _mallory(world).rollback_live_migration(there.name, request))
    world.timeline.pass_time(600)
    assert _snapshot(world, guest) == before
    assert there.entry(order.uuid).outcome is Outcome.COMPLETED


@pytest.mark.parametrize("kind", [payloads.PrepareRequest, payloads.FinishRequest,
                                  payloads.RollbackRequest], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("source", "destination"), [
    ("node01", "node03"), ("node02", "node02"), ("node02", "node01")])
def test_a_call_that_is_not_meant_for_this_host_is_refused(
        world: World, kind: type[ty.Any], source: str, destination: str) -> None:
    guest = world.boot(world.hosts[0])
    method = {payloads.PrepareRequest: "pre_live_migration",
              payloads.FinishRequest: "post_live_migration",
              payloads.RollbackRequest: "rollback_live_migration"}[kind]
    request = _request(kind, world, guest, source, destination)
    answer = _sent(lambda: getattr(_mallory(world), method)("node02", request))
    assert isinstance(answer, peer_errors.PeerRefused)
    assert world.host("node02").entries() == []


def test_a_migration_is_not_known_under_another_guests_name(world: World) -> None:
    here, there, _ = world.hosts
    guest, other = world.boot(here), world.boot(there)
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    world.timeline.pass_time(0.01)
    before = there.files(other)
    for kind, method in ((payloads.PrepareRequest, "pre_live_migration"),
                         (payloads.FinishRequest, "post_live_migration")):
        request = _request(kind, world, other, here.name, there.name, migration=order.uuid)
        answer = _sent(lambda m=method, r=request: getattr(_mallory(world), m)(there.name, r))
        assert isinstance(answer, peer_errors.PeerRefused)
        assert f"is known here as that of {guest}" in str(answer)
    assert there.files(other) == before


@pytest.mark.parametrize(("kind", "method", "phase"), [
    (payloads.PrepareRequest, "pre_live_migration", Phase.PRE),
    (payloads.FinishRequest, "post_live_migration", Phase.POST),
    (payloads.RollbackRequest, "rollback_live_migration", Phase.ROLLBACK)])
def test_a_host_that_is_not_the_source_takes_no_part_in_a_migration(
        world: World, kind: type[ty.Any], method: str, phase: Phase) -> None:
    """Whoever is root there has a worker say of itself that it is that far, and sent this list."""
    here, there, third = world.hosts
    guest = world.boot(here)
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    world.timeline.pass_time(1)
    assert there.entry(order.uuid).is_open
    lie = Migration(order.uuid, guest, Role.SOURCE, third.name, there.name,
                    Executor(world.executor))
    third.alive.journal.open(lie)
    third.alive.journal.record(lie, phase=phase)
    request = _request(kind, world, guest, third.name, there.name, migration=order.uuid, **(
        {} if phase is Phase.ROLLBACK else {"entries": (entry_of("planted", b"lie"),)}))
    if phase is not Phase.ROLLBACK:
        third.alive.coordinator.adopt(lie).listed = payloads.fingerprint(request)
    answer = _sent(lambda: getattr(_mallory(world), method)(there.name, request))
    assert isinstance(answer, peer_errors.PeerRefused)
    assert f"from {here.name} to {there.name}" in str(answer)
    assert "planted" not in there.files(guest)


def test_the_way_back_is_another_migration(make_world: MakeWorld) -> None:
    """A cast with the two hosts exchanged is none of Nova's: each of its orders has a new UUID."""
    world = make_world("libvirt")
    here, there = world.hosts
    guest = world.boot(here)
    order = world.migrate(guest, here, there)
    back = conductor.live_migration(LiveMigration(guest, there.name, here.name, uuid=order.uuid))
    there.hear(conductor.envelope(back | {"_unique_id": "another"}))
    world.timeline.pass_time(600)
    assert there.libvirt.states == {guest: GuestState.RUNNING}
    (refusal,) = there.alive.journal.refusals()
    assert f"is known here as that of {guest} from {here.name} to {there.name}" in refusal.reason


@pytest.mark.parametrize("path", ["console.log", "../../etc/shadow", "/etc/shadow", "keys"])
def test_files_are_read_only_within_an_open_migration(world: World, path: str) -> None:
    here = world.hosts[0]
    guest = world.boot(here)
    request = payloads.ChunkRequest(migration=str(uuid.uuid4()), instance=guest, path=path,
                                    offset=0)
    answer = _sent(lambda: _mallory(world).read_chunk(here.name, request))
    assert isinstance(answer, peer_errors.PeerRefused)


@pytest.mark.parametrize("path", ["../../../etc/shadow", "/etc/shadow", "keys", "absent", "."])
def test_an_open_migration_gives_its_own_files_only(world: World, path: str) -> None:
    here, there, _ = world.hosts
    there.restarts_after = None
    there.kill()
    guest = world.boot(here)
    order = world.order(guest, here, there)
    answers: list[object] = []
    request = payloads.ChunkRequest(migration=order.uuid, instance=guest, path=path, offset=0)
    world.timeline.after(2.5, lambda: answers.append(
        _sent(lambda: _mallory(world).read_chunk(here.name, request))))
    here.cast(conductor.live_migration(order))
    world.timeline.pass_time(10)
    assert isinstance(answers[0], peer_errors.PeerRefused)


def test_a_hint_to_look_again_wakes_only_what_is_open(world: World) -> None:
    here = world.hosts[0]
    guest = world.boot(here)
    reply = _mallory(world).look_again(here.name, payloads.LookRequest(
        migration=str(uuid.uuid4()), instance=guest))
    assert not reply.known


@pytest.mark.parametrize("make", [conductor.rollback_at_destination,
                                  conductor.post_at_destination, conductor.abort,
                                  conductor.force_complete, conductor.check_destination],
                         ids=lambda make: make.__name__)
def test_forged_casts_leave_a_guest_at_rest_alone(world: World, make: ty.Any) -> None:
    here, there, third = world.hosts
    guest = world.boot(here)
    before = _snapshot(world, guest)
    world.timeline.pass_time(10)
    for source, destination in ((here, there), (there, here), (third, here)):
        for host in world.hosts:
            host.cast(make(world.order(guest, source, destination)))
    world.timeline.pass_time(7200)
    _assert_nothing_was_removed(world, guest, before)
    assert here.libvirt.states == {guest: GuestState.RUNNING}


def test_a_forged_live_migration_cast_beside_nova_moves_and_removes_nothing(
        make_world: MakeWorld) -> None:
    world = make_world("nova")
    here, there = world.hosts
    guest = world.boot(here)
    before = _snapshot(world, guest)
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    world.timeline.pass_time(2 * 86400)
    _assert_nothing_was_removed(world, guest, before)
    assert here.entry(order.uuid).outcome is Outcome.FAILED
    assert there.staged(guest) == []


@pytest.mark.parametrize("at", ["node01", "node02"])
def test_a_forged_rollback_while_nova_prepares_costs_no_console_history(
        make_world: MakeWorld, at: str) -> None:
    """nova-compute goes on, and removes the source's directory at the end."""
    world = make_world("nova")
    here, there = world.hosts
    guest = world.boot(here)
    nova = Nova(world, world.order(guest, here, there))
    here.cast(conductor.live_migration(nova.order))
    there.directory(guest).mkdir()
    world.timeline.pass_time(5)
    world.host(at).cast(conductor.rollback_at_destination(nova.order))
    world.timeline.pass_time(20)
    nova.move()
    world.timeline.pass_time(600)
    assert not here.has_directory(guest)
    assert there.files(guest)["console.log.0"].decode().splitlines() == here.libvirt.said
    assert there.entry(nova.order.uuid).outcome is Outcome.COMPLETED


def test_a_rollback_after_which_novas_directory_stays_ends_the_migration_all_the_same(
        make_world: MakeWorld) -> None:
    world = make_world("nova", nova_cleanup_grace=60)
    here, there = world.hosts
    guest = world.boot(here)
    here.cast(conductor.live_migration(order := world.order(guest, here, there)))
    there.directory(guest).mkdir()
    world.timeline.pass_time(5)
    there.cast(conductor.rollback_at_destination(order))
    world.timeline.pass_time(50)
    assert here.entry(order.uuid).is_open
    world.timeline.pass_time(60)
    for host in world.hosts:
        assert host.entry(order.uuid).outcome is Outcome.FAILED
