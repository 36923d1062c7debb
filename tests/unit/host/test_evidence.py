# SPDX-License-Identifier: Apache-2.0
"""The witnesses: what each says, in which words, and that nobody is believed without asking."""

import typing as ty

import pytest

from rbd_worker import errors
from rbd_worker.host import evidence
from rbd_worker.model import (
    Evidence,
    Executor,
    GuestState,
    Migration,
    Outcome,
    Phase,
    RbdImage,
    Role,
    Verdict,
)
from tests.unit.conftest import MakeWorld
from tests.world import World

#: States of which a holder's word counts: it has the guest, and the guest stays.
HELD = {GuestState.RUNNING, GuestState.PAUSED, GuestState.SHUTOFF}


GUEST = "a05482ec-d71a-48c7-bf99-94d829b20aef"


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """A guest on the second host, and its leftover on the first."""
    world = make_world("libvirt")
    world.boot(world.hosts[1], GUEST)
    world.hosts[0].directory(GUEST).mkdir()
    return world


def _ask(world: World, asking_for: str = "") -> Evidence:
    return world.hosts[0].alive.ports.witnesses.ask(GUEST, "node02", asking_for)


def _verdict(evidence: Evidence, witness: str) -> Verdict:
    """The worst of what a witness says."""
    verdicts = [fact.verdict for fact in evidence.facts if fact.witness == witness]
    return next((v for v in verdicts if v is not Verdict.YES), Verdict.YES)


def test_a_leftover_of_a_guest_that_runs_elsewhere_is_proven(world: World) -> None:
    found = _ask(world)
    assert found.holds
    assert found.instance == GUEST
    assert {fact.witness for fact in found.facts} == Evidence.REQUIRED


def test_asking_leaves_no_trace(world: World) -> None:
    before = sorted(world.root.rglob("*"))
    _ask(world)
    after = set(world.root.rglob("*")) - set(before)
    assert {path.name for path in after} <= {".rbd-worker", "nonce"}


@pytest.mark.parametrize("state", sorted(GuestState))
def test_any_domain_here_keeps_the_directory(world: World, state: GuestState) -> None:
    world.hosts[0].libvirt.states[GUEST] = state
    verdict = _verdict(_ask(world), "libvirt here")
    assert (verdict is Verdict.YES) == (state is GuestState.ABSENT)


@pytest.mark.parametrize("state", sorted(GuestState))
def test_the_holder_must_have_the_guest_and_keep_it(world: World, state: GuestState) -> None:
    world.hosts[1].libvirt.states[GUEST] = state
    found = _ask(world)
    assert (_verdict(found, "holder") is Verdict.YES) == (state in HELD)
    assert found.holds == (state in HELD)


def test_a_job_on_the_holders_domain_keeps_the_directory(world: World) -> None:
    world.hosts[1].libvirt.jobs.add(GUEST)
    assert _verdict(_ask(world), "holder") is Verdict.NO


def test_a_holder_that_cannot_ask_its_libvirt_proves_nothing(world: World) -> None:
    world.hosts[1].libvirt.is_down = True
    assert _verdict(_ask(world), "holder") is Verdict.UNKNOWN


def test_a_holder_that_does_not_answer_proves_nothing(world: World) -> None:
    world.hosts[1].kill()
    found = _ask(world)
    assert _verdict(found, "holder") is Verdict.UNKNOWN
    assert not found.holds
    assert "watchers was not heard" in found.doubt and "path was not heard" in found.doubt


@pytest.mark.parametrize("phase", sorted(Phase))
@pytest.mark.parametrize("role", sorted(Role))
def test_an_open_migration_on_the_holder_keeps_the_directory(world: World, phase: Phase,
                                                             role: Role) -> None:
    migration = Migration("m", GUEST, role, "node02", "node03", Executor.LIBVIRT)
    journal = world.hosts[1].alive.journal
    journal.open(migration)
    journal.record(migration, phase=phase)
    assert _verdict(_ask(world), "holder") is Verdict.NO


@pytest.mark.parametrize(("phase", "verdict"), [
    (Phase.PRE, Verdict.YES), (Phase.LIVE, Verdict.NO), (Phase.POST, Verdict.NO),
    (Phase.ROLLBACK, Verdict.YES)])
def test_the_migration_that_is_asked_for_counts_only_while_it_orders_something(
        world: World, phase: Phase, verdict: Verdict) -> None:
    """In the other phases the holder waits for the very answer of the asker."""
    migration = Migration("m", GUEST, Role.SOURCE, "node02", "node01", Executor.LIBVIRT)
    journal = world.hosts[1].alive.journal
    journal.open(migration)
    journal.record(migration, phase=phase)
    assert _verdict(_ask(world, "m"), "holder") is verdict


def test_a_closed_migration_on_the_holder_does_not_count(world: World) -> None:
    migration = Migration("m", GUEST, Role.DESTINATION, "node01", "node02", Executor.LIBVIRT)
    journal = world.hosts[1].alive.journal
    journal.open(migration)
    journal.close_entry(migration, Outcome.COMPLETED)
    assert _ask(world).holds


@pytest.mark.parametrize(("state", "watchers", "verdict"), [
    (GuestState.RUNNING, {"10.0.0.2"}, Verdict.YES),
    (GuestState.RUNNING, {"10.0.0.2", "10.9.9.9"}, Verdict.YES),
    (GuestState.RUNNING, set(), Verdict.NO),
    (GuestState.RUNNING, {"10.9.9.9"}, Verdict.NO),
    (GuestState.RUNNING, {"10.0.0.1"}, Verdict.NO),
    (GuestState.RUNNING, {"10.0.0.1", "10.0.0.2"}, Verdict.NO),
    (GuestState.PAUSED, {"10.0.0.2"}, Verdict.YES),
    (GuestState.PAUSED, set(), Verdict.NO),
    (GuestState.SHUTOFF, set(), Verdict.YES),
    (GuestState.SHUTOFF, {"10.9.9.9"}, Verdict.YES),
    (GuestState.SHUTOFF, {"10.0.0.1"}, Verdict.NO),
])
def test_who_watches_the_image(world: World, state: GuestState, watchers: set[str],
                               verdict: Verdict) -> None:
    here, there = world.hosts
    there.libvirt.states[GUEST] = state
    here.ceph.watchers = lambda image: frozenset(watchers)  # type: ignore[method-assign]
    found = _ask(world)
    assert _verdict(found, "watchers") is verdict
    assert found.holds == (verdict is Verdict.YES)


def test_each_image_that_the_holder_names_is_looked_at(world: World) -> None:
    world.hosts[1].libvirt.names[GUEST] = tuple(RbdImage("vms", name) for name in "abc")
    found = _ask(world)
    sentences = [f.sentence for f in found.facts if f.witness == "watchers"]
    assert [sentence.split()[0] for sentence in sentences] == ["vms/a", "vms/b", "vms/c"]


def test_no_image_named_is_no_proof(world: World) -> None:
    world.hosts[1].libvirt.images = lambda instance: ()  # type: ignore[method-assign]
    assert _verdict(_ask(world), "watchers") is Verdict.UNKNOWN


def test_a_ceph_that_cannot_be_asked_is_no_proof(world: World) -> None:
    world.hosts[0].ceph.is_down = True
    assert _verdict(_ask(world), "watchers") is Verdict.UNKNOWN


def test_a_ceph_that_the_holder_cannot_ask_is_no_proof(world: World) -> None:
    world.hosts[1].ceph.is_down = True
    assert not _ask(world).holds


@pytest.mark.parametrize("side", [0, 1])
def test_a_client_without_a_known_address_is_no_proof(world: World, side: int) -> None:
    world.hosts[side].ceph.own = frozenset()
    assert _verdict(_ask(world), "watchers") is Verdict.UNKNOWN


def test_hosts_behind_one_address_cannot_be_told_apart(world: World) -> None:
    world.hosts[1].ceph.own = world.hosts[0].ceph.own
    assert _verdict(_ask(world), "watchers") is Verdict.UNKNOWN


def test_the_verdict_is_of_now_and_nothing_is_remembered(world: World) -> None:
    assert _ask(world).holds
    world.hosts[0].libvirt.states[GUEST] = GuestState.SHUTOFF
    assert not _ask(world).holds
    del world.hosts[0].libvirt.states[GUEST]
    assert _ask(world).holds


class Cluster:
    """The guest's own disk exists or not; whatever else is named is watched by the holder."""

    def __init__(self, has_own_disk: bool) -> None:
        self._has_own_disk = has_own_disk

    def own_addresses(self) -> frozenset[str]:
        return frozenset({"10.0.0.1"})

    def watchers(self, image: RbdImage) -> frozenset[str]:
        if image.name == f"{GUEST}_disk" and not self._has_own_disk:
            raise errors.ImageMissing(what=image, reason="not found", conf="c", user="nova")
        return frozenset({"10.0.0.2"})


@pytest.mark.parametrize(("has_own_disk", "named", "holds"), [
    (True, ("vms", f"{GUEST}_disk"), True),
    (True, ("volumes", "volume-1"), False),
    (True, ("vms", "5fc717eb-8add-4f06-a2a0-5126081deb02_disk"), False),
    (False, ("volumes", "volume-1"), True)])
def test_a_holder_has_to_name_the_guests_own_disk_where_there_is_one(
        world: World, has_own_disk: bool, named: tuple[str, str], holds: bool) -> None:
    """Another guest's images are watched from the holder as well as anybody could wish."""
    here, there = world.hosts
    there.libvirt.names[GUEST] = (RbdImage(*named),)
    ports = here.alive.ports
    witnesses = evidence.Witnesses(
        ports.hypervisor, ty.cast(ty.Any, Cluster(has_own_disk)), ports.directories, ports.peers,
        own_pool="vms")
    found = witnesses.ask(GUEST, "node02")
    assert found.holds is holds
    assert holds or f"does not name vms/{GUEST}_disk" in found.doubt
