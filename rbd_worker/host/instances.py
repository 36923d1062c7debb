# SPDX-License-Identifier: Apache-2.0
"""``instances_path`` and the instance directories directly below it.

``instances_path`` may be a symbolic link, or a mount that appears later, so it
is opened anew for each operation.  An instance directory is a canonical UUID
and a real directory; it is *pinned* by a descriptor, and whatever is done
afterwards is done to that very directory, whoever swaps names meanwhile.
"""

import dataclasses
import os
import stat
import types
import typing as ty

from rbd_worker import conf, errors, model
from rbd_worker.host import syscalls

#: The worker's own directory below instances_path: the same file system, so
#: that a rename into and out of it is atomic.
OWN = ".rbd-worker"


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one instance directory may hold to be carried along; sizes in bytes.

    :ivar max_files: files and directories together.
    :ivar max_data_bytes: holes not counted.
    :ivar max_file_bytes: apparent size of one file.
    :ivar inline_bytes: uncompressed content that travels inside one message.
    """

    max_files: int
    max_depth: int
    max_data_bytes: int
    max_file_bytes: int
    inline_bytes: int


class PinnedDirectory:
    """One instance directory, held by a descriptor until the ``with`` block ends.

    :ivar changed: when it was last changed, as it was pinned, in seconds since the epoch.
    """

    def __init__(self, instances_path: str, instance: str, fd: int) -> None:
        status = os.fstat(fd)
        self.instance = instance
        self.fd = fd
        self.device = status.st_dev
        self.inode = status.st_ino
        self.changed = status.st_ctime
        self.label = f"{instances_path}/{instance}"
        self._instances_path = instances_path

    @property
    def identity(self) -> syscalls.Identity:
        return self.device, self.inode

    @property
    def lasting_identity(self) -> list[int]:
        """Also true of no later directory, where the file system can tell: to be journaled."""
        return syscalls.lasting_identity(self.fd)

    def is_journaled(self, identity: list[int]) -> bool:
        """Whether it is the one of that lasting identity; earlier versions wrote less of it."""
        return self.lasting_identity[:len(identity)] == identity

    def is_current(self) -> bool:
        """True while the instance's name stands for this very directory."""
        with (syscalls.translated(self._instances_path),
              syscalls.held(_open_followed(self._instances_path)) as base):
            return syscalls.identity(self.instance, base) == self.identity

    def close(self) -> None:
        """Let go of it; safe to repeat."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> ty.Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        self.close()


class Instances:
    """Thread-safe; it remembers nothing but its settings.

    :param check: called with a descriptor of instances_path whenever that is
        opened; it raises where the path is not what it was.
    """

    def __init__(self, path: str, limits: Limits,
                 check: ty.Callable[[int], None] | None = None) -> None:
        self.path = path
        self.limits = limits
        self._check = check

    def pin(self, instance: str) -> PinnedDirectory | None:
        """Hold the instance's directory; None where there is none.

        :raises errors.BadInstanceUUID: the name is not a canonical UUID.
        :raises errors.UnsafeDirectory: something else stands under its name.
        """
        model.canonical_uuid(instance)
        with self.opened() as base, syscalls.translated(f"{self.path}/{instance}"):
            try:
                fd = syscalls.open_directory(instance, base)
            except FileNotFoundError:
                return None
            return PinnedDirectory(self.path, instance, fd)

    def names(self) -> tuple[str, ...]:
        """Every name that is a canonical UUID, sorted; other names are not ours."""
        with self.opened() as base, syscalls.translated(self.path), os.scandir(base) as listing:
            return tuple(sorted(entry.name for entry in listing if self.is_name(entry.name)))

    def has_resize(self, instance: str) -> bool:
        """Whether Nova has put a directory of the guest aside, as it does until a resize ends."""
        with self.opened() as base, syscalls.translated(self.path):
            return syscalls.identity(f"{instance}_resize", base) is not None

    def sync(self) -> None:
        """Every name in instances_path survives a power failure."""
        with self.opened() as base, syscalls.translated(self.path):
            os.fsync(base)

    def area(self, name: str) -> int:
        """A descriptor of the worker's own directory ``.rbd-worker/<name>``, made if missing.

        :raises errors.AreaNotOwn: others could write there.
        """
        with (self.opened() as base,
              syscalls.held(private_directory(OWN, base, f"{self.path}/{OWN}")) as own):
            return private_directory(name, own, f"{self.path}/{OWN}/{name}")

    def has_area(self, name: str) -> bool:
        """Whether there is ``.rbd-worker/<name>``: for what would only look for nothing there.

        A full or read-only disk has no room to make it.
        """
        with self.opened() as base, syscalls.translated(self.path):
            return syscalls.identity(f"{OWN}/{name}", base) is not None

    def opened(self) -> "_Opened":
        """A descriptor of instances_path as it is now, until the block ends.

        :raises errors.InstancesPathAway: it is not what it was.
        """
        return _Opened(self.path, self._check)

    @staticmethod
    def is_name(name: str) -> bool:
        """Whether it can be an instance directory's."""
        try:
            model.canonical_uuid(name)
        except errors.BadInstanceUUID:
            return False
        return True


class _Opened:  # a class, for a migration enters some hundred of these
    __slots__ = ("_base", "_check", "_path")

    def __init__(self, path: str, check: ty.Callable[[int], None] | None) -> None:
        self._path = path
        self._check = check

    def __enter__(self) -> int:
        with syscalls.translated(self._path):
            self._base = _open_followed(self._path)
        if self._check is not None:
            try:
                self._check(self._base)
            except BaseException:
                os.close(self._base)
                raise
        return self._base

    def __exit__(self, *_: object) -> None:
        os.close(self._base)


def of(settings: conf.Settings, check: ty.Callable[[int], None] | None = None) -> Instances:
    """The instances of a host with these settings; ``check`` as in :class:`Instances`."""
    return Instances(settings.instances_path, Limits(
        max_files=settings.max_files, max_depth=settings.max_depth,
        max_data_bytes=settings.max_data_bytes, max_file_bytes=settings.max_file_bytes,
        inline_bytes=settings.inline_bytes), check)


def _open_followed(path: str) -> int:
    """The operator chose this path, so links in it are followed."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def private_directory(name: str, dir_fd: int, label: str) -> int:
    """Open a directory that only this worker's user may write into, made if missing.

    :raises errors.AreaNotOwn: others could write there.
    """
    with syscalls.translated(label):
        try:
            fd = syscalls.open_directory(name, dir_fd)
        except FileNotFoundError:
            fd = syscalls.ensure_directory(name, dir_fd)
            os.fsync(dir_fd)  # what is later made durable in it has to be found again
        give_to_worker(fd, dir_fd)
    status = os.fstat(fd)
    if _is_workers(status, dir_fd) and not stat.S_IMODE(status.st_mode) & 0o022:
        return fd
    os.close(fd)
    raise errors.AreaNotOwn(path=label, user=os.geteuid())


def give_to_worker(fd: int, dir_fd: int) -> None:
    """What an operator makes as root belongs to the worker's user, as what is around it does."""
    if os.geteuid() != 0:
        return
    around = os.fstat(dir_fd)
    if around.st_uid != 0 == os.fstat(fd).st_uid:
        os.fchown(fd, around.st_uid, around.st_gid)


def _is_workers(status: os.stat_result, dir_fd: int) -> bool:
    """The worker may run as this process, or, where that is root, as the directory's owner."""
    user = os.geteuid()
    return status.st_uid == user or (user == 0 and status.st_uid == os.fstat(dir_fd).st_uid)
