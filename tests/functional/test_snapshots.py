# SPDX-License-Identifier: Apache-2.0
"""Snapshots of guests on the lab's Ceph, written and read through librbd."""

import collections.abc
import json
import pathlib

import pytest

from devstack import lab as labs
from tests.functional.fleet import Fleet
from tests.functional.snapshotting import Disks, control, done, told, with_second_disk


@pytest.fixture
def disks(lab: labs.Lab, tmp_path: pathlib.Path) -> collections.abc.Iterator[Disks]:
    one = Disks(lab, tmp_path)
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


def test_a_snapshot_keeps_every_byte_of_every_disk(started: Fleet, disks: Disks):
    guest, before = two_disks(started, disks, start=True)
    made = control(started.two, "snapshot", "create", guest.uuid, "first", "--host", "node1",
                   "--note", "ticket 4711", "--expires", "7d", "-f", "json")
    assert made.returncode == 0, made.stderr
    assert "2 disks were taken one after the other" in made.stderr
    for image in before:
        disks.fill(image)
    for image, data in before.items():
        assert disks.snapshots(image) == ["rbd-worker.first"]
        assert disks.read(image, "rbd-worker.first") == data
        assert disks.read(image) != data
    (row,) = told(started.one, "snapshot", "list", guest.uuid)
    assert (row["Name"], row["By"], row["On"], row["State"], row["How"], row["Disks"]) == (
        "first", "root", "node1", "made", "sequence", 2)
    shown = told(started.one, "snapshot", "show", guest.uuid, "first")
    assert shown["note"] == "ticket 4711"
    assert sorted(line.split("@")[0] for line in shown["disks"]) == sorted(before)
    assert told(started.two, "snapshot", "list", "--host", "node1") == [row]
    assert told(started.two, "snapshot", "list") == []
    assert "removed from 2 disk(s)" in done(started.one, "snapshot", "delete", guest.uuid,
                                            "first", "--yes")
    for image in before:
        assert (disks.snapshots(image), disks.metadata(image)) == ([], {})
    assert guest.running_on() == ["node1"]


def test_a_guest_that_is_off_or_paused_writes_nothing(started: Fleet, disks: Disks):
    guest, _ = two_disks(started, disks, start=False)
    made = control(started.one, "snapshot", "create", guest.uuid, "off", "-f", "json")
    assert (json.loads(made.stdout)["how"], made.stderr) == ("off", "")
    started.one.virsh("start", guest.uuid)
    started.one.virsh("suspend", guest.uuid)
    made = control(started.one, "snapshot", "create", guest.uuid, "paused", "-f", "json")
    assert (json.loads(made.stdout)["how"], made.stderr) == ("paused", "")
    assert guest.state(started.one) == "paused"


def test_a_snapshot_follows_the_guest_to_another_host(started: Fleet, disks: Disks):
    guest = started.lab.define_guest(started.one)
    done(started.one, "snapshot", "create", guest.uuid, "moving")
    started.moved(guest, started.one, started.two)
    (row,) = told(started.two, "snapshot", "list", guest.uuid)
    assert (row["Name"], row["On"]) == ("moving", "node1")
    assert told(started.one, "snapshot", "list", guest.uuid) != []  # who took it still knows
    done(started.two, "snapshot", "delete", guest.uuid, "moving", "--yes")
    assert disks.snapshots(guest.image) == []
    done(started.one, "snapshot", "delete", guest.uuid, "moving", "--yes")
    assert told(started.one, "snapshot", "list") == []


@pytest.mark.parametrize(("words", "said"), [
    (("create", "{uuid}", "a/b"), "'a/b'"),
    (("create", "{uuid}", "-x"), None),
    (("create", "{uuid}", "ä" * 3), "at most 64 letters"),
    (("create", "not-a-uuid", "x"), "not-a-uuid"),
    (("create", "11111111-2222-4333-8444-555555555555", "x"), "no guest"),
    (("create", "{uuid}", "x", "--host", "node9"), "no worker was ever started"),
    (("create", "{uuid}", "x", "--freeze", "always"), "cannot be frozen"),
    (("show", "{uuid}", "missing"), "no snapshot missing"),
    (("delete", "{uuid}", "missing", "--yes"), "no snapshot missing"),
    (("delete", "{uuid}", "missing"), "--yes"),
])
def test_what_cannot_be_done_is_one_sentence(started: Fleet, disks: Disks,
                                             words: tuple[str, ...], said: str | None):
    guest = started.lab.define_guest(started.one)
    asked = control(started.one, "snapshot", *(word.format(uuid=guest.uuid) for word in words))
    assert asked.returncode in ((1, 2) if said is None else (1,)), asked.stdout
    assert asked.stdout == ""
    assert "Traceback" not in asked.stderr
    if said is not None:
        (line,) = asked.stderr.splitlines()
        assert said in line
    assert disks.snapshots(guest.image) == []
