# SPDX-License-Identifier: Apache-2.0
"""Something that is not carried comes into the directory while the guest moves."""

import os

from devstack import conductor
from rbd_worker.model import GuestState, Outcome
from tests import world as worlds
from tests.unit.conftest import MakeWorld


def test_the_files_are_handed_over_once_it_is_gone(make_world: MakeWorld) -> None:
    """The destination waits for them; without them both hosts would wait for each other."""
    world = make_world("libvirt")
    here, there = world.hosts
    guest = world.boot(here)
    order = world.order(guest, here, there)
    here.cast(conductor.live_migration(order))
    world.timeline.pass_time(0.1)
    assert there.libvirt.states == {guest: GuestState.INCOMING}
    os.mkfifo(here.directory(guest) / "pipe")
    world.timeline.pass_time(60)
    entry = here.entry(order.uuid)
    assert entry.is_open and entry.outcome is Outcome.UNRESOLVED
    assert "pipe: it is a fifo. Only regular files and directories are carried" in entry.reason
    assert there.libvirt.states == {guest: GuestState.RUNNING}
    assert here.trashed() == []
    (here.directory(guest) / "pipe").unlink()
    world.timeline.pass_time(900)
    for host in world.hosts:
        assert host.entry(order.uuid).outcome is Outcome.COMPLETED
    found = there.files(guest)
    assert {name: found[name] for name in worlds.FILES} == worlds.FILES
    assert found["console.log.0"].decode().splitlines() == here.libvirt.said
    assert len(here.trashed()) == 1


def test_novas_removal_of_the_directory_ends_it_too(make_world: MakeWorld) -> None:
    world = make_world("nova")
    here, there = world.hosts
    guest = world.boot(here)
    world.timeline.after(1, lambda: os.mkfifo(here.directory(guest) / "pipe"))
    world.timeline.after(2, lambda: here.libvirt.say(guest, "the last words here"))
    order = world.migrate(guest, here, there)
    for host in world.hosts:
        assert host.entry(order.uuid).outcome is Outcome.COMPLETED
    assert "the last words here" in there.files(guest)["console.log.0"].decode()
    assert not here.has_directory(guest)
