# SPDX-License-Identifier: Apache-2.0
"""A file system of one host goes wrong while a guest moves, and comes right again."""

import contextlib
import pathlib
import typing as ty

import pytest

from devstack import conductor
from devstack import lab as labs
from rbd_worker.model import Outcome
from tests.functional.fleet import Fleet, furnish, states
from tests.unit.host.trees import FailingDisk

pytestmark = pytest.mark.lab

INSTANCES = "/var/lib/nova/instances"


@pytest.fixture
def guest(fleet: Fleet) -> labs.Guest:
    """One that stays on its way from node1 to node2 until it is told to arrive."""
    fleet.start(libvirt={"live_migration_bandwidth": 30}, settle_interval=1,
                unresolved_retry_max=2)
    guest = fleet.lab.define_guest(fleet.one, console=False, busy=True)
    furnish(guest.directory(fleet.one))
    return guest


@contextlib.contextmanager
def _path_is_a_mount(host: labs.Host) -> ty.Iterator[None]:
    host.run(["mount", "--bind", INSTANCES, INSTANCES])
    try:
        yield
    finally:
        host.run(["umount", "-l", INSTANCES])


@pytest.mark.parametrize(("trouble", "cure", "sentence"), [
    ("mount -o remount,bind,ro {path}", "mount -o remount,bind,rw {path}",
     "Mount that file system writable"),
    ("chattr +i {path}/{uuid}", "chattr -i {path}/{uuid}", "'chattr -i -a' has to free first"),
    ("mount --bind /etc/nova {path}/{uuid}/sub", "umount {path}/{uuid}/sub",
     "sub: something is mounted there"),
])
def test_a_source_that_cannot_let_the_directory_go_keeps_it_until_it_can(
        fleet: Fleet, guest: labs.Guest, trouble: str, cure: str, sentence: str) -> None:
    before = states(guest.directory(fleet.one))
    with _path_is_a_mount(fleet.one):
        order = fleet.move(guest, fleet.one, fleet.two)
        fleet.under_way(guest, fleet.one, fleet.two)
        _run(fleet.one, trouble, guest)
        try:
            fleet.conductor.cast("node1", conductor.force_complete(order), topic="compute")
            fleet.until(lambda: sentence in getattr(fleet.entry(fleet.one, order), "reason", ""),
                        f"the words {sentence!r}")
            assert guest.running_on() == ["node2"]
            assert guest.directory(fleet.one).is_dir()
        finally:
            _run(fleet.one, cure, guest)
        entries = fleet.closed(order)
        assert {e.outcome for e in entries.values()} == {Outcome.COMPLETED}, entries
        assert states(guest.directory(fleet.two)) == before
        (item,) = fleet.trash(fleet.one)
        assert states(item) == before


def _run(host: labs.Host, command: str, guest: labs.Guest) -> None:
    host.run(command.format(path=INSTANCES, uuid=guest.uuid).split())


def test_what_is_mounted_in_a_directory_ends_the_migration_before_the_guest_moves(
        fleet: Fleet, guest: labs.Guest) -> None:
    before = states(guest.directory(fleet.one))
    _run(fleet.one, "mount --bind /etc/nova {path}/{uuid}/sub", guest)
    order = fleet.move(guest, fleet.one, fleet.two)
    entries = {}
    fleet.until(lambda: not getattr(fleet.entry(fleet.one, order), "is_open", True), "the end",
                shown=entries)
    entry = fleet.entry(fleet.one, order)
    assert entry is not None and entry.outcome is Outcome.FAILED
    assert "sub: something is mounted there" in entry.reason
    _run(fleet.one, "umount {path}/{uuid}/sub", guest)
    assert guest.running_on() == ["node1"]
    assert states(guest.directory(fleet.one)) == before


def test_a_destination_whose_disk_fails_takes_the_guest_once_it_is_mended(
        fleet: Fleet, tmp_path: pathlib.Path) -> None:
    with FailingDisk(tmp_path / "disk") as disk:
        fleet.two.run(["mount", disk.device, INSTANCES])
        fleet.start()
        guest = fleet.lab.define_guest(fleet.one, console=False)
        furnish(guest.directory(fleet.one))
        before = states(guest.directory(fleet.one))
        disk.fail()
        order = fleet.move(guest, fleet.one, fleet.two)
        fleet.until(lambda: not getattr(fleet.entry(fleet.one, order), "is_open", True),
                    "the end")
        entry = fleet.entry(fleet.one, order)
        assert entry is not None and entry.outcome is Outcome.FAILED
        assert guest.running_on() == ["node1"]
        assert states(guest.directory(fleet.one)) == before
        disk.recover()
        fleet.moved(guest, fleet.one, fleet.two)
        disk.forget()
        assert states(tmp_path / "disk" / guest.uuid) == before
        fleet.workers["node2"].stop()
        fleet.two.virsh("destroy", guest.uuid)
        fleet.two.run(["umount", "-l", INSTANCES])
