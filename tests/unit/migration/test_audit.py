# SPDX-License-Identifier: Apache-2.0
"""The audit: leftovers of earlier times leave by proof, given twice; everything else stays."""

import typing as ty
import uuid

import pytest

from devstack import conductor
from rbd_worker.migration import audit as audits
from rbd_worker.model import GuestState
from rpcapi import payloads
from tests import world as worlds
from tests.unit.conftest import MakeWorld
from tests.world import Host, World

GUEST = "a05482ec-d71a-48c7-bf99-94d829b20aef"
OTHER = "b05482ec-d71a-48c7-bf99-94d829b20aef"


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """A guest on the second host, and its old leftover on the first."""
    world = make_world("nova", hosts=3, audit_min_age=3600, audit_pause=30)
    here, there, _ = world.hosts
    world.boot(there, GUEST)
    _leave(here, GUEST)
    world.timeline.pass_time(4000)
    return world


def _leave(host: Host, guest: str) -> None:
    host.directory(guest).mkdir()
    (host.directory(guest) / "console.log").write_text("from long ago\n")


def _audit(world: World, *, act: bool = True) -> dict[str, payloads.Finding]:
    report = world.hosts[0].alive.audit.run(act)
    return {finding.instance: finding for finding in report.findings}


def _meanwhile(world: World, seconds: float, action: ty.Callable[[], object]) -> None:
    world.timeline.after(seconds, lambda: ty.cast(None, action()))


def _assert_kept(world: World, words: str) -> None:
    finding = _audit(world)[GUEST]
    assert finding.verdict == "kept"
    assert words in finding.reason
    assert world.hosts[0].files(GUEST) == {"console.log": b"from long ago\n"}
    assert world.hosts[0].trashed() == []


def test_a_leftover_whose_guest_runs_elsewhere_goes_to_the_trash(world: World) -> None:
    finding = _audit(world)[GUEST]
    assert (finding.verdict, finding.holder) == ("trashed", "node02")
    (item,) = world.hosts[0].trashed()
    assert item.id == finding.reason
    assert not world.hosts[0].has_directory(GUEST)
    assert set(world.hosts[1].files(GUEST)) == {"console.log", *worlds.FILES}


def test_it_is_proven_twice_with_a_pause_between(world: World) -> None:
    begun = world.timeline.now
    _audit(world)
    assert world.timeline.now - begun >= 30


def test_without_leave_to_act_it_only_tells(world: World) -> None:
    finding = _audit(world, act=False)[GUEST]
    assert (finding.verdict, finding.holder) == ("leftover", "node02")
    assert world.hosts[0].has_directory(GUEST)


def test_an_operator_can_forbid_all_acting(make_world: MakeWorld) -> None:
    world = make_world("nova", audit_acts=False)
    here, there = world.hosts
    world.boot(there, GUEST)
    _leave(here, GUEST)
    world.timeline.pass_time(4000)
    assert _audit(world)[GUEST].verdict == "leftover"
    assert here.has_directory(GUEST)


def test_a_young_directory_is_left_alone(make_world: MakeWorld) -> None:
    world = make_world("nova", audit_min_age=3600)
    here, there = world.hosts
    world.boot(there, GUEST)
    _leave(here, GUEST)
    world.timeline.pass_time(3000)
    _assert_kept(world, "it was changed")


def test_a_guest_that_nobody_has_keeps_its_directory(world: World) -> None:
    del world.hosts[1].libvirt.states[GUEST]
    _assert_kept(world, "no worker says")


def test_a_guest_that_two_hosts_have_keeps_every_directory(world: World) -> None:
    world.hosts[2].libvirt.states[GUEST] = GuestState.SHUTOFF
    _assert_kept(world, "node02 and node03 both have the guest")


def test_a_guest_that_is_shut_off_elsewhere_keeps_its_directory(world: World) -> None:
    """A cold migration looks like that, and a resize that may be reverted."""
    world.hosts[1].libvirt.states[GUEST] = GuestState.SHUTOFF
    _assert_kept(world, "only a guest that runs elsewhere")


def test_a_holder_without_a_worker_keeps_the_directory(world: World) -> None:
    world.hosts[1].restarts_after = None
    world.hosts[1].kill()
    _assert_kept(world, "no worker says")


def test_the_directories_of_guests_that_are_here_are_no_findings(world: World) -> None:
    here = world.hosts[0]
    for number, state in enumerate(GuestState):
        if state is not GuestState.ABSENT:
            guest = f"{number:08x}-d71a-48c7-bf99-94d829b20aef"
            _leave(here, guest)
            here.libvirt.states[guest] = state
    world.timeline.pass_time(4000)
    assert set(_audit(world)) == {GUEST}


def test_a_libvirt_that_cannot_be_asked_ends_the_audit_with_nothing_removed(
        world: World) -> None:
    world.hosts[0].libvirt.is_down = True
    with pytest.raises(Exception, match="cannot be asked"):
        _audit(world)
    assert world.hosts[0].has_directory(GUEST)


@pytest.mark.parametrize("name", ["_base", "locks", f"{GUEST}_resize", f"{OTHER}_del",
                                  OTHER.upper(), ".rbd-worker"])
def test_other_names_are_never_looked_at(world: World, name: str) -> None:
    (world.hosts[0].path / name).mkdir(exist_ok=True)
    world.timeline.pass_time(4000)
    assert set(_audit(world)) == {GUEST}
    assert (world.hosts[0].path / name).is_dir()


@pytest.mark.parametrize("change", ["guest comes here", "guest stops there", "a job begins",
                                    "directory is used", "directory is another",
                                    "a watcher appears", "a migration begins"])
def test_what_changes_between_the_two_proofs_keeps_the_directory(world: World,
                                                                 change: str) -> None:
    here, there, third = world.hosts

    def happen() -> None:
        if change == "guest comes here":
            here.libvirt.states[GUEST] = GuestState.INCOMING
        elif change == "guest stops there":
            there.libvirt.states[GUEST] = GuestState.SHUTOFF
        elif change == "a job begins":
            there.libvirt.jobs.add(GUEST)
        elif change == "directory is used":
            (here.directory(GUEST) / "disk.config").write_text("new\n")
        elif change == "directory is another":
            here.directory(GUEST).rename(here.path / "aside")
            _leave(here, GUEST)
        elif change == "a watcher appears":
            here.ceph.extra[f"vms/{GUEST}_disk"] = frozenset({"10.0.0.1"})
        else:
            there.cast(conductor.live_migration(world.order(GUEST, there, third)))
    _meanwhile(world, 20, happen)
    finding = _audit(world)[GUEST]
    assert finding.verdict == "kept"
    assert finding.reason
    assert here.has_directory(GUEST)
    assert here.trashed() == []


def test_an_open_migration_here_is_left_to_its_plan(world: World) -> None:
    here, there, _ = world.hosts
    there.cast(conductor.live_migration(world.order(GUEST, there, here)))
    world.timeline.pass_time(10)
    _assert_kept(world, "a migration of it is open here")


def test_all_directories_are_asked_about_in_one_question(world: World) -> None:
    here, there, _ = world.hosts
    guests = [f"{number:08x}-d71a-48c7-bf99-94d829b20aef" for number in range(120)]
    for guest in guests:
        _leave(here, guest)
        there.libvirt.states[guest] = GuestState.RUNNING
    world.timeline.pass_time(4000)
    before = len(world.bus.calls)
    findings = _audit(world, act=False)
    assert {f.verdict for f in findings.values()} == {"leftover"}
    assert len(findings) == len(guests) + 1
    calls = [c.method for c in world.bus.calls[before:] if c.caller == "node01"]
    assert calls.count("who_holds") == len(world.hosts), "one message, to all"
    assert calls.count("testify") == 3, "121 instances, 50 in a call"


def test_no_directory_is_left_out_however_many_there_are(make_world: MakeWorld) -> None:
    world = make_world("nova", audit_min_age=3600)
    here, there = world.hosts
    left = [str(uuid.UUID(int=number << 100 | 4 << 76 | 8 << 60)) for number in range(25_000)]
    for guest in left:
        here.directory(guest).mkdir()
    found = [left[number] for number in (0, 9_999, 10_000, 19_999, 20_000, 24_999)]
    for guest in found:
        world.boot(there, guest)
    world.timeline.pass_time(4000)
    findings = _audit(world, act=False)
    assert findings.keys() == set(left)
    assert sorted(i for i, f in findings.items() if f.verdict == "leftover") == found


def test_a_forged_answer_makes_nobody_a_holder(world: World) -> None:
    """An answer only says whom to ask; and one to no question of now is dropped."""
    here, _, third = world.hosts
    del world.hosts[1].libvirt.states[GUEST]
    here.alive.audit.holding(payloads.HoldingReport(host=third.name, token="old",
                                                    instances=(GUEST,)))
    _assert_kept(world, "no worker says")


def test_a_worker_does_not_answer_its_own_question(world: World) -> None:
    here = world.hosts[0]
    before = len(world.bus.calls)
    here.alive.audit.who_holds(payloads.WhoHoldsRequest(
        asker=here.name, token="t", instances=(GUEST,)))
    assert len(world.bus.calls) == before


def test_the_wait_for_holders_ends_early_where_every_suspect_has_one(world: World) -> None:
    begun = world.timeline.now
    assert _audit(world, act=False)[GUEST].verdict == "leftover"
    assert world.timeline.now - begun < audits.ANSWER_SECONDS / 2


def test_a_guest_that_nobody_has_is_waited_for_to_the_end(world: World) -> None:
    _leave(world.hosts[0], OTHER)
    world.timeline.pass_time(4000)
    begun = world.timeline.now
    findings = _audit(world, act=False)
    assert world.timeline.now - begun >= audits.ANSWER_SECONDS - 0.001
    assert (findings[GUEST].verdict, findings[OTHER].verdict) == ("leftover", "kept")
