# SPDX-License-Identifier: Apache-2.0
"""A guest moves, and Ceph says who watches its disk, look by look."""

import dataclasses

import pytest
from prometheus_client import CollectorRegistry

from rbd_worker import errors
from rbd_worker.insight import overlap
from rbd_worker.insight.families import Families
from rbd_worker.model import Executor, Migration, Outcome, Phase, RbdImage, Role

HERE, THERE, MIRROR = "10.0.0.1", "10.0.0.2", "10.0.0.9"
MOVE = Migration("m-1", "instance", Role.SOURCE, "node01", "node02", Executor.LIBVIRT)


class Scene:
    """One host, its Ceph and its clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.watching: set[str] = {HERE}
        self.their_addresses: set[str] = set()
        self.images = (RbdImage("vms", "instance_disk"),)
        self.is_down = False
        self.looks = 0
        self.registry = CollectorRegistry()
        self.overlap = overlap.Overlap(Families(self.registry), overlap.Sight(
            images=lambda instance: self.images, watchers=self._watchers,
            own=lambda: frozenset({HERE}), theirs=lambda _: frozenset(self.their_addresses)),
            clock=lambda: self.now)

    def _watchers(self, image: RbdImage) -> frozenset[str]:
        self.looks += 1
        if self.is_down:
            raise errors.CephUnavailable(what="an image", reason="it is down", conf="ceph.conf",
                                         user="nova")
        return frozenset(self.watching)

    def begin(self, move: Migration = MOVE) -> None:
        self.overlap.recorded(move, (), Phase.LIVE, self.now)

    def settle(self, phase: Phase = Phase.POST) -> None:
        self.overlap.recorded(MOVE, (), phase, self.now)

    def see(self, *watching: str, looks: int = 1) -> None:
        """Look at those that watch, a second after the last look."""
        self.watching = set(watching)
        for _ in range(looks):
            self.overlap.look()
            self.now += overlap.LOOK_SECONDS

    @property
    def measured(self) -> tuple[float, float]:
        """How many guests, and their seconds together."""
        name = "rbd_worker_watcher_overlap_seconds"
        return (self.registry.get_sample_value(f"{name}_count") or 0.0,
                self.registry.get_sample_value(f"{name}_sum") or 0.0)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_the_time_counts_from_the_first_to_the_last_look_at_both(scene: Scene) -> None:
    scene.begin()
    scene.see(HERE)
    scene.their_addresses = {THERE}
    scene.see(HERE, THERE, looks=5)
    scene.settle()
    scene.see(HERE, THERE, looks=2)
    assert scene.measured == (0, 0)
    scene.see(THERE)
    assert scene.measured == (1, 6)
    before = scene.looks
    scene.see(THERE)
    assert scene.looks == before, "it is over"


def test_a_third_one_that_watches_is_no_overlap(scene: Scene) -> None:
    scene.begin()
    scene.see(HERE, MIRROR, looks=3)
    scene.their_addresses = {THERE}
    scene.see(HERE, MIRROR, looks=3)
    scene.settle(Phase.ROLLBACK)
    scene.see(HERE, MIRROR)
    assert scene.measured == (0, 0)


def test_a_watch_that_stays_is_followed_for_a_while_and_counted_as_it_is(scene: Scene) -> None:
    scene.begin()
    scene.their_addresses = {THERE}
    scene.settle()
    scene.see(HERE, THERE, looks=int(overlap.TAIL_SECONDS) + 10)
    count, seconds = scene.measured
    assert count == 1
    assert seconds == pytest.approx(overlap.TAIL_SECONDS, abs=2)


def test_a_ceph_that_is_away_ends_no_measurement_and_keeps_none_for_ever(scene: Scene) -> None:
    scene.begin()
    scene.their_addresses = {THERE}
    scene.see(HERE, THERE)
    scene.is_down = True
    scene.see(HERE, THERE, looks=3)
    scene.is_down = False
    scene.see(HERE, THERE)
    scene.is_down = True
    scene.settle()
    scene.see(looks=int(overlap.TAIL_SECONDS) + 10)
    assert scene.measured == (1, 4)


def test_only_so_many_guests_are_looked_at(scene: Scene) -> None:
    for number in range(overlap.MAX_WATCHED + 5):
        scene.begin(dataclasses.replace(MOVE, key=f"m-{number}"))
    scene.see(HERE)
    assert scene.looks == overlap.MAX_WATCHED


def test_beside_nova_a_guest_is_looked_at_from_when_it_moves(scene: Scene) -> None:
    """Nova may hold a migration back for hours after its cast."""
    held = dataclasses.replace(MOVE, executor=Executor.NOVA)
    scene.begin(held)
    scene.see(HERE)
    assert scene.looks == 0
    scene.overlap.recorded(held, (("guest_began_to_move", "note", {}),), None, scene.now)
    scene.see(HERE)
    assert scene.looks == 1


def test_an_unresolved_one_is_not_looked_at_for_days(scene: Scene) -> None:
    scene.begin()
    scene.see(HERE)
    scene.overlap.marked(MOVE, Outcome.UNRESOLVED, "the peer is away")
    scene.see(HERE)
    before = scene.looks
    scene.see(HERE)
    assert scene.looks == before


def test_the_destination_measures_nothing_and_so_does_a_guest_without_images(
        scene: Scene) -> None:
    scene.begin(dataclasses.replace(MOVE, role=Role.DESTINATION))
    scene.see(HERE, THERE)
    scene.images = ()
    scene.begin()
    scene.see(HERE, THERE)
    assert scene.looks == 0
