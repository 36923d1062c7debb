# SPDX-License-Identifier: Apache-2.0
"""Both hosts have one instances_path, or one directory: nothing is copied or removed."""

import os
import pathlib
import shutil
import subprocess

import pytest

from rbd_worker.host import probe
from rbd_worker.model import Fact, GuestState, Outcome, Verdict
from tests import world as worlds
from tests.unit.conftest import MakeWorld
from tests.world import Nova, World


def _share(world: World) -> None:
    """The second host's instances_path becomes the first one's, by a link as by a mount."""
    here, there = world.hosts
    shutil.rmtree(there.path)
    os.symlink(here.path, there.path)


def _everything(world: World, guest: str) -> dict[str, bytes]:
    return {name: content for name, content in world.hosts[0].files(guest).items()
            if name != "console.log"}


@pytest.mark.parametrize("how", ["succeed", "fail"])
def test_a_shared_path_is_never_copied_nor_removed(make_world: MakeWorld, how: str) -> None:
    world = make_world("libvirt")
    here, there = world.hosts
    _share(world)
    guest = world.boot(here)
    inode = here.directory(guest).stat().st_ino
    order = world.migrate(guest, here, there, how=how, seconds=60)
    assert _everything(world, guest) == worlds.FILES
    assert here.directory(guest).stat().st_ino == inode
    assert here.trashed() == [] and here.staged(guest) == []
    outcome = Outcome.COMPLETED if how == "succeed" else Outcome.FAILED
    assert here.entry(order.uuid).outcome is outcome
    assert there.entry(order.uuid).outcome is outcome
    holder = there if how == "succeed" else here
    assert holder.libvirt.states == {guest: GuestState.RUNNING}
    assert "console.log.0" not in here.files(guest)


def test_a_shared_path_there_and_back(make_world: MakeWorld) -> None:
    world = make_world("libvirt")
    here, there = world.hosts
    _share(world)
    guest = world.boot(here)
    world.migrate(guest, here, there)
    world.migrate(guest, there, here)
    assert here.libvirt.states == {guest: GuestState.RUNNING}
    assert _everything(world, guest) == worlds.FILES


def test_beside_nova_a_shared_path_is_left_to_nova(make_world: MakeWorld) -> None:
    world = make_world("nova")
    here, there = world.hosts
    _share(world)
    guest = world.boot(here)
    nova = Nova(world, world.order(guest, here, there), "post error")
    there.directory = lambda guest: pathlib.Path("/nowhere")  # type: ignore[method-assign]
    nova._pre = lambda: nova._after(0.3, nova.move)  # type: ignore[method-assign]
    nova.begin()
    world.timeline.pass_time(600)
    assert _everything(world, guest) == worlds.FILES
    assert here.trashed() == [] and here.staged(guest) == []
    assert here.entry(nova.order.uuid).outcome is Outcome.COMPLETED


def test_a_path_that_cannot_be_compared_stops_the_move_before_anything_is_copied(
        make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "compare", lambda *_: Fact("path", Verdict.UNKNOWN, "no answer"))
    world = make_world("libvirt")
    here, there = world.hosts
    guest = world.boot(here)
    order = world.migrate(guest, here, there, seconds=60)
    assert _everything(world, guest) == worlds.FILES
    assert here.libvirt.states == {guest: GuestState.RUNNING}
    assert here.trashed() == [] and there.staged(guest) == []
    assert not there.directory(guest).exists()
    entry = here.entry(order.uuid)
    assert entry.outcome is Outcome.FAILED
    assert f"whether both hosts share the directory of {guest} cannot be told: no answer" in (
        entry.reason)


def test_one_directory_under_two_paths_is_recognised(make_world: MakeWorld) -> None:
    """Only this instance's directory is shared, as by a mount of its own."""
    world = make_world("libvirt")
    here, there = world.hosts
    guest = world.boot(here)
    there.directory(guest).mkdir()
    done = subprocess.run(["mount", "--bind", here.directory(guest), there.directory(guest)])
    if done.returncode:
        pytest.skip("mounting is not possible here")
    try:
        order = world.migrate(guest, here, there)
        assert _everything(world, guest) == worlds.FILES
        assert here.trashed() == [] and there.trashed() == []
        assert here.entry(order.uuid).outcome is Outcome.COMPLETED
    finally:
        subprocess.run(["umount", there.directory(guest)], check=True)


def test_a_path_that_becomes_shared_before_the_removal_is_seen(make_world: MakeWorld) -> None:
    """Compared at that moment: what was true at the preparation counts for nothing."""
    world = make_world("libvirt")
    here, there = world.hosts
    guest = world.boot(here)

    def after_the_handover(call: object) -> None:
        if getattr(call, "method", "") == "post_live_migration":
            shutil.rmtree(there.path)
            os.symlink(here.path, there.path)
    world.bus.on_reply = after_the_handover
    order = world.migrate(guest, here, there)
    assert _everything(world, guest) == worlds.FILES
    entry = here.entry(order.uuid)
    assert entry.outcome is Outcome.UNRESOLVED
    assert "sees the same instances_path" in entry.reason
