# SPDX-License-Identifier: Apache-2.0
"""All disks go back or none, and where that fails the job says what is on each of them."""

import pytest

from rbd_worker import errors
from rbd_worker.model import GuestState, RbdImage
from rbd_worker.snapshots.jobs import Job
from tests.unit.snapshots import parts
from tests.unit.snapshots.parts import DATA, INSTANCE, ROOT, Worker


@pytest.fixture
def off(worker: Worker) -> Worker:
    """The guest is off and has snapshot ``first``."""
    worker.libvirt.states[INSTANCE] = GuestState.SHUTOFF
    worker.create()
    return worker


def planned(worker: Worker) -> Job:
    return worker.rollback.planned(worker.teller.find(INSTANCE, "first"))


def contents(worker: Worker) -> list[str]:
    return [image.content for image in worker.ceph.images.values()]


def test_both_disks_go_back_and_what_was_there_is_kept(off: Worker) -> None:
    job = planned(off)
    assert contents(off) == ["now", "now"]
    off.rollback.work(job)
    assert contents(off) == ["at first", "at first"]
    assert job.states == ["done", "done"]
    safety = off.ledger.row(INSTANCE, job.safety)
    assert safety is not None and safety.set.expires == off.now + 7 * 86400


@pytest.mark.parametrize("state", [GuestState.RUNNING, GuestState.PAUSED])
def test_a_guest_that_is_not_off_keeps_its_disks(off: Worker, state: GuestState) -> None:
    off.libvirt.states[INSTANCE] = state
    with pytest.raises(errors.RollbackRefused, match=state.value):
        planned(off)
    assert (contents(off), off.jobs.open_jobs()) == (["now", "now"], [])


def test_a_disk_that_is_open_anywhere_keeps_all(off: Worker) -> None:
    off.ceph.images[DATA].watchers.add("198.51.100.7")
    with pytest.raises(errors.RollbackRefused, match=r"198\.51\.100\.7"):
        planned(off)
    assert off.jobs.open_jobs() == []


def test_disks_have_to_be_the_same_as_then(off: Worker) -> None:
    third = RbdImage("vms", "third")
    off.libvirt.names[INSTANCE] = (ROOT, DATA, third)
    with pytest.raises(errors.RollbackRefused, match="attached later"):
        planned(off)
    off.libvirt.names[INSTANCE] = (ROOT,)
    with pytest.raises(errors.RollbackRefused, match="none of its disks any more"):
        planned(off)
    off.libvirt.names[INSTANCE] = (ROOT, DATA)
    del off.ceph.images[DATA].snapshots["first"]
    with pytest.raises(errors.RollbackRefused, match="has no snapshot first"):
        planned(off)
    assert contents(off) == ["now", "now"]


def test_where_one_disk_fails_the_other_returns(off: Worker) -> None:
    job = planned(off)
    del off.ceph.images[DATA].snapshots["first"]
    with pytest.raises(errors.RollbackRefused, match="every disk is as it was before"):
        off.rollback.work(job)
    assert contents(off) == [f"at {job.safety}", f"at {job.safety}"]


def test_where_it_cannot_return_each_disk_is_told(off: Worker) -> None:
    job = planned(off)

    def starts(what: str, image: RbdImage) -> None:
        if (what, image) == ("rolled back", ROOT):
            del off.ceph.images[DATA].snapshots["first"]
            del off.ceph.images[ROOT].snapshots[job.safety]
    off.ceph.before = starts
    with pytest.raises(errors.RollbackIncomplete) as caught:
        off.rollback.work(job)
    assert f"{ROOT} is as at first, {DATA} is partly rolled back" in caught.value.sentence
    assert f"snapshot {job.safety}" in caught.value.sentence


@pytest.mark.parametrize("what", ["roll_back", "rolled back"])
@pytest.mark.parametrize("disk", [ROOT, DATA])
def test_a_rollback_that_was_killed_goes_on_to_its_end(off: Worker, what: str,
                                                       disk: RbdImage) -> None:
    job = planned(off)

    def killed(event: str, image: RbdImage) -> None:
        if (event, image) == (what, disk):
            raise parts.Killed
    off.ceph.before = killed
    with pytest.raises(parts.Killed):
        off.rollback.work(job)
    off.ceph.before = lambda what, image: None
    off.restart()
    (again,) = off.jobs.open_jobs()
    off.ceph.images[disk].watchers.add("192.0.2.1")  # the killed worker's, for a while
    with pytest.raises(errors.InstanceBusy, match=r"192\.0\.2\.1"):
        off.rollback.work(again)
    off.ceph.images[disk].watchers.clear()
    off.rollback.work(again)
    assert contents(off) == ["at first", "at first"]


def test_a_guest_that_was_started_after_a_kill_is_not_touched_again(off: Worker) -> None:
    job = planned(off)

    def killed(event: str, image: RbdImage) -> None:
        if (event, image) == ("roll_back", DATA):
            raise parts.Killed
    off.ceph.before = killed
    with pytest.raises(parts.Killed):
        off.rollback.work(job)
    off.ceph.before = lambda what, image: None
    off.restart()
    off.libvirt.states[INSTANCE] = GuestState.RUNNING
    (again,) = off.jobs.open_jobs()
    with pytest.raises(errors.RollbackIncomplete, match="partly rolled back"):
        off.rollback.work(again)
    assert contents(off) == ["at first", "now"]


def test_neither_snapshot_leaves_before_the_rollback_has_ended(off: Worker) -> None:
    job = planned(off)
    for name in ("first", job.safety):
        with pytest.raises(errors.InstanceBusy, match="rollback"):
            off.remover.remove(off.teller.find(INSTANCE, name))
    off.rollback.work(job)
    job.state = "done"
    off.jobs.write(job)
    off.remover.remove(off.teller.find(INSTANCE, "first"))
