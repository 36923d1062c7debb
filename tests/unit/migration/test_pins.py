# SPDX-License-Identifier: Apache-2.0
"""The source's files stay readable, to their last byte, although nova-compute removes them."""

import shutil
import uuid
import zlib

import pytest

from devstack import conductor
from rbd_worker import errors
from rbd_worker.migration import pins
from rbd_worker.migration.task import Task
from rbd_worker.model import Executor, Migration, Phase, Role
from tests.unit.conftest import MakeWorld
from tests.world import Host, World


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world("nova")


@pytest.fixture
def task(world: World) -> Task:
    """A migration that waits for Nova to begin."""
    here, there = world.hosts
    guest = world.boot(here)
    here.cast(conductor.live_migration(world.order(guest, here, there)))
    world.timeline.pass_time(1)
    (task,) = here.alive.coordinator.tasks()
    return task


def _here(world: World) -> Host:
    return world.hosts[0]


def _log(task: Task) -> bytes:
    """The console log as the peer would get it, whole."""
    files = pins.pinned(task)
    assert files is not None
    (entry,) = [e for e in pins.listed(files, {})["entries"] if e.path == "console.log"]
    return zlib.decompress(entry.inline)


def test_what_was_written_after_the_last_look_is_not_lost(world: World, task: Task) -> None:
    guest = task.migration.instance
    _here(world).libvirt.say(guest, "the last words")
    expected = _here(world).files(guest)["console.log"]
    shutil.rmtree(_here(world).directory(guest))
    pins.keep(task)
    assert _log(task) == expected
    assert b"the last words" in expected


def test_a_directory_that_was_renamed_first_is_still_the_same(world: World, task: Task) -> None:
    """nova-compute renames it to ``<uuid>_del`` before it removes it."""
    guest = task.migration.instance
    directory = _here(world).directory(guest)
    doomed = directory.with_name(f"{guest}_del")
    directory.rename(doomed)
    with (doomed / "console.log").open("a") as log:
        log.write("still writing\n")
    pins.keep(task)
    assert _log(task).endswith(b"still writing\n")


def test_a_rotated_log_is_followed(world: World, task: Task) -> None:
    directory = _here(world).directory(task.migration.instance)
    old = (directory / "console.log").read_bytes()
    (directory / "console.log").rename(directory / "console.log.0")
    (directory / "console.log").write_bytes(b"new\n")
    pins.keep(task)
    files = pins.pinned(task)
    assert files is not None
    sizes = {e.path: e.size for e in files.entries if e.path.startswith("console")}
    assert sizes == {"console.log": 4, "console.log.0": len(old)}


def test_files_that_cannot_be_looked_at_now_stay_as_they_were(world: World, task: Task) -> None:
    directory = _here(world).directory(task.migration.instance)
    before = _log(task)
    (directory / "link").symlink_to("/etc/passwd")
    pins.keep(task)
    assert _log(task) == before


def test_a_directory_that_is_gone_and_was_never_held_is_none(world: World, task: Task) -> None:
    task.release()
    shutil.rmtree(_here(world).directory(task.migration.instance))
    assert pins.pinned(task) is None
    assert pins.listed(None, {})["root"].path == "."


@pytest.fixture
def earlier(world: World, task: Task) -> Task:
    """The migration that had brought the guest, and still has files of it to place."""
    here, there = world.hosts
    arrived = Migration(str(uuid.uuid4()), task.migration.instance, Role.DESTINATION, there.name,
                        here.name, Executor.NOVA)
    assert here.alive.ports.journal.open(arrived)
    return here.alive.coordinator.adopt(arrived)


def _place(world: World, task: Task, earlier: Task) -> None:
    directory = _here(world).directory(task.migration.instance)
    (directory / "late").write_bytes(b"late")
    pinned = earlier.ports.directories.pin(task.migration.instance)
    assert pinned is not None
    with pinned:
        pins.ensure_held_by_next(earlier, pinned)


def _held(task: Task) -> set[str]:
    return set() if task.files is None else {entry.path for entry in task.files.entries}


def test_what_is_placed_late_goes_along_with_the_next_migration(world: World, task: Task,
                                                                earlier: Task) -> None:
    _place(world, task, earlier)
    shutil.rmtree(_here(world).directory(task.migration.instance))
    pins.keep(task)
    assert "late" in _held(task)


def test_nothing_counts_as_placed_before_the_next_migration_holds_it(world: World, task: Task,
                                                                     earlier: Task) -> None:
    task.release()
    with pytest.raises(errors.DirectoryChanged, match="does not hold its files yet"):
        _place(world, task, earlier)
    pins.keep(task)
    _place(world, task, earlier)
    assert "late" in _held(task)


def test_nothing_counts_as_placed_that_the_next_migration_may_not_have_told(
        world: World, task: Task, earlier: Task) -> None:
    task.record(phase=Phase.POST)
    with pytest.raises(errors.OutcomeUnknown, match=task.migration.key):
        _place(world, task, earlier)


def test_files_of_an_earlier_stay_of_the_guest_keep_nothing_from_being_placed(
        world: World, task: Task, earlier: Task) -> None:
    guest, here = task.migration.instance, _here(world)
    task.record(phase=Phase.POST)
    shutil.rmtree(here.directory(guest))
    here.directory(guest).mkdir()
    _place(world, task, earlier)
    assert "late" not in _held(task)


def test_a_migration_that_turns_back_takes_nothing_away(world: World, task: Task,
                                                        earlier: Task) -> None:
    task.record(phase=Phase.ROLLBACK)
    task.release()
    _place(world, task, earlier)


def test_something_unsafe_is_told_to_who_asks_for_it(world: World, task: Task) -> None:
    task.release()
    (_here(world).directory(task.migration.instance) / "link").symlink_to("/etc/passwd")
    with pytest.raises(errors.UnsafeDirectory):
        pins.pinned(task)
