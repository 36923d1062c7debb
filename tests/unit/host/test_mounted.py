# SPDX-License-Identifier: Apache-2.0
"""An instances_path that is not mounted, or another one, is told from one without guests."""

import os
import pathlib
import shutil
import time
import typing as ty

import pytest

from rbd_worker import errors
from rbd_worker.host import instances, mounted, trash
from tests.unit.host.trees import (
    LIMITS,
    UUID,
    Host,
    evidence,
    needs_root,
    open_descriptors,
    small_disk,
)


class Memory:
    """As much of a journal as the marker needs."""

    def __init__(self, known: str = "") -> None:
        self.known = known
        self.is_full = False

    def path_id(self) -> str:
        return self.known

    def keep_path_id(self, path_id: str) -> None:
        if self.is_full:
            raise errors.JournalUnusable(path="journal", reason="full", fix="Free space")
        self.known = path_id


@pytest.fixture
def memory() -> Memory:
    return Memory()


class Watched(Host):
    """A host whose instances_path is checked, as a running worker does it."""

    def __init__(self, path: pathlib.Path, memory: Memory, name: str = "node01") -> None:
        super().__init__(path)
        self.memory = memory
        self.name = name
        self.start()

    def start(self) -> None:
        self.marker = mounted.Marker(str(self.path), self.name, self.memory)
        self.directories = instances.Instances(str(self.path), LIMITS, self.marker.check)


@pytest.fixture
def watched(tmp_path: pathlib.Path, memory: Memory) -> Watched:
    host = Watched(tmp_path / "instances", memory)
    host.make(console_log=b"log")
    assert host.directories.names() == (UUID,)
    return host


def test_the_first_look_at_a_path_with_guests_leaves_an_id_in_it(watched: Watched) -> None:
    marker = watched.path / ".rbd-worker" / "hosts" / "node01"
    assert marker.read_text() == watched.memory.known != ""
    assert marker.stat().st_mode & 0o077 == 0


def test_an_empty_path_of_a_new_host_is_neither_marked_nor_refused(
        tmp_path: pathlib.Path, memory: Memory) -> None:
    host = Watched(tmp_path / "instances", memory)
    assert host.directories.names() == ()
    assert list(host.path.iterdir()) == [] and memory.known == ""


def test_a_mount_that_comes_after_the_workers_first_start_is_taken(
        tmp_path: pathlib.Path, memory: Memory) -> None:
    host = Watched(tmp_path / "instances", memory)
    host.directories.names()
    host.make()  # what the mount brings
    assert host.directories.names() == (UUID,) and memory.known


ACTIONS: dict[str, ty.Callable[[Watched], object]] = {
    "list the instances": lambda host: host.directories.names(),
    "pin a directory": lambda host: host.pin().close(),
    "open the worker's own area": lambda host: os.close(host.directories.area("staging")),
    "list the trash": lambda host: trash.Trash(host.directories, 0).list(),
    "purge the trash": lambda host: trash.Trash(host.directories, 0).purge(),
}


@needs_root
@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_is_done_in_an_empty_mount_point(tmp_path: pathlib.Path, memory: Memory,
                                                 action: str) -> None:
    path = tmp_path / "instances"
    with small_disk(path, "1m"):
        host = Watched(path, memory)
        host.make(console_log=b"log")
        ACTIONS[action](host)
    for _ in range(2):  # also by a worker that starts now
        before = open_descriptors()
        with pytest.raises(errors.InstancesPathAway) as caught:
            ACTIONS[action](host)
        assert open_descriptors() == before
        sentence = caught.value.sentence
        assert str(path) in sentence and "looks not mounted" in sentence and "empty" in sentence
        assert list(path.iterdir()) == []
        host.start()


@needs_root
def test_what_was_pinned_before_does_not_leave_after_the_path_was_replaced(
        watched: Watched, tmp_path: pathlib.Path) -> None:
    bin_ = trash.Trash(watched.directories, 0)
    with watched.pin() as pinned:
        watched.path.rename(tmp_path / "before")
        with small_disk(watched.path, "1m"):
            watched.make(console_log=b"of another disk")
            with pytest.raises(errors.InstancesPathAway, match="another file system"):
                bin_.take(pinned, evidence(), "m")
            assert [p.name for p in watched.path.iterdir()] == [UUID]
    assert (tmp_path / "before" / UUID / "console.log").read_bytes() == b"log"


@needs_root
def test_the_same_file_system_mounted_again_is_the_same(tmp_path: pathlib.Path,
                                                        memory: Memory) -> None:
    """Another device number and inode of the mount point; the id decides."""
    host = Watched(tmp_path / "instances", memory)
    host.make()
    host.directories.names()
    before = host.path.stat()
    with small_disk(tmp_path / "copy", "1m"):
        shutil.copytree(host.path, tmp_path / "copy", dirs_exist_ok=True)
        host.path.rename(tmp_path / "before")
        host.path.symlink_to(tmp_path / "copy")
        assert host.path.stat().st_dev != before.st_dev
        assert host.directories.names() == (UUID,)


def test_the_id_of_another_file_system_is_refused(watched: Watched) -> None:
    (watched.path / ".rbd-worker" / "hosts" / "node01").write_text("f" * 32)
    with pytest.raises(errors.InstancesPathAway, match="another id"):
        watched.directories.names()


def test_an_id_that_changes_under_a_worker_is_noticed(watched: Watched) -> None:
    """Only what tells one state of the file from another is looked at each time."""
    marker = watched.path / ".rbd-worker" / "hosts" / "node01"
    assert watched.directories.names() == watched.directories.names() == (UUID,)
    time.sleep(0.02)  # the kernel's change times have ticks
    marker.write_text("f" * len(watched.memory.known))
    for _ in range(2):
        with pytest.raises(errors.InstancesPathAway, match="another id"):
            watched.directories.names()
    marker.write_text(watched.memory.known)
    assert watched.directories.names() == (UUID,)
    marker.unlink()
    with pytest.raises(errors.InstancesPathAway, match="missing"):
        watched.directories.names()


def test_a_marker_that_is_a_link_counts_as_missing(watched: Watched,
                                                   tmp_path: pathlib.Path) -> None:
    marker = watched.path / ".rbd-worker" / "hosts" / "node01"
    marker.rename(tmp_path / "elsewhere")
    marker.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.InstancesPathAway):
        watched.directories.names()


def test_an_operator_may_accept_the_path_as_it_is(watched: Watched) -> None:
    shutil.rmtree(watched.path / ".rbd-worker")
    with pytest.raises(errors.InstancesPathAway, match="is missing"):
        watched.directories.names()
    mounted.accept(Host(watched.path).directories, "node01", watched.memory.known)
    assert watched.directories.names() == (UUID,)


def test_hosts_that_share_a_path_have_an_id_each(watched: Watched) -> None:
    other = Watched(watched.path, Memory(), "node02")
    assert other.directories.names() == (UUID,)
    assert watched.directories.names() == (UUID,)
    assert sorted(os.listdir(watched.path / ".rbd-worker" / "hosts")) == ["node01", "node02"]
    assert other.memory.known != watched.memory.known


def test_a_new_journal_takes_the_id_that_is_there(watched: Watched) -> None:
    """The remedy for a damaged journal is to move it away."""
    known, watched.memory = watched.memory.known, Memory()
    watched.start()
    assert watched.directories.names() == (UUID,)
    assert watched.memory.known == known


def test_a_journal_that_cannot_be_written_does_not_stop_the_work(
        tmp_path: pathlib.Path, memory: Memory) -> None:
    memory.is_full = True
    host = Watched(tmp_path / "instances", memory)
    host.make()
    assert host.directories.names() == (UUID,)
    memory.is_full = False
    assert host.directories.names() == (UUID,)
    assert memory.known == (host.path / ".rbd-worker" / "hosts" / "node01").read_text()
