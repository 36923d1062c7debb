# SPDX-License-Identifier: Apache-2.0
import errno
import os
import pathlib
import typing as ty

import pytest

from rbd_worker import errors
from rbd_worker.host import syscalls
from tests.unit.host.trees import needs_root, open_descriptors, small_disk


@pytest.fixture
def base(tmp_path: pathlib.Path) -> ty.Iterator[int]:
    with syscalls.held(os.open(tmp_path, os.O_RDONLY)) as fd:
        yield fd


def test_only_a_regular_file_is_opened(base: int, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    before = open_descriptors()
    for name in ("link", "directory", "fifo"):
        assert syscalls.open_regular(name, base) is None
    assert open_descriptors() == before
    fd = syscalls.open_regular("file", base)
    assert fd is not None and os.read(fd, 9) == b"x"
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_no_directory_on_the_way_is_a_link(base: int, tmp_path: pathlib.Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("outside")
    assert syscalls.open_below("link/file", base) is None
    assert syscalls.open_below("outside/file/x", base) is None
    assert syscalls.open_below("outside/absent", base) is None
    fd = syscalls.open_below("outside/file", base)
    assert fd is not None
    os.close(fd)


@pytest.mark.parametrize("stands", ["file", "directory", "link"])
def test_a_rename_replaces_nothing(base: int, tmp_path: pathlib.Path, stands: str) -> None:
    (tmp_path / "new").mkdir()
    {"file": (tmp_path / "old").touch, "directory": (tmp_path / "old").mkdir,
     "link": lambda: (tmp_path / "old").symlink_to("nowhere")}[stands]()
    before = (tmp_path / "old").lstat()
    for rename in (syscalls.rename_noreplace, syscalls.move_file_noreplace):
        with pytest.raises(FileExistsError):
            rename("new", base, "old", base)
    assert (tmp_path / "old").lstat().st_ino == before.st_ino


@pytest.mark.parametrize(("number", "kind"), [
    (errno.ENOSPC, errors.NoSpace), (errno.EDQUOT, errors.QuotaReached),
    (errno.EACCES, errors.AccessDenied), (errno.EPERM, errors.AccessDenied),
    (errno.EBUSY, errors.MountedThere), (errno.EXDEV, errors.NotOneFileSystem),
    (errno.ELOOP, errors.UnsafeDirectory), (errno.EROFS, errors.FileSystemReadOnly),
    (errno.EIO, errors.DiskFailed), (errno.ESTALE, errors.DiskFailed),
    (errno.EMFILE, errors.FileSystemFailed)])
def test_what_the_kernel_says_becomes_an_error_of_ours(
        number: int, kind: type[errors.Error]) -> None:
    with pytest.raises(kind, match="/some/path") as caught, syscalls.translated("/some/path"):
        raise OSError(number, os.strerror(number))
    assert isinstance(caught.value.__cause__, OSError)


def test_strange_names_are_printable(tmp_path: pathlib.Path) -> None:
    strange = os.fsdecode(b"caf\xe9\n\x1b[31m")
    assert syscalls.printable(strange) == r"caf\xe9\n\x1b[31m"


@needs_root
def test_another_file_system_is_a_failure_and_not_a_copy(
        base: int, tmp_path: pathlib.Path) -> None:
    with small_disk(tmp_path / "disk", "1m"):
        (tmp_path / "file").touch()
        with (pytest.raises(OSError, match="cross-device"),
              syscalls.held(os.open(tmp_path / "disk", os.O_RDONLY)) as other):
            syscalls.rename_noreplace("file", base, "file", other)
    assert (tmp_path / "file").exists()
