# SPDX-License-Identifier: Apache-2.0
"""Each witness alone keeps a directory where it is, and the operator reads why."""

import typing as ty

import pytest

from rbd_worker.model import GuestState, Outcome, RbdImage
from tests import world as worlds
from tests.fakes import Call
from tests.unit.conftest import MakeWorld
from tests.world import World


def _guest_is_defined_here(world: World, guest: str) -> None:
    world.hosts[0].libvirt.states[guest] = GuestState.SHUTOFF


def _libvirt_here_is_down(world: World, guest: str) -> None:
    world.hosts[0].libvirt.is_down = True


def _a_job_runs_there(world: World, guest: str) -> None:
    world.hosts[1].libvirt.jobs.add(guest)


def _libvirt_there_is_down(world: World, guest: str) -> None:
    world.hosts[1].libvirt.is_down = True


def _worker_there_is_away(world: World, guest: str) -> None:
    world.hosts[1].restarts_after = None
    world.hosts[1].kill()


def _image_is_watched_from_here(world: World, guest: str) -> None:
    world.hosts[0].ceph.extra[f"vms/{guest}_disk"] = frozenset({"10.0.0.1"})


def _nobody_watches_the_image(world: World, guest: str) -> None:
    world.hosts[0].ceph.watchers = lambda image: frozenset()  # type: ignore[method-assign]


def _ceph_is_down(world: World, guest: str) -> None:
    world.hosts[0].ceph.is_down = True


def _both_hosts_have_one_address(world: World, guest: str) -> None:
    world.hosts[1].ceph.own = world.hosts[0].ceph.own


#: What happens to the world once the guest has moved; words that the reason must have.
DOUBTS: dict[str, tuple[ty.Callable[[World, str], None], str]] = {
    "libvirt here: defined": (_guest_is_defined_here, "libvirt on this host says shutoff"),
    "libvirt here: down": (_libvirt_here_is_down, "qemu:///system cannot be asked"),
    "holder: a job": (_a_job_runs_there, "a job runs on the guest on node02"),
    "holder: libvirt down": (_libvirt_there_is_down, "node02 says unknown"),
    "holder: no worker": (_worker_there_is_away, "node02 does not answer"),
    "watchers: from here": (_image_is_watched_from_here, "is watched from this host"),
    "watchers: nobody": (_nobody_watches_the_image, "is not watched from the host that runs"),
    "watchers: Ceph down": (_ceph_is_down, "Ceph cannot be asked"),
    "watchers: one address": (_both_hosts_have_one_address, "both hosts reach Ceph as"),
}


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world("libvirt")


@pytest.mark.parametrize("doubt", sorted(DOUBTS))
def test_one_witness_that_does_not_agree_keeps_the_directory(world: World, doubt: str) -> None:
    here, there = world.hosts
    guest = world.boot(here)
    arise, words = DOUBTS[doubt]

    def after_the_handover(call: Call) -> None:
        if call.method == "post_live_migration":
            arise(world, guest)
    world.bus.on_reply = after_the_handover
    order = world.migrate(guest, here, there)
    entry = here.entry(order.uuid)
    assert entry.is_open and entry.outcome is Outcome.UNRESOLVED
    assert words in entry.reason
    assert set(here.files(guest)) == {"console.log", *worlds.FILES}
    assert here.trashed() == []


def test_when_the_doubt_is_gone_the_directory_goes(world: World) -> None:
    here, there = world.hosts
    guest = world.boot(here)
    here.ceph.extra[f"vms/{guest}_disk"] = frozenset({"10.0.0.1"})
    order = world.migrate(guest, here, there)
    assert here.entry(order.uuid).outcome is Outcome.UNRESOLVED
    assert here.has_directory(guest)
    here.ceph.extra.clear()
    world.timeline.pass_time(600)
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED
    assert not here.has_directory(guest)


def test_a_watcher_that_lets_go_after_a_moment_is_waited_for(world: World) -> None:
    """The source's QEMU holds its images a little longer than the guest is there."""
    here, there = world.hosts
    guest = world.boot(here)
    here.ceph.extra[f"vms/{guest}_disk"] = frozenset({"10.0.0.1"})
    world.timeline.after(3.5, here.ceph.extra.clear)
    order = world.migrate(guest, here, there, seconds=20)
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED
    assert not any(r.state == "unresolved" for r in here.alive.journal.records(
        here.entry(order.uuid).migration))


def test_a_guest_that_has_moved_on_leaves_its_old_directory_to_the_audit(
        make_world: MakeWorld) -> None:
    """The destination can never be a witness again; who has the guest now is another question."""
    world = make_world("libvirt", hosts=3)
    here, there, third = world.hosts
    guest = world.boot(here)
    here.ceph.extra[f"vms/{guest}_disk"] = frozenset({"10.0.0.1"})
    order = world.migrate(guest, here, there)
    assert here.entry(order.uuid).outcome is Outcome.UNRESOLVED
    world.migrate(guest, there, third)
    assert here.entry(order.uuid).outcome is Outcome.COMPLETED
    assert set(here.files(guest)) == {"console.log", *worlds.FILES}
    here.ceph.extra.clear()
    world.timeline.pass_time(7200)
    (finding,) = here.alive.audit.run(True).findings
    assert (finding.verdict, finding.holder) == ("trashed", "node03")


def test_every_image_of_the_guest_counts_volumes_too(world: World) -> None:
    here, there = world.hosts
    guest = world.boot(here)
    there.libvirt.names[guest] = (RbdImage("vms", f"{guest}_disk"),
                                  RbdImage("volumes", "volume-1"))
    here.ceph.extra["volumes/volume-1"] = frozenset({"10.0.0.1"})
    order = world.migrate(guest, here, there)
    assert "volumes/volume-1 is watched from this host" in here.entry(order.uuid).reason
    assert here.has_directory(guest)


def test_a_guest_without_any_image_proves_nothing(world: World) -> None:
    here, there = world.hosts
    guest = world.boot(here)
    there.libvirt.images = lambda instance: ()  # type: ignore[method-assign]
    order = world.migrate(guest, here, there)
    assert "names no RBD image" in here.entry(order.uuid).reason
    assert here.has_directory(guest)


def test_a_leftover_that_is_proven_makes_room(world: World) -> None:
    here, there = world.hosts
    guest = world.boot(here)
    there.directory(guest).mkdir()
    (there.directory(guest) / "console.log").write_text("from long ago\n")
    order = world.migrate(guest, here, there)
    assert there.entry(order.uuid).outcome is Outcome.COMPLETED
    (item,) = there.trashed()
    kept = worlds.files_below(there.path / ".rbd-worker/trash" / item.id / "directory")
    assert kept == {"console.log": b"from long ago\n"}


def test_a_leftover_in_doubt_stays_and_the_migration_fails(world: World) -> None:
    here, there = world.hosts
    guest = world.boot(here)
    there.directory(guest).mkdir()
    (there.directory(guest) / "console.log").write_text("from long ago\n")
    there.ceph.extra[f"vms/{guest}_disk"] = frozenset({"10.0.0.2"})
    order = world.migrate(guest, here, there)
    for host in world.hosts:
        assert host.entry(order.uuid).outcome is Outcome.FAILED
        assert "is watched from this host" in host.entry(order.uuid).reason
    assert "already stands on node02 and stays" in here.entry(order.uuid).reason
    assert there.files(guest) == {"console.log": b"from long ago\n"}
    assert here.libvirt.states == {guest: GuestState.RUNNING}


def test_what_was_made_there_stays_too_while_a_rollback_is_in_doubt(world: World) -> None:
    here, there = world.hosts
    guest = world.boot(here)
    there.ceph.extra[f"vms/{guest}_disk"] = frozenset({"10.0.0.2"})
    order = world.migrate(guest, here, there, how="fail")
    assert here.entry(order.uuid).outcome is Outcome.FAILED
    entry = there.entry(order.uuid)
    assert entry.is_open and entry.outcome is Outcome.UNRESOLVED
    assert there.has_directory(guest)
    there.ceph.extra.clear()
    world.timeline.pass_time(600)
    assert there.entry(order.uuid).outcome is Outcome.FAILED
    assert not there.has_directory(guest)


def _failed_and_left_over(world: World, seconds: float) -> str:
    """A guest whose move failed, and whose directory there stays as an image is watched there."""
    here, there = world.hosts
    guest = world.boot(here)
    there.ceph.extra[f"vms/{guest}_disk"] = frozenset({"10.0.0.2"})
    world.migrate(guest, here, there, how="fail", seconds=seconds)
    return guest


def test_the_next_order_fails_soon_and_says_what_the_last_one_left_and_why(world: World) -> None:
    here, there = world.hosts
    guest = _failed_and_left_over(world, 600)
    (stuck,) = there.entries()
    order = world.migrate(guest, here, there, seconds=10)
    entry = here.entry(order.uuid)
    assert entry.outcome is Outcome.FAILED
    for part in (f"failed migration {stuck.migration.key}", "on node02 cannot be undone",
                 "is watched from this host", "migrate again"):
        assert part in entry.reason
    assert here.libvirt.states == {guest: GuestState.RUNNING}


def test_the_next_order_has_that_undone_first_where_it_can_be_by_now(world: World) -> None:
    here, there = world.hosts
    guest = _failed_and_left_over(world, 3600)
    there.ceph.extra.clear()
    order = world.migrate(guest, here, there, seconds=10)
    assert there.entry(order.uuid).outcome is Outcome.COMPLETED
    assert {entry.outcome for entry in there.entries()} == {Outcome.FAILED, Outcome.COMPLETED}


def test_it_is_undone_also_where_the_guest_comes_from_another_host_by_now(
        make_world: MakeWorld) -> None:
    world = make_world("libvirt", hosts=3)
    here, there, third = world.hosts
    guest = world.boot(here)
    there.ceph.extra[f"vms/{guest}_disk"] = frozenset({"10.0.0.2"})
    world.migrate(guest, here, there, how="fail")
    there.ceph.extra.clear()
    world.migrate(guest, here, third)
    order = world.migrate(guest, third, there)
    assert there.entry(order.uuid).outcome is Outcome.COMPLETED


def test_the_next_order_waits_for_ceph_to_forget_a_destination_that_has_just_ended(
        world: World) -> None:
    here, there = world.hosts
    guest = _failed_and_left_over(world, 5)
    world.timeline.after(15, there.ceph.extra.clear)
    order = world.migrate(guest, here, there)
    assert there.entry(order.uuid).outcome is Outcome.COMPLETED
