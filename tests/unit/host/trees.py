# SPDX-License-Identifier: Apache-2.0
"""Two hosts' instances_path as real directories, and ways to make trouble in them."""

import contextlib
import os
import pathlib
import pickle
import subprocess
import tempfile
import threading
import typing as ty

import pytest

from rbd_worker.host import instances, trash, walk
from rbd_worker.model import Evidence, Fact, Verdict
from rpcapi.payloads import Chunk, FileEntry

UUID = "6a5b3c1d-0f2e-4d3c-8b7a-9e8f7d6c5b4a"
OTHER = "0c9d8e7f-1a2b-4c3d-9e4f-5a6b7c8d9e0f"
LIMITS = instances.Limits(max_files=64, max_depth=4, max_data_bytes=64 << 20,
                          max_file_bytes=2 << 40, inline_bytes=4 << 20)
NOBODY = 65534
DAY = 86400

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Host:
    """One host's instances_path below ``tmp_path``."""

    def __init__(self, path: pathlib.Path, limits: instances.Limits = LIMITS) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        self.directories = instances.Instances(str(path), limits)

    def make(self, instance: str = UUID, **files: bytes) -> pathlib.Path:
        """The instance's directory with files; ``console_log`` stands for ``console.log``."""
        directory = self.path / instance
        directory.mkdir(exist_ok=True)
        for name, content in files.items():
            (directory / name.replace("__", "/").replace("_", ".")).write_bytes(content)
        return directory

    def pin(self, instance: str = UUID) -> instances.PinnedDirectory:
        directory = self.directories.pin(instance)
        assert directory is not None
        return directory

    def pinned(self, instance: str = UUID) -> walk.PinnedFiles:
        with self.pin(instance) as directory:
            return walk.pin_files(directory, self.directories.limits)


class Clock:
    """A clock that is set by hand; 1_700_000_000 is 2023-11-14 22:13:20 UTC."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def evidence(instance: str = UUID, verdict: Verdict = Verdict.YES) -> Evidence:
    facts = [Fact(name, Verdict.YES, f"{name} agrees")
             for name in ("libvirt here", "holder", "watchers")]
    return Evidence(instance, (*facts, Fact("path", verdict, "path speaks")))


def take(host: Host, bin_: trash.Trash, instance: str = UUID) -> trash.Item:
    with host.pin(instance) as directory:
        return bin_.take(directory, evidence(instance), "migration-1")


def in_trash(host: Host) -> list[str]:
    return sorted(p.name for p in (host.path / ".rbd-worker" / "trash").iterdir())


def never(entry: FileEntry, offset: int) -> Chunk:
    """A fetch for tests in which nothing may be pulled."""
    raise AssertionError(f"{entry.path} was pulled at {offset}")


def snapshot(directory: pathlib.Path) -> dict[str, ty.Any]:
    """Everything that a user sees of a tree: content, mode, owner and times."""
    seen: dict[str, ty.Any] = {}
    for path in [directory, *sorted(directory.rglob("*"))]:
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else None
        seen[str(path.relative_to(directory))] = (
            content, oct(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns)
    return seen


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def meanwhile(action: ty.Callable[[], None]) -> ty.Iterator[None]:
    """Repeat ``action`` in another thread, as fast as it goes, until the block ends."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                action()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def small_disk(path: pathlib.Path, size: str) -> ty.Iterator[None]:
    """A tmpfs of its own at ``path``."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(path)],
                   check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


class FailingDisk:
    """An ext4 of its own at ``path`` whose new blocks cannot be written while it fails.

    Its names and what stands on it already can.  The disk is a file in memory for which
    there is no more memory then.
    """

    _MIB = 48

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._memory = path.with_name(path.name + ".memory")
        self._filler = self._memory / "filler"

    def __enter__(self) -> ty.Self:
        self._memory.mkdir()
        _run("mount", "-t", "tmpfs", "-o", f"size={self._MIB + 4}m", "tmpfs", self._memory)
        image = self._memory / "image"
        image.write_bytes(b"x" * (self._MIB << 20))
        _run("mkfs.ext4", "-q", "-F", "-E", "nodiscard", "-J", "size=4", image)
        with image.open("r+b") as file:  # every block is there, also where mkfs left holes
            content = file.read()
            file.seek(0)
            file.write(content)
        self._path.mkdir()
        _run("mount", "-o", "loop", image, self._path)
        _run("fstrim", self._path)  # what is free here is free memory
        return self

    @property
    def device(self) -> str:
        return subprocess.check_output(
            ["findmnt", "-n", "-o", "SOURCE", self._path], text=True).strip()

    def fail(self) -> None:
        os.sync()
        with self._filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)

    def recover(self) -> None:
        self._filler.unlink()

    def forget(self) -> None:
        """What is in memory only is gone."""
        os.sync()
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("1")

    def __exit__(self, *_: object) -> None:
        _run("umount", self._path)
        _run("umount", "--lazy", self._memory)  # the loop device lets go in its own time


def _run(*command: str | pathlib.Path) -> None:
    subprocess.run(command, check=True)


@contextlib.contextmanager
def world_readable() -> ty.Iterator[pathlib.Path]:
    """A directory that another user can reach, which pytest's are not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield pathlib.Path(name)


def as_nobody(action: ty.Callable[[], object]) -> object:
    """What ``action`` returns or raises when the user ``nobody`` runs it, in a child process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            answer: object = (True, action())
        except BaseException as e:
            answer = (False, (type(e).__name__, str(e)))
        os.write(writer, pickle.dumps(answer))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        went_well, result = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    if not went_well:
        raise RuntimeError(*result)
    return result
