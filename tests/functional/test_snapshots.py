# SPDX-License-Identifier: Apache-2.0
"""Snapshots of guests on the lab's Ceph, written and read through librbd."""

import collections.abc
import json
import pathlib
import threading

import pytest

from devstack import lab as labs
from tests.functional.fleet import Fleet
from tests.functional.snapshotting import (
    Disks,
    control,
    done,
    told,
    with_channel,
    with_second_disk,
    without_rights,
)

NOBODY = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def disks(shared: Fleet, tmp_path: pathlib.Path) -> collections.abc.Iterator[Disks]:
    one = Disks(shared.lab, tmp_path)
    yield one
    one.store.close()


def two_disks(fleet: Fleet, disks: Disks, start: bool) -> tuple[labs.Guest, dict[str, bytes]]:
    """A guest on node1 with a disk in each of two pools, and what is on them."""
    guest = fleet.lab.define_guest(fleet.one, start=False)
    second = with_second_disk(guest, fleet.one, "volumes")
    contents = {image: disks.fill(image) for image in (guest.image, second)}
    if start:
        fleet.one.virsh("start", guest.uuid)
    return guest, contents


def test_a_snapshot_keeps_every_byte_of_every_disk(shared: Fleet, disks: Disks):
    guest, before = two_disks(shared, disks, start=True)
    made = control(shared.two, "snapshot", "create", guest.uuid, "first", "--host", "node1",
                   "--note", "ticket 4711", "--expires", "7d", "-f", "json")
    assert made.returncode == 0, made.stderr
    assert "2 disks were taken one after the other" in made.stderr
    for image in before:
        disks.fill(image)
    for image, data in before.items():
        assert disks.snapshots(image) == ["rbd-worker.first"]
        assert disks.read(image, "rbd-worker.first") == data
        assert disks.read(image) != data
    (row,) = told(shared.one, "snapshot", "list", guest.uuid)
    assert (row["Name"], row["By"], row["On"], row["State"], row["How"], row["Disks"]) == (
        "first", "root", "node1", "made", "sequence", 2)
    shown = told(shared.one, "snapshot", "show", guest.uuid, "first")
    assert shown["note"] == "ticket 4711"
    assert sorted(line.split("@")[0] for line in shown["disks"]) == sorted(before)
    assert row in told(shared.two, "snapshot", "list", "--host", "node1")
    assert row not in told(shared.two, "snapshot", "list")
    assert "removed from 2 disk(s)" in done(shared.one, "snapshot", "delete", guest.uuid,
                                            "first", "--yes")
    for image in before:
        assert (disks.snapshots(image), disks.metadata(image)) == ([], {})
    assert guest.running_on() == ["node1"]


def test_a_guest_without_an_agent_owes_nothing_afterwards(shared: Fleet, disks: Disks):
    for give, said in ((with_channel, "no guest agent listens on its channel"),
                       (lambda guest, host: None, "no channel for a guest agent")):
        guest = shared.lab.define_guest(shared.one, start=False)
        give(guest, shared.one)
        shared.one.virsh("start", guest.uuid)
        made = control(shared.one, "snapshot", "create", guest.uuid, "x")
        assert (made.returncode, said in made.stderr) == (0, True), made.stderr
    assert shared.reader(shared.one).works("frozen") == []
    assert "thawed" not in shared.workers["node1"].log_text


def test_a_guest_that_is_off_or_paused_writes_nothing(shared: Fleet, disks: Disks):
    guest, _ = two_disks(shared, disks, start=False)
    made = control(shared.one, "snapshot", "create", guest.uuid, "off", "-f", "json")
    assert (json.loads(made.stdout)["how"], made.stderr) == ("off", "")
    shared.one.virsh("start", guest.uuid)
    shared.one.virsh("suspend", guest.uuid)
    made = control(shared.one, "snapshot", "create", guest.uuid, "paused", "-f", "json")
    assert (json.loads(made.stdout)["how"], made.stderr) == ("paused", "")
    assert guest.state(shared.one) == "paused"


def test_a_snapshot_follows_the_guest_to_another_host(shared: Fleet, disks: Disks):
    guest = shared.lab.define_guest(shared.one)
    done(shared.one, "snapshot", "create", guest.uuid, "moving")
    shared.moved(guest, shared.one, shared.two)
    (row,) = told(shared.two, "snapshot", "list", guest.uuid)
    assert (row["Name"], row["On"]) == ("moving", "node1")
    assert told(shared.one, "snapshot", "list", guest.uuid) != []  # who took it still knows
    done(shared.two, "snapshot", "delete", guest.uuid, "moving", "--yes")
    assert disks.snapshots(guest.image) == []
    done(shared.one, "snapshot", "delete", guest.uuid, "moving", "--yes")
    assert told(shared.one, "snapshot", "list", guest.uuid) == []


def test_a_worker_that_is_killed_meanwhile_leaves_all_disks_alike(shared: Fleet, disks: Disks):
    """Wherever the kill comes; where exactly is tried in the unit tests."""
    guest, before = two_disks(shared, disks, start=False)
    for target in ("vdc", "vdd", "vde"):
        image = with_second_disk(guest, shared.one, "volumes", target)
        before[image] = disks.fill(image)
    asking = threading.Thread(target=control, args=(
        shared.one, "snapshot", "create", guest.uuid, "torn"))
    asking.start()
    shared.until(lambda: bool(disks.snapshots(guest.image)), "the first disk")
    shared.workers["node1"].kill9()
    asking.join()
    for image in before:  # what a killed client has locked is free when its watch has ended
        shared.until(lambda image=image: shared.lab.watchers(image) == [], "a watch's end", 60)
    shared.restart(shared.one)

    def alike() -> bool:
        there = {tuple(disks.snapshots(image)) for image in before}
        notes = {tuple(disks.metadata(image)) for image in before}
        rows = told(shared.one, "snapshot", "list", guest.uuid)
        made = (there, notes) == ({("rbd-worker.torn",)}, {("rbd-worker.snapshot.torn",)})
        return ([row["State"] for row in rows] == ["made"]) if made else (
            (there, notes, rows) == ({()}, {()}, []))

    shared.until(alike, "all disks with the snapshot, or none", 120)
    shared.until(lambda: control(shared.one, "snapshot", "create", guest.uuid,
                                  "whole").returncode == 0, "another snapshot", 120)
    for image, data in before.items():
        assert disks.read(image, "rbd-worker.whole") == data


def test_a_pool_without_rights_is_named_with_the_capability(shared: Fleet, disks: Disks):
    guest = shared.lab.define_guest(shared.one, start=False)
    with without_rights(shared.lab) as pool:
        with_second_disk(guest, shared.one, pool)
        asked = control(shared.one, "snapshot", "create", guest.uuid, "x")
    (line,) = asked.stderr.splitlines()
    assert (asked.returncode, "'profile rbd pool=closed'" in line) == (1, True), line
    assert (disks.snapshots(guest.image), disks.metadata(guest.image)) == ([], {})


def test_what_cannot_be_done_is_one_sentence(shared: Fleet, disks: Disks):
    guest = shared.lab.define_guest(shared.one)
    for words, said in (
            (("create", NOBODY, "x"), "no guest"),
            (("create", guest.uuid, "x", "--freeze", "always"), "cannot be frozen"),
            (("delete", guest.uuid, "missing", "--yes"), "no snapshot missing")):
        asked = control(shared.one, "snapshot", *words)
        assert (asked.returncode, asked.stdout) == (1, "")
        (line,) = asked.stderr.splitlines()
        assert said in line
    assert (disks.snapshots(guest.image), disks.metadata(guest.image)) == ([], {})
