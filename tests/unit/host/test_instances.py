# SPDX-License-Identifier: Apache-2.0
import os
import pathlib

import pytest

from rbd_worker import errors
from rbd_worker.host import instances
from tests.unit.host.trees import (
    LIMITS,
    NOBODY,
    OTHER,
    UUID,
    Host,
    as_nobody,
    needs_root,
    open_descriptors,
    world_readable,
)


def test_a_missing_directory_is_none(host: Host) -> None:
    assert host.directories.pin(UUID) is None


def test_a_missing_instances_path_is_an_error_and_not_a_missing_directory(
        tmp_path: pathlib.Path) -> None:
    directories = instances.Instances(str(tmp_path / "not mounted yet"), LIMITS)
    with pytest.raises(errors.Transient):
        directories.pin(UUID)


@pytest.mark.parametrize("name", [UUID.upper(), "..", "", f"../{UUID}", f"{UUID}/..", UUID + "\n",
                                  "base", ".rbd-worker"])
def test_only_a_canonical_uuid_can_be_pinned(host: Host, name: str) -> None:
    with pytest.raises(errors.BadInstanceUUID):
        host.directories.pin(name)


def test_a_directory_that_is_a_symbolic_link_is_refused(
        host: Host, tmp_path: pathlib.Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (host.path / UUID).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.UnsafeDirectory, match="symbolic link"):
        host.directories.pin(UUID)


def test_a_file_or_a_fifo_in_the_place_of_a_directory_is_refused(host: Host) -> None:
    (host.path / UUID).write_text("")
    os.mkfifo(host.path / OTHER)
    for name in (UUID, OTHER):
        with pytest.raises(errors.UnsafeDirectory):
            host.directories.pin(name)


def test_instances_path_may_be_a_link_that_is_turned_elsewhere(tmp_path: pathlib.Path) -> None:
    first, second = Host(tmp_path / "first"), Host(tmp_path / "second")
    first.make(UUID)
    second.make(OTHER)
    link = tmp_path / "link"
    link.symlink_to("first")
    directories = instances.Instances(str(link), LIMITS)
    assert directories.names() == (UUID,)
    link.unlink()
    link.symlink_to("second")
    assert directories.names() == (OTHER,)


def test_names_are_canonical_uuids_only(host: Host) -> None:
    host.make(UUID)
    host.make(OTHER)
    for name in ("_base", "locks", f"{UUID}_del", f"{UUID}_resize", UUID.upper(), ".rbd-worker"):
        (host.path / name).mkdir()
    os.mkdir(os.fsencode(host.path) + b"/\xff")
    assert host.directories.names() == (OTHER, UUID)


def test_a_pinned_directory_is_current_until_its_name_stands_for_another(host: Host) -> None:
    host.make()
    with host.pin() as directory:
        assert directory.is_current()
        os.rename(host.path / UUID, host.path / OTHER)
        assert not directory.is_current()
        host.make()
        assert not directory.is_current()


def test_pinning_leaves_no_descriptor_behind(host: Host) -> None:
    host.make()
    before = open_descriptors()
    with host.pin() as directory:
        directory.is_current()
        os.get_inheritable(directory.fd)
        assert not os.get_inheritable(directory.fd)
    os.close(host.directories.area("staging"))
    assert open_descriptors() == before


def test_an_area_is_made_for_this_user_alone(host: Host) -> None:
    os.close(host.directories.area("trash"))
    for path in (host.path / ".rbd-worker", host.path / ".rbd-worker" / "trash"):
        assert oct(path.stat().st_mode) == "0o40700"


def test_an_area_that_is_a_link_is_refused(host: Host, tmp_path: pathlib.Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (host.path / ".rbd-worker").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.UnsafeDirectory):
        host.directories.area("trash")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_an_area_that_others_can_write_into_is_refused(host: Host, mode: int) -> None:
    os.close(host.directories.area("trash"))
    (host.path / ".rbd-worker").chmod(mode)
    with pytest.raises(errors.AreaNotOwn) as caught:
        host.directories.area("trash")
    assert f"chmod go-w {host.path}/.rbd-worker" in caught.value.sentence


@needs_root
def test_an_area_of_another_user_is_refused(host: Host) -> None:
    os.close(host.directories.area("trash"))
    os.chown(host.path / ".rbd-worker" / "trash", NOBODY, NOBODY)
    with pytest.raises(errors.AreaNotOwn, match="does not belong to user"):
        host.directories.area("trash")


@needs_root
def test_what_an_operator_makes_as_root_belongs_to_the_workers_user(host: Host) -> None:
    os.chown(host.path, 4242, 4243)
    os.close(host.directories.area("trash"))
    for made in (host.path / ".rbd-worker", host.path / ".rbd-worker/trash"):
        assert (made.stat().st_uid, made.stat().st_gid) == (4242, 4243)


@needs_root
def test_root_may_look_into_the_area_of_the_workers_user(host: Host) -> None:
    os.close(host.directories.area("trash"))
    for path in (host.path, host.path / ".rbd-worker", host.path / ".rbd-worker/trash"):
        os.chown(path, 4242, 4242)
    os.close(host.directories.area("trash"))


@needs_root
def test_a_directory_without_permission_says_so() -> None:
    with world_readable() as path:
        host = Host(path / "instances")
        host.make().chmod(0o700)
        with pytest.raises(RuntimeError, match=f"AccessDenied.*{UUID}"):
            as_nobody(host.pin)
