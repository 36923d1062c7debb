# SPDX-License-Identifier: Apache-2.0
"""All disks have the snapshot or none, wherever it is interrupted; the guest comes first."""

import pathlib
import threading
import types

import pytest

from rbd_worker import errors
from rbd_worker.host.rbd_snapshots import PREFIX
from rbd_worker.model import GuestState, RbdImage
from rbd_worker.snapshots import keeper as keepers
from rbd_worker.snapshots import making
from tests.unit.snapshots import parts
from tests.unit.snapshots.parts import DATA, INSTANCE, ROOT, Worker

NOTHING: list[tuple[list[str], list[str]]] = [([], []), ([], [])]
ON_BOTH = [(["first"], ["first"]), (["first"], ["first"])]


def test_an_agent_freezes_the_guest_and_it_is_thawed(worker: Worker) -> None:
    worker.libvirt.agents.add(INSTANCE)
    frozen_then = []
    worker.ceph.before = lambda what, image: frozen_then.append(
        (what, INSTANCE in worker.libvirt.frozen))
    assert worker.create() == "frozen"
    assert [frozen for what, frozen in frozen_then if what == "take"] == [True, True]
    assert (worker.libvirt.frozen, worker.warnings, worker.ledger.debts()) == (set(), (), [])
    assert worker.left() == ON_BOTH


@pytest.mark.parametrize(("state", "how"), [
    (GuestState.RUNNING, "sequence"), (GuestState.SHUTOFF, "off"), (GuestState.PAUSED, "paused")])
def test_without_an_agent_the_answer_says_what_the_point_is_worth(
        worker: Worker, state: GuestState, how: str) -> None:
    worker.libvirt.states[INSTANCE] = state
    assert worker.create() == how
    assert bool(worker.warnings) == (how == "sequence")
    assert worker.left() == ON_BOTH


def test_a_single_disk_needs_no_warning_of_an_order(tmp_path: pathlib.Path) -> None:
    worker = Worker(tmp_path, ROOT)
    assert worker.create() == "single"
    assert "after a power loss" in worker.warnings[0]


def test_a_guest_that_starts_meanwhile_was_not_off(worker: Worker) -> None:
    worker.libvirt.states[INSTANCE] = GuestState.SHUTOFF

    def starts(what: str, image: RbdImage) -> None:
        worker.libvirt.states[INSTANCE] = GuestState.RUNNING
    worker.ceph.before = starts
    assert worker.create() == "sequence"


def test_nothing_is_taken_where_the_agent_is_wanted_and_away(worker: Worker) -> None:
    with pytest.raises(errors.FreezeRefused, match="no agent"):
        worker.create(freeze="always")
    assert (worker.left(), worker.ledger.rows(), worker.ledger.debts()) == (NOTHING, [], [])


@pytest.mark.parametrize("call", range(1, 7))
@pytest.mark.parametrize("error", [
    errors.CephForbids(user="nova", wish="x", pool="volumes", reason="no"),
    errors.SnapshotExists(image=DATA, snapshot=PREFIX + "first")])
def test_a_disk_that_cannot_be_taken_leaves_none_taken(worker: Worker, call: int,
                                                       error: errors.Error) -> None:
    worker.libvirt.agents.add(INSTANCE)
    calls = []

    def fails(what: str, image: RbdImage) -> None:
        calls.append(what)
        if len(calls) == call:
            raise error
    worker.ceph.before = fails
    with pytest.raises(type(error)):
        worker.create()
    assert (worker.left(), worker.ledger.rows()) == (NOTHING, [])
    assert worker.libvirt.frozen == set()


def test_what_ceph_did_not_answer_is_removed_when_it_appears_late(worker: Worker) -> None:
    def hangs(what: str, image: RbdImage) -> None:
        if what == "take":
            raise errors.CephUnavailable(what=image, reason="no answer", conf="c", user="nova")
    worker.ceph.before = hangs
    with pytest.raises(errors.CephUnavailable):
        worker.create()
    worker.ceph.before = lambda what, image: None
    note = '{"id": "another"}'
    worker.ceph.images[ROOT].notes["first"] = note
    worker.keeper.tidy()
    assert worker.ceph.images[ROOT].notes == {"first": note}  # somebody else's by now
    del worker.ceph.images[ROOT].notes["first"]
    (row,) = worker.ledger.rows()
    worker.ceph.images[DATA].notes["first"] = row.set.to_note()
    worker.ceph.images[DATA].snapshots["first"] = 7
    with pytest.raises(errors.InstanceBusy, match="is being removed"):
        worker.create()
    worker.keeper.tidy()
    assert worker.left() == NOTHING
    worker.now += keepers.LATE_SECONDS
    worker.keeper.tidy()
    assert worker.ledger.rows() == []
    assert worker.create() == "sequence"


@pytest.mark.parametrize("call", range(1, 7))
@pytest.mark.parametrize("agents", [{INSTANCE}, set()])
def test_a_worker_that_is_killed_leaves_nothing_after_its_next_start(
        worker: Worker, call: int, agents: set[str]) -> None:
    worker.libvirt.agents = agents
    calls = []

    def killed(what: str, image: RbdImage) -> None:
        calls.append(what)
        if len(calls) == call:
            worker.libvirt.thaw = lambda instance: False  # type: ignore[method-assign]
            worker.journal.forget_work = lambda id_: None  # type: ignore[method-assign]
            raise parts.Killed
    worker.ceph.before = killed
    thaw = worker.libvirt.thaw
    with pytest.raises(parts.Killed):
        worker.create()
    was_frozen = INSTANCE in worker.libvirt.frozen
    assert was_frozen == (bool(agents) and calls[-1] == "take")
    worker.ceph.before = lambda what, image: None
    worker.libvirt.thaw = thaw  # type: ignore[method-assign]
    worker.restart()
    worker.keeper.thaw()
    assert worker.libvirt.frozen == set()
    worker.keeper.tidy()
    assert worker.left() == NOTHING
    worker.now += keepers.LATE_SECONDS
    worker.keeper.thaw()
    worker.keeper.tidy()
    assert (worker.ledger.rows(), worker.ledger.debts()) == ([], [])


def test_the_guest_is_thawed_before_a_slow_disk_is_taken(tmp_path: pathlib.Path) -> None:
    worker = Worker(tmp_path, ROOT, DATA, limit=0.05)
    worker.libvirt.agents.add(INSTANCE)
    thawed = threading.Event()
    thaw = worker.libvirt.thaw

    def heard(instance: str) -> bool:
        is_here = thaw(instance)
        thawed.set()
        return is_here
    worker.libvirt.thaw = heard  # type: ignore[method-assign]
    seen = []

    def slow(what: str, image: RbdImage) -> None:
        if what == "take" and image == DATA:
            seen.append(thawed.wait(30))
            seen.append(INSTANCE in worker.libvirt.frozen)
    worker.ceph.before = slow
    with pytest.raises(errors.SnapshotTooSlow, match=r"held for 0.05 s"):
        worker.create()
    assert seen == [True, False]
    assert (worker.left(), worker.ledger.rows(), worker.ledger.debts()) == (NOTHING, [], [])


def test_an_agent_whose_answer_is_lost_is_asked_to_thaw_until_it_does(worker: Worker) -> None:
    worker.libvirt.agents.add(INSTANCE)
    worker.libvirt.agent_is_mute = True
    with pytest.raises(errors.HypervisorUnavailable):
        worker.create()
    assert worker.libvirt.frozen == {INSTANCE}
    worker.keeper.thaw()
    assert "cannot be thawed yet" in worker.keeper.troubles[0]
    worker.restart()
    worker.libvirt.agent_is_mute = False
    worker.keeper.thaw()
    assert (worker.libvirt.frozen, worker.keeper.troubles) == (set(), [])
    worker.libvirt.frozen.add(INSTANCE)  # the freeze that was under way arrives late
    worker.now += 61
    worker.keeper.thaw()
    assert (worker.libvirt.frozen, worker.ledger.debts()) == (set(), [])


def test_a_guest_that_moves_is_left_alone(worker: Worker) -> None:
    worker.tasks = [types.SimpleNamespace(is_closed=False,
                                          migration=types.SimpleNamespace(key="m-1"))]
    with pytest.raises(errors.InstanceBusy, match="migration m-1"):
        worker.create()
    worker.tasks = []
    for state in (GuestState.OUTGOING, GuestState.INCOMING, GuestState.STRANDED):
        worker.libvirt.states[INSTANCE] = state
        with pytest.raises(errors.InstanceBusy, match=state.value):
            worker.create()
    worker.libvirt.states[INSTANCE] = GuestState.RUNNING
    worker.libvirt.jobs.add(INSTANCE)
    with pytest.raises(errors.InstanceBusy):
        worker.create()
    del worker.libvirt.states[INSTANCE]
    with pytest.raises(errors.GuestNotHere):
        worker.create()
    assert (worker.left(), worker.ledger.rows()) == (NOTHING, [])


def test_two_at_a_time_are_one_and_a_refusal(worker: Worker) -> None:
    refused = []

    def another(what: str, image: RbdImage) -> None:
        worker.ceph.before = lambda what, image: None
        with pytest.raises(errors.InstanceBusy) as caught:
            worker.create("second")
        refused.append(caught.value)
    worker.ceph.before = another
    assert worker.create() == "sequence"
    assert (len(refused), worker.left()) == (1, ON_BOTH)


def test_a_disk_has_no_more_snapshots_than_it_can_bear(worker: Worker) -> None:
    for number in range(making.MAX_ON_A_DISK):
        worker.ceph.images[DATA].snapshots[f"s{number}"] = number + 1
    with pytest.raises(errors.BadInput, match=f"{DATA} has 128 of them"):
        worker.create()
    assert worker.ceph.images[ROOT].notes == {}


def test_a_name_is_taken_once(worker: Worker) -> None:
    worker.create()
    with pytest.raises(errors.SnapshotExists):
        worker.create()
    assert worker.left() == ON_BOTH


def test_a_worker_that_stops_leaves_no_guest_frozen(worker: Worker) -> None:
    worker.libvirt.agents.add(INSTANCE)
    seen = []

    def stops(what: str, image: RbdImage) -> None:
        if what == "take":
            worker.freezer.stop()
            seen.append(INSTANCE in worker.libvirt.frozen)
    worker.ceph.before = stops
    worker.create()
    assert seen == [False, False]
    worker.ceph.before = lambda what, image: None
    with pytest.raises(errors.FreezeRefused, match="stops"):
        worker.create("second", freeze="always")
