# SPDX-License-Identifier: Apache-2.0
"""Disks that go back, and disks that are copied, compared byte by byte on the lab's Ceph."""

import collections.abc
import json
import pathlib
import threading

import pytest

from devstack import lab as labs
from rbd_worker.host.rbd_copies import Copies
from rbd_worker.model import RbdImage
from tests.functional.fleet import Fleet
from tests.functional.snapshotting import (
    Disks,
    control,
    done,
    image_of,
    told,
    with_second_disk,
    without_rights,
)


@pytest.fixture
def disks(shared: Fleet, tmp_path: pathlib.Path) -> collections.abc.Iterator[Disks]:
    one = Disks(shared.lab, tmp_path)
    yield one
    one.store.close()


@pytest.fixture
def closed_pool(shared: Fleet) -> collections.abc.Iterator[str]:
    with without_rights(shared.lab) as pool:
        yield pool


@pytest.fixture
def off(shared: Fleet, disks: Disks) -> tuple[labs.Guest, dict[str, bytes]]:
    """A guest of node1 with two disks that is off, with snapshot ``first`` of what is on them."""
    guest = shared.lab.define_guest(shared.one, start=False)
    second = with_second_disk(guest, shared.one, "vms")
    contents = {image: disks.fill(image) for image in (guest.image, second)}
    done(shared.one, "snapshot", "create", guest.uuid, "first")
    return guest, contents


def test_a_rollback_brings_back_every_byte_and_keeps_what_was_there(
        shared: Fleet, disks: Disks, off: tuple[labs.Guest, dict[str, bytes]]):
    guest, before = off
    after = {image: disks.fill(image) for image in before}
    refused = control(shared.one, "snapshot", "rollback", guest.uuid, "first")
    assert (refused.returncode, "--yes" in refused.stderr) == (1, True)
    assert {image: disks.read(image) for image in before} == after
    went = control(shared.two, "snapshot", "rollback", guest.uuid, "first", "--yes",
                   "--host", "node1")
    assert went.returncode == 0, went.stderr + went.stdout
    assert {image: disks.read(image) for image in before} == before
    (safety,) = [row["Name"] for row in told(shared.one, "snapshot", "list", guest.uuid)
                 if row["Name"].startswith("before-rollback-")]
    assert safety in went.stderr
    for image, data in after.items():
        assert disks.read(image, f"rbd-worker.{safety}") == data
    done(shared.one, "snapshot", "rollback", guest.uuid, safety, "--yes")
    assert {image: disks.read(image) for image in before} == after


def test_a_rollback_that_is_killed_leaves_all_disks_alike(
        shared: Fleet, disks: Disks, off: tuple[labs.Guest, dict[str, bytes]]):
    """Wherever the kill comes; where exactly is tried in the unit tests."""
    guest, before = off
    after = {image: disks.fill(image) for image in before}
    asking = threading.Thread(target=control, args=(
        shared.one, "snapshot", "rollback", guest.uuid, "first", "--yes"))
    asking.start()
    shared.until(lambda: len(disks.snapshots(guest.image)) > 1, "the snapshot before it")
    shared.workers["node1"].kill9()
    shared.restart(shared.one)
    asking.join()

    def ended() -> bool:
        jobs = told(shared.one, "snapshot", "show", guest.uuid, "first")["jobs"]
        return not any(": doing" in job for job in jobs)

    shared.until(ended, "the end of the rollback", 120)
    now = {image: disks.read(image) for image in before}
    assert now in (before, after)


def test_a_disk_that_anybody_has_open_is_not_rolled_back(
        shared: Fleet, disks: Disks, off: tuple[labs.Guest, dict[str, bytes]]):
    guest, before = off
    after = {image: disks.fill(image) for image in before}
    with disks.opened(guest.image):
        refused = control(shared.one, "snapshot", "rollback", guest.uuid, "first", "--yes")
    assert (refused.returncode, f"{guest.image} is open at" in refused.stderr) == (1, True)
    shared.one.virsh("start", guest.uuid)
    refused = control(shared.one, "snapshot", "rollback", guest.uuid, "first", "--yes")
    assert (refused.returncode, "it is running" in refused.stderr) == (1, True)
    assert guest.running_on() == ["node1"]
    shared.one.virsh("destroy", guest.uuid)
    shared.one.virsh("detach-disk", "--config", guest.uuid, "vdb")
    refused = control(shared.one, "snapshot", "rollback", guest.uuid, "first", "--yes")
    assert (refused.returncode, "none of its disks any more" in refused.stderr) == (1, True)
    assert {image: disks.read(image) for image in before} == after


@pytest.mark.parametrize("least", ["luminous", "mimic"])
def test_a_copy_depends_on_nothing_and_goes_on_after_a_kill(
        shared: Fleet, disks: Disks, off: tuple[labs.Guest, dict[str, bytes]], least: str):
    """With both formats of clones: the newer one is used where no older client may come."""
    shared.lab.controller.run(["ceph", "osd", "set-require-min-compat-client", least,
                                "--yes-i-really-mean-it"])
    guest, before = off
    for image in before:
        disks.fill(image)
    begun = control(shared.two, "snapshot", "copy", guest.uuid, "first", "--pool", "volumes",
                    "--no-wait", "--host", "node1")
    assert begun.returncode == 0, begun.stderr
    shared.workers["node1"].kill9()
    shared.restart(shared.one)
    ended = control(shared.one, "snapshot", "copy", guest.uuid, "first", "--pool", "volumes")
    targets = {image: f"volumes/{image.partition('/')[2]}.first" for image in before}
    if ended.returncode == 1:  # it had ended before it was asked for again
        assert f"{next(iter(targets.values()))} is there already" in ended.stderr
        shared.until(lambda: not begun_still(shared, guest), "the end of the copy")
    else:
        assert ended.returncode == 0, ended.stdout
    for image, target in targets.items():
        assert disks.read(target) == before[image]
        assert list(disks.metadata(target)) == ["rbd-worker.copy"]
        assert disks.features(target) == disks.features(image)
    assert not [name for name in shared.lab.rbd("ls", "volumes").split() if "copying" in name]
    done(shared.one, "snapshot", "delete", guest.uuid, "first", "--yes")
    for target in targets.values():
        assert disks.read(target)  # without its parent


def test_a_flatten_that_was_broken_off_leaves_no_holes(
        shared: Fleet, disks: Disks, off: tuple[labs.Guest, dict[str, bytes]]):
    """As after a kill between librbd's note in the object map and its copy of the object."""
    guest, before = off
    source, copies = image_of(guest.image), Copies(disks.store)
    target = RbdImage("volumes", "broken-off")
    copies.protect(source, "first")
    copies.clone(source, "first", target, "{}")
    disks.begin_flatten(str(target))
    copies.flatten(target, lambda share: None)
    assert disks.read(str(target)) == before[guest.image]
    assert list(disks.metadata(str(target))) == ["rbd-worker.copy"]
    copies.map_objects(target, source)
    assert disks.features(str(target)) == disks.features(guest.image)
    assert disks.read(str(target)) == before[guest.image]


def begun_still(fleet: Fleet, guest: labs.Guest) -> bool:
    shown = told(fleet.one, "snapshot", "show", guest.uuid, "first")
    return any(": doing" in job for job in shown["jobs"])


def test_a_copy_that_cannot_be_is_one_sentence_and_leaves_nothing(
        shared: Fleet, closed_pool: str, off: tuple[labs.Guest, dict[str, bytes]]):
    guest, _ = off
    name = guest.image.partition("/")[2]
    shared.lab.rbd("create", "--size", "1", f"volumes/{name}.first")
    for pool, said in (("vms", "Nova"), ("volumes", "is there already"),
                       ("closed", "'profile rbd pool=closed'")):
        asked = control(shared.one, "snapshot", "copy", guest.uuid, "first", "--pool", pool)
        (line,) = asked.stderr.splitlines()
        assert (asked.returncode, asked.stdout, said in line) == (1, "", True), line
    assert [image for image in shared.lab.rbd("ls", "volumes").split()
            if "copying" in image or name in image] == [f"{name}.first"]
    assert shared.lab.rbd("ls", "closed").split() == []
    asked = control(shared.one, "snapshot", "show", guest.uuid, "first", "-f", "json")
    assert "protected" not in " ".join(json.loads(asked.stdout)["disks"])
