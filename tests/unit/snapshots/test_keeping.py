# SPDX-License-Identifier: Apache-2.0
"""What leaves by itself: only what this worker took, when its time is over and nobody needs it."""

import dataclasses

import pytest

from rbd_worker import errors
from rbd_worker.model import GuestState, RbdImage
from rbd_worker.snapshots import keeper as keepers
from rbd_worker.snapshots.ledger import State
from tests.unit.snapshots import parts
from tests.unit.snapshots.parts import DATA, INSTANCE, ROOT, Worker

ON_BOTH = [(["first"], ["first"]), (["first"], ["first"])]
NOTHING: list[tuple[list[str], list[str]]] = [([], []), ([], [])]


def expired(worker: Worker) -> None:
    worker.create(expires_in=60)
    worker.now += 61


def test_a_snapshot_leaves_when_its_time_is_over(worker: Worker) -> None:
    worker.create(expires_in=60)
    worker.create("kept")
    worker.now += 59
    worker.keeper.tidy()
    assert worker.left() == [(["first", "kept"], ["first", "kept"])] * 2
    worker.now += 2
    worker.keeper.tidy()
    assert worker.left() == [(["kept"], ["kept"])] * 2
    assert [row.set.name for row in worker.ledger.rows()] == ["kept"]


def test_nothing_expires_while_the_clock_is_in_doubt(worker: Worker) -> None:
    expired(worker)
    worker.doubt = "the clock jumped"
    worker.keeper.tidy()
    assert worker.left() == ON_BOTH


@pytest.mark.parametrize("state", [GuestState.OUTGOING, GuestState.INCOMING])
def test_nothing_expires_while_the_guest_moves(worker: Worker, state: GuestState) -> None:
    expired(worker)
    worker.libvirt.states[INSTANCE] = state
    worker.keeper.tidy()
    assert worker.left() == ON_BOTH
    worker.libvirt.states[INSTANCE] = GuestState.RUNNING
    worker.keeper.tidy()
    assert worker.left() == NOTHING


def test_what_was_cloned_or_protected_stays_on_every_disk(worker: Worker) -> None:
    expired(worker)
    worker.ceph.images[DATA].children["first"] = ("volumes/clone",)
    worker.keeper.tidy()
    assert worker.left() == ON_BOTH
    worker.ceph.images[DATA].children.clear()
    worker.ceph.images[ROOT].protected.add("first")
    worker.keeper.tidy()
    assert worker.left() == ON_BOTH
    worker.ceph.images[ROOT].protected.clear()
    worker.keeper.tidy()
    assert worker.left() == NOTHING


def test_a_later_snapshot_of_the_same_name_is_somebody_elses(worker: Worker) -> None:
    expired(worker)
    (row,) = worker.ledger.rows()
    other = dataclasses.replace(row.set, id="another", host="node2").to_note()
    for image in worker.ceph.images.values():
        image.notes["first"] = other
    worker.keeper.tidy()
    assert worker.left() == ON_BOTH
    assert worker.ledger.rows() == []


@pytest.mark.parametrize("note", ["", "{", "[]", "null", '{"id": 1}', "[" * 5000])
def test_a_note_that_makes_no_sense_keeps_the_snapshot(worker: Worker, note: str) -> None:
    expired(worker)
    for image in worker.ceph.images.values():
        image.notes["first"] = note
    worker.keeper.tidy()
    assert worker.left() == ON_BOTH


def test_a_snapshot_that_left_with_its_disks_is_forgotten(worker: Worker) -> None:
    worker.create()
    worker.ceph.images.clear()
    for _ in range(keepers.ROUNDS_PER_LOOK):
        worker.keeper.tidy()
    assert worker.ledger.rows() == []


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_removal_that_was_killed_is_done_to_its_end(worker: Worker, call: int) -> None:
    worker.create()
    calls = []

    def killed(what: str, image: RbdImage) -> None:
        calls.append(what)
        if len(calls) == call:
            raise parts.Killed
    worker.ceph.before = killed
    (row,) = worker.ledger.rows()
    with pytest.raises(parts.Killed):
        worker.remover.remove(row.set)
    worker.ceph.before = lambda what, image: None
    worker.restart()
    assert worker.ledger.rows()[0].state is State.REMOVING
    worker.keeper.tidy()
    assert (worker.left(), worker.ledger.rows()) == (NOTHING, [])


def test_one_snapshots_trouble_does_not_keep_others(worker: Worker) -> None:
    worker.create("a", expires_in=1)
    worker.create("b", expires_in=1)
    worker.now += keepers.LATE_SECONDS
    worker.ceph.images[ROOT].protected.add("a")
    worker.keeper.tidy()
    assert worker.left() == [(["a"], ["a"])] * 2


def test_a_listing_tells_what_the_disks_have_whoever_took_it(worker: Worker) -> None:
    worker.create(note="why", by="root")
    (told,) = worker.teller.listed(INSTANCE).snapshots
    assert (told.name, told.host, told.note, told.by, told.state) == (
        "first", "node1", "why", "root", "made")
    assert {disk.image for disk in told.disks} == {str(ROOT), str(DATA)}
    del worker.ceph.images[DATA].snapshots["first"]
    assert worker.teller.show(INSTANCE, "first").state == "incomplete"
    worker.ceph.images[ROOT].notes.clear()
    (told,) = worker.teller.listed(INSTANCE).snapshots
    assert (told.state, "lost" in told.note) == ("incomplete", True)
    with pytest.raises(errors.SnapshotMissing):
        worker.teller.show(INSTANCE, "second")
