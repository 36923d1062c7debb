# SPDX-License-Identifier: Apache-2.0
"""What is refused, by name, before anything is read."""

import dataclasses
import os
import pathlib
import socket
import tempfile
import time

import pytest

from devstack.lab import processes
from rbd_worker import errors
from tests.unit.host.trees import (
    LIMITS,
    UUID,
    Host,
    as_nobody,
    needs_root,
    open_descriptors,
    small_disk,
    world_readable,
)


def limited(tmp_path: pathlib.Path, **changes: int) -> Host:
    return Host(tmp_path / "instances", dataclasses.replace(LIMITS, **changes))


def test_a_symbolic_link_is_refused_by_name(host: Host) -> None:
    (host.make() / "disk.info").symlink_to("/etc/passwd")
    with pytest.raises(errors.UnsafeDirectory, match=r"disk\.info: it is a symbolic link"):
        host.pinned()


def test_fifos_and_sockets_are_refused_without_waiting(
        host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    fifo, sock = host.make() / "fifo", host.path / UUID / "socket"
    os.mkfifo(fifo)
    with pytest.raises(errors.UnsafeDirectory, match="a fifo"):
        host.pinned()
    fifo.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(host.path / UUID)  # the path is too long for a socket's address
        listener.bind("socket")
    assert sock.exists()
    with pytest.raises(errors.UnsafeDirectory, match="a socket"):
        host.pinned()


@needs_root
def test_a_device_is_refused(host: Host) -> None:
    os.mknod(host.make() / "null", 0o20666, os.makedev(1, 3))
    with pytest.raises(errors.UnsafeDirectory, match="a character device"):
        host.pinned()


@pytest.mark.parametrize("name", ["console.log", "console.log.0"])
def test_a_directory_in_the_place_of_a_log_is_refused_by_name(host: Host, name: str) -> None:
    """The other end would refuse the whole list of files, and say no name."""
    (host.make() / name).mkdir()
    with pytest.raises(errors.UnsafeDirectory, match=rf"{name}: it is a directory"):
        host.pinned()


def test_a_name_that_is_not_utf8_is_refused(host: Host) -> None:
    with open(os.fsencode(host.make()) + b"/caf\xe9", "wb"):
        pass
    with pytest.raises(errors.UnsafeDirectory, match=r"caf\\xe9: its name is not UTF-8"):
        host.pinned()


def test_100000_files_are_refused_as_fast_as_a_few(tmp_path: pathlib.Path) -> None:
    in_memory = "/dev/shm" if os.path.isdir("/dev/shm") else tmp_path  # quick to make and remove
    with tempfile.TemporaryDirectory(dir=in_memory) as path:
        host = Host(pathlib.Path(path))
        directory = host.make()
        for number in range(100_000):
            os.mknod(directory / f"{number}")
        began = time.thread_time()
        with pytest.raises(errors.DirectoryTooLarge) as caught:
            host.pinned()
        # of the processor: others may use it too
        assert time.thread_time() - began < processes.patience(0.05)
    assert "max_files" in caught.value.sentence


def test_files_in_all_directories_count_together(tmp_path: pathlib.Path) -> None:
    host = limited(tmp_path, max_files=3)
    directory = host.make(a=b"")
    (directory / "d").mkdir()
    (directory / "d" / "b").write_bytes(b"")
    host.pinned().close()
    (directory / "d" / "c").write_bytes(b"")
    with pytest.raises(errors.DirectoryTooLarge, match="more than 3 files"):
        host.pinned()


def test_a_directory_that_is_too_deep_is_refused(tmp_path: pathlib.Path) -> None:
    host = limited(tmp_path, max_depth=2)
    (host.make() / "1" / "2").mkdir(parents=True)
    (host.path / UUID / "1" / "2" / "file").write_bytes(b"")
    host.pinned().close()
    (host.path / UUID / "1" / "2" / "3").mkdir()
    with pytest.raises(errors.DirectoryTooLarge) as caught:
        host.pinned()
    assert "max_depth" in caught.value.sentence


def test_a_file_that_is_too_large_is_refused_by_its_apparent_size(tmp_path: pathlib.Path) -> None:
    host = limited(tmp_path, max_file_bytes=1 << 30)
    os.truncate(host.make(disk=b"") / "disk", (1 << 30) + 1)
    with pytest.raises(errors.DirectoryTooLarge) as caught:
        host.pinned()
    assert "max_file_gib" in caught.value.sentence


def test_data_is_limited_and_holes_are_not(tmp_path: pathlib.Path) -> None:
    host = limited(tmp_path, max_data_bytes=1 << 20)
    directory = host.make(disk=b"")
    os.truncate(directory / "disk", 1 << 40)
    host.pinned().close()
    (directory / "more").write_bytes(b"x" * (2 << 20))
    with pytest.raises(errors.DirectoryTooLarge) as caught:
        host.pinned()
    assert "max_data_gib" in caught.value.sentence


@needs_root
def test_a_file_without_permission_says_so() -> None:
    with world_readable() as path:
        host = Host(path / "instances")
        (host.make(secret=b"x") / "secret").chmod(0o600)
        with pytest.raises(RuntimeError, match=f"AccessDenied.*{UUID}/secret"):
            as_nobody(host.pinned)


def test_a_refusal_leaves_no_descriptor_open(host: Host) -> None:
    (host.make(a=b"1", b=b"2") / "z").symlink_to("a")
    before = open_descriptors()
    with pytest.raises(errors.UnsafeDirectory):
        host.pinned()
    assert open_descriptors() == before


@needs_root
def test_another_file_system_below_the_directory_is_refused(host: Host) -> None:
    with (small_disk(host.make() / "mounted", "1m"),
          pytest.raises(errors.UnsafeDirectory, match="mounted: it is on another file system")):
        host.pinned()
