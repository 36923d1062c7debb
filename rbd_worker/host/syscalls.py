# SPDX-License-Identifier: Apache-2.0
"""The system calls on which the safety of all file work rests, each made in one way.

Everything is relative to an open directory, no symbolic link is followed, no
descriptor is inherited, and nothing but a regular file or a directory is ever
opened for reading: what a name stands for is looked at through an ``O_PATH``
descriptor, which has no side effects on devices and fifos, and exactly that
object is then opened.  Renames that may not replace anything say so to the
kernel.  What this process has no right to is tried again by the deputy, in
the same way.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import sys

from rbd_worker import errors
from rbd_worker.host import deputy

#: Flags of renameat2(2).
NOREPLACE = 1
EXCHANGE = 2
#: What the kernel says where a file system does not know a rename flag.
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)

_ERRORS: dict[int, type[errors.Error]] = {
    errno.ENOSPC: errors.NoSpace, errno.EDQUOT: errors.QuotaReached,
    errno.EACCES: errors.AccessDenied, errno.EPERM: errors.AccessDenied,
    errno.EBUSY: errors.MountedThere, errno.EXDEV: errors.NotOneFileSystem,
    errno.EROFS: errors.FileSystemReadOnly, errno.EIO: errors.DiskFailed,
    errno.EUCLEAN: errors.DiskFailed, errno.ESTALE: errors.DiskFailed}

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: Device and inode.
Identity = tuple[int, int]

#: FS_IOC_GETVERSION of ioctl_fs(2) where a long has 8 bytes.
_GET_GENERATION = 0x80087601

_libc = ctypes.CDLL(None, use_errno=True)


class translated:  # a class, as held: a migration enters some hundred of these
    """Turn what the kernel says about ``path`` into this worker's errors."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise translate(self._path, error) from error


def translate(path: str, e: OSError) -> errors.Error:
    path = printable(path)
    if is_in_the_way(e):
        return errors.UnsafeDirectory(path=path, reason="it is a symbolic link or no directory")
    kind = _ERRORS.get(e.errno or 0, errors.FileSystemFailed)
    return kind(path=path, reason=e.strerror or str(e))


def is_in_the_way(e: OSError) -> bool:
    """A link or a file stands where a directory was looked for."""
    return e.errno in (errno.ELOOP, errno.ENOTDIR)


def printable(path: str) -> str:
    """``path`` for people and logs: no control characters, no broken encoding."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def name_of(fd: int) -> str:
    """The path of an open file as the kernel knows it now, for people."""
    return printable(os.readlink(f"/proc/self/fd/{fd}"))


class held:
    """Close ``descriptor`` at the end of the block."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


@deputy.asked_when_refused(deputy.open_directory)
def open_directory(name: str, dir_fd: int) -> int:
    """Open a directory for listing; OSError (ELOOP, ENOTDIR) for anything else."""
    return os.open(name, _DIRECTORY, dir_fd=dir_fd)


def ensure_directory(name: str, dir_fd: int, mode: int = 0o700) -> int:
    """Open the directory ``name``, made if it is missing."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=dir_fd)
    return open_directory(name, dir_fd)


@deputy.asked_when_refused(deputy.open_regular)
def open_regular(name: str, dir_fd: int) -> int | None:
    """Open a regular file for reading; None where ``name`` is something else."""
    with held(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)) as seen:
        if not stat.S_ISREG(os.fstat(seen).st_mode):
            return None
        return os.open(f"/proc/self/fd/{seen}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def create_file(name: str, dir_fd: int, mode: int = 0o600) -> int:
    """Make a new file, open for reading and writing; FileExistsError where one stands."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, mode, dir_fd=dir_fd)


class parent_of:
    """The directory that holds ``path`` below ``root``, opened name by name, and the last name."""

    __slots__ = ("_current", "_path", "_root")

    def __init__(self, path: str, root: int) -> None:
        self._path = path
        self._root = root

    def __enter__(self) -> tuple[int, str]:
        *parents, name = self._path.split("/")
        self._current = os.dup(self._root)
        try:
            for parent in parents:
                following = open_directory(parent, self._current)
                os.close(self._current)
                self._current = following
        except BaseException:
            os.close(self._current)
            raise
        return self._current, name

    def __exit__(self, *_: object) -> None:
        os.close(self._current)


def open_below(path: str, root: int) -> int | None:
    """Open a regular file some levels below ``root``; None where there is none."""
    try:
        with parent_of(path, root) as (parent, name):
            return open_regular(name, parent)
    except FileNotFoundError:
        return None
    except OSError as e:
        if is_in_the_way(e):
            return None
        raise


@deputy.asked_when_refused(deputy.status)
def status(name: str, dir_fd: int) -> os.stat_result:
    """What stands under ``name``, links not followed."""
    return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)


def identity(name: str, dir_fd: int) -> Identity | None:
    """What stands under ``name``, links not followed; None for nothing."""
    try:
        found = status(name, dir_fd)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def lasting_identity(fd: int) -> list[int]:
    """Device, inode and generation: true of no later file, where the file system can tell.

    ext4 and XFS give the number of a directory that was removed to the very next one.
    """
    status = os.fstat(fd)
    return [status.st_dev, status.st_ino, generation(fd)]


def generation(fd: int) -> int:
    """What tells a file from an earlier one whose inode it has; 0 where nothing does."""
    answer = bytearray(8)
    try:
        fcntl.ioctl(fd, _GET_GENERATION, answer)
    except OSError:
        return 0
    return int.from_bytes(answer[:4], sys.byteorder)


@deputy.asked_when_refused(deputy.set_attributes)
def set_attributes(fd: int, uid: int, gid: int, mode: int, mtime_ns: int = 0) -> None:
    """Give an open file or directory its mode, its time and, last, its owner.

    In this order, since only the owner may set the first two.

    :param mtime_ns: nanoseconds since the epoch; 0 leaves it.
    """
    before = os.fstat(fd)
    if stat.S_IMODE(before.st_mode) != mode:
        os.fchmod(fd, mode)
    if mtime_ns and before.st_mtime_ns != mtime_ns:
        os.utime(fd, ns=(mtime_ns, mtime_ns))
    if (before.st_uid, before.st_gid) != (uid, gid):
        os.fchown(fd, uid, gid)


@deputy.asked_when_refused(deputy.set_own)
def set_own(directory: int) -> None:
    """This process can change a directory of its own area, whoever had it; ``O_PATH`` will do."""
    os.chmod(f"/proc/self/fd/{directory}", 0o700)


@deputy.asked_when_refused(deputy.unlink)
def unlink(name: str, dir_fd: int) -> None:
    os.unlink(name, dir_fd=dir_fd)


@deputy.asked_when_refused(deputy.rmdir)
def rmdir(name: str, dir_fd: int) -> None:
    os.rmdir(name, dir_fd=dir_fd)


@deputy.asked_when_refused(deputy.rename)
def rename(name: str, dir_fd: int, new_name: str, new_dir_fd: int) -> None:
    """Rename; what stands under the new name is replaced."""
    os.rename(name, new_name, src_dir_fd=dir_fd, dst_dir_fd=new_dir_fd)


def rename_noreplace(name: str, dir_fd: int, new_name: str, new_dir_fd: int) -> None:
    """Rename atomically, and only if nothing stands under the new name.

    :raises FileExistsError: something does; nothing was done.
    :raises errors.FileSystemUnfit: this file system cannot promise it.
    """
    _rename_if(name, dir_fd, new_name, new_dir_fd, NOREPLACE)


def exchange(name: str, dir_fd: int, new_name: str, new_dir_fd: int) -> None:
    """Swap two names atomically.

    :raises errors.FileSystemUnfit: this file system cannot.
    """
    _rename_if(name, dir_fd, new_name, new_dir_fd, EXCHANGE)


def move_file_noreplace(name: str, dir_fd: int, new_name: str, new_dir_fd: int) -> None:
    """``rename_noreplace`` for a file, also where the file system knows only links (NFS)."""
    try:
        rename_noreplace(name, dir_fd, new_name, new_dir_fd)
    except errors.FileSystemUnfit:
        os.link(name, new_name, src_dir_fd=dir_fd, dst_dir_fd=new_dir_fd, follow_symlinks=False)
        os.unlink(name, dir_fd=dir_fd)


def move_directory(name: str, dir_fd: int, new_name: str, new_dir_fd: int) -> None:
    """``rename_noreplace`` for a directory; without kernel support it may replace an empty one.

    Nothing but an empty directory can be lost: a plain rename of a directory
    fails where a file or a directory with something in it stands.
    """
    try:
        rename_noreplace(name, dir_fd, new_name, new_dir_fd)
    except errors.FileSystemUnfit:
        os.rename(name, new_name, src_dir_fd=dir_fd, dst_dir_fd=new_dir_fd)


def _rename_if(name: str, dir_fd: int, new_name: str, new_dir_fd: int, flags: int) -> None:
    try:
        _renameat2(name, dir_fd, new_name, new_dir_fd, flags)
    except OSError as e:
        if e.errno not in _UNSUPPORTED:
            raise
        wish = "rename without replacing" if flags == NOREPLACE else "exchange two names"
        raise errors.FileSystemUnfit(path=printable(new_name), wish=wish) from e


@deputy.asked_when_refused(deputy.renameat2)
def _renameat2(name: str, dir_fd: int, new_name: str, new_dir_fd: int, flags: int) -> None:
    rename_as_it_is(name, dir_fd, new_name, new_dir_fd, flags)


def rename_as_it_is(name: str, dir_fd: int, new_name: str, new_dir_fd: int, flags: int) -> None:
    """renameat2(2); OSError with what the kernel says, EINVAL or ENOSYS for unknown flags."""
    call = getattr(_libc, "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), new_name)
    if call(dir_fd, os.fsencode(name), new_dir_fd, os.fsencode(new_name), flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), new_name)
