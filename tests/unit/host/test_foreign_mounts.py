# SPDX-License-Identifier: Apache-2.0
"""What is bind-mounted into an instance directory is somebody else's; its device is the same."""

import contextlib
import os
import pathlib
import subprocess
import typing as ty

import pytest

from rbd_worker import errors
from rbd_worker.host import mounts, removal, trash
from tests.unit.host.trees import (
    UUID,
    Host,
    evidence,
    in_trash,
    needs_root,
    snapshot,
)

pytestmark = needs_root


@contextlib.contextmanager
def _bound(what: pathlib.Path, where: pathlib.Path) -> ty.Iterator[None]:
    subprocess.run(["mount", "--bind", what, where], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", where], check=True)


@pytest.fixture
def foreign(tmp_path: pathlib.Path) -> pathlib.Path:
    directory = tmp_path / "foreign"
    (directory / "inner").mkdir(mode=0o755, parents=True)
    (directory / "inner" / "precious").write_bytes(b"precious")
    return directory


@pytest.mark.parametrize("place", ["mounted", "one/two"])
def test_a_mounted_directory_is_neither_carried_nor_moved_to_the_trash(
        host: Host, bin_: trash.Trash, foreign: pathlib.Path, place: str) -> None:
    where = host.make(console_log=b"log") / place
    where.mkdir(parents=True)
    with _bound(foreign, where):
        before = snapshot(host.path / UUID)
        with pytest.raises(errors.UnsafeDirectory, match=f"{place}: something is mounted there"):
            host.pinned()
        with host.pin() as pinned, pytest.raises(errors.MountedThere, match=place):
            bin_.take(pinned, evidence(), "m")
        assert snapshot(host.path / UUID) == before
        assert in_trash(host) == []


def test_a_mounted_file_is_not_carried(host: Host, foreign: pathlib.Path) -> None:
    directory = host.make(disk_config=b"")
    with (_bound(foreign / "inner" / "precious", directory / "disk.config"),
          pytest.raises(errors.UnsafeDirectory, match="config: something is mounted there")):
        host.pinned()


@pytest.mark.parametrize("place", ["mounted", "one/mounted", "one/two/mounted"])
def test_a_removal_leaves_what_is_mounted_as_it_is(
        tmp_path: pathlib.Path, foreign: pathlib.Path, place: str) -> None:
    where = tmp_path / "tree" / place
    where.mkdir(parents=True)
    before = snapshot(foreign)
    base = os.open(tmp_path, os.O_RDONLY)
    tree = os.open(tmp_path / "tree", os.O_RDONLY)
    subprocess.run(["mount", "--bind", foreign, where], check=True)
    try:
        with pytest.raises(OSError, match="busy"):
            removal.remove_tree("tree", base)
        assert snapshot(foreign) == before
    finally:
        (point,) = mounts.below(tree)  # what is above it may have been renamed
        subprocess.run(["umount", tmp_path / "tree" / point], check=True)
        os.close(tree)
    assert removal.remove_tree("tree", base)
    os.close(base)
    assert snapshot(foreign) == before


def test_mount_points_with_blanks_and_such_are_told_as_they_are(
        tmp_path: pathlib.Path, foreign: pathlib.Path) -> None:
    name = "a b\tc\\d\nö"
    top = tmp_path / f"top {name}"
    (top / name).mkdir(parents=True)
    (tmp_path / f"{top.name}.beside").mkdir()
    fd = os.open(top, os.O_RDONLY)
    assert mounts.below(fd) == frozenset()
    with (_bound(foreign, top / name), _bound(foreign, tmp_path / f"{top.name}.beside")):
        assert mounts.below(fd) == {name}
    os.close(fd)


def test_a_mount_point_is_told_whatever_characters_its_name_has(
        host: Host, foreign: pathlib.Path) -> None:
    where = host.make() / "a\rb c\nd\\e"
    where.mkdir()
    with _bound(foreign, where), host.pin() as pinned:
        assert mounts.below(pinned.fd) == {where.name}
