# SPDX-License-Identifier: Apache-2.0
"""A copy is whole under its name, or not there; wherever its worker was killed."""

import contextlib
import threading

import pytest

from rbd_worker import errors
from rbd_worker.model import RbdImage
from rbd_worker.snapshots.jobs import Job
from tests.unit.snapshots import parts
from tests.unit.snapshots.parts import DATA, INSTANCE, ROOT, Worker

TARGETS = {RbdImage("backups", f"{ROOT.name}.first"), RbdImage("backups", "volume-1.first")}


@pytest.fixture
def taken(worker: Worker) -> Worker:
    worker.create()
    return worker


def planned(worker: Worker, pool: str = "backups") -> Job:
    return worker.copying.planned(worker.teller.find(INSTANCE, "first"), pool)


def test_every_disk_is_copied_and_its_snapshot_free_again(taken: Worker) -> None:
    taken.copying.work(planned(taken))
    assert set(taken.targets) == TARGETS
    assert all(target.parent is None for target in taken.targets.values())
    assert [image.protected for image in taken.ceph.images.values()] == [set(), set()]


@pytest.mark.parametrize("number", range(1, 17))
def test_a_copy_that_was_killed_is_whole_in_the_end(taken: Worker, number: int) -> None:
    job, calls = planned(taken), []

    def killed(what: str, image: RbdImage) -> None:
        calls.append(what)
        if len(calls) == number:
            raise parts.Killed
    taken.ceph.before = killed
    with contextlib.suppress(parts.Killed):
        taken.copying.work(job)
    assert len(calls) == number, "the copy has fewer steps by now"
    for target in TARGETS & set(taken.targets):
        assert taken.targets[target].parent is None
    taken.ceph.before = lambda what, image: None
    taken.restart()
    (again,) = taken.jobs.open_jobs()
    assert taken.copying.running(again.set, "backups") is not None
    taken.copying.work(again)
    assert set(taken.targets) == TARGETS
    assert [image.protected for image in taken.ceph.images.values()] == [set(), set()]


@pytest.mark.parametrize(("pool", "said"), [
    ("vms", "when Nova removes an instance"), ("nowhere", "there is no pool nowhere")])
def test_a_pool_that_will_not_do_is_told(taken: Worker, pool: str, said: str) -> None:
    with pytest.raises(errors.CopyRefused, match=said):
        planned(taken, pool)
    assert (taken.targets, taken.jobs.open_jobs()) == ({}, [])


def test_an_image_in_the_way_stays(taken: Worker) -> None:
    target = min(TARGETS, key=str)
    taken.targets[target] = other = parts.Target("", None)
    with pytest.raises(errors.CopyInTheWay):
        planned(taken)
    del taken.targets[target]
    job = planned(taken)
    taken.targets[target] = other
    with pytest.raises(errors.CopyInTheWay):
        taken.copying.work(job)
    assert taken.targets[target] is other
    assert not [image for image in taken.targets if "copying" in image.name]
    assert [image.protected for image in taken.ceph.images.values()] == [set(), set()]


def test_two_disks_of_one_name_are_not_mixed_up(taken: Worker) -> None:
    twin = RbdImage("volumes", ROOT.name)
    taken.ceph.images[twin] = parts.Image()
    taken.libvirt.names[INSTANCE] = (ROOT, twin)
    taken.create("second")
    with pytest.raises(errors.CopyRefused, match="the same name"):
        taken.copying.planned(taken.teller.find(INSTANCE, "second"), "backups")


def test_a_snapshot_stays_while_it_is_copied(taken: Worker) -> None:
    job = planned(taken)
    with pytest.raises(errors.InstanceBusy, match="copy"):
        taken.remover.remove(job.set)


def test_a_job_waits_for_ceph_and_ends(taken: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rbd_worker.snapshots.jobs.RETRY_SECONDS", 0.01)
    failures = [errors.CephUnavailable(what="x", reason="away", conf="c", user="nova")] * 2

    def away(what: str, image: RbdImage) -> None:
        if failures:
            raise failures.pop()
    taken.ceph.before = away
    taken.jobs.work = {"copy": taken.copying.work}
    job, ended = planned(taken), threading.Event()
    taken.jobs.begin(job, ended.set)
    assert ended.wait(60)
    told = taken.jobs.tell(job.id)
    assert told is not None
    assert (told.state, [disk.state for disk in told.disks]) == ("done", ["done", "done"])
    assert set(taken.targets) == TARGETS


def test_a_job_that_failed_says_why_and_is_forgotten_after_a_week(taken: Worker) -> None:
    taken.jobs.work = {"copy": taken.copying.work}
    job, ended = planned(taken), threading.Event()
    taken.targets[min(TARGETS, key=str)] = parts.Target("", None)
    taken.jobs.begin(job, ended.set)
    assert ended.wait(60)
    told = taken.jobs.tell(job.id)
    assert told is not None and (told.state, "is there already" in told.reason) == ("failed", True)
    (shown,) = taken.teller.show(INSTANCE, "first").jobs
    assert shown.reason == told.reason
    taken.now += 8 * 86400
    taken.keeper.tidy()
    assert taken.jobs.tell(job.id) is None
    assert DATA in taken.ceph.images
