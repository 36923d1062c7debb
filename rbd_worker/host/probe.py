# SPDX-License-Identifier: Apache-2.0
"""Do two hosts see the same directory?  Compared at the moment it matters.

Two independent looks.  One host lays down a file with a random name; if the
other sees it, they share ``instances_path``.  And both tell inode, change time
and file system of the instance directory, which finds one that is shared by
another way (mounts that differ, an ``instances_path`` that differs).

What is relied upon with NFS: a name that a client never looked up cannot be in
its cache of absent names, so the first look for a random nonce reaches the
server; the directory that holds it was opened just before by the same host,
made if missing, so that it is not cached as absent either.  Inode and change
time are the server's, hence equal on all clients; the number of the file
system may not be (Linux gives 0 for NFS, others may differ).

Doubt is UNKNOWN, which nobody takes as leave to copy or remove.
"""

import contextlib
import os
import re
import secrets
import stat
import time
import typing as ty

from rbd_worker import errors
from rbd_worker.host import syscalls
from rbd_worker.host.instances import Instances
from rbd_worker.model import Fact, Verdict
from rpcapi.payloads import PathProbe

_AREA = "nonce"
_NONCE = re.compile(r"[0-9a-f]{32}\Z")
#: Seconds after which a nonce is of a worker that was killed.
_STALE = 3600
_WITNESS = "path"


class Nonce:
    """A file for the peer to look for, there until it is closed.

    :ivar probe: its name, and the identity of the instance's directory as it was laid down.
    :raises errors.Error: it could not be laid down.
    """

    def __init__(self, directories: Instances, instance: str) -> None:
        self._name = secrets.token_hex(16)
        self._label = f"{directories.path} ({_AREA})"
        self._area = directories.area(_AREA)
        try:
            with syscalls.translated(self._label):
                _remove_stale(self._area)
                os.close(syscalls.create_file(self._name, self._area))
        except BaseException:
            os.close(self._area)
            raise
        try:
            self.probe = _identity(directories, instance, self._name)
        except BaseException:
            self.close()
            raise

    def renew(self) -> None:
        """There for one more question, whatever was taken for stale since the last one.

        :raises errors.Error: it could not be laid down again.
        """
        with syscalls.translated(self._label):
            try:
                os.utime(self._name, dir_fd=self._area, follow_symlinks=False)
            except FileNotFoundError:
                os.close(syscalls.create_file(self._name, self._area))

    def close(self) -> None:
        """Take it away; one that cannot be removed now is stale later."""
        try:
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._area)
        finally:
            os.close(self._area)


@contextlib.contextmanager
def lay(directories: Instances, instance: str) -> ty.Iterator[PathProbe]:
    """A nonce that is there until the block ends.

    :raises errors.Error: as :class:`Nonce`.
    """
    with contextlib.closing(Nonce(directories, instance)) as nonce:
        yield nonce.probe


def identity(directories: Instances, instance: str, nonce: str = "") -> PathProbe:
    """What the instance directory is on this host; ``nonce`` is one that is laid down."""
    return _identity(directories, instance, nonce)


def compare(directories: Instances, instance: str, theirs: PathProbe) -> Fact:
    """YES: the directory here is another one than the peer's.  NO: it is the same.

    Never raises one of our errors: what cannot be looked at is UNKNOWN.
    """
    try:
        if theirs.nonce and _sees(directories, theirs.nonce):
            return Fact(_WITNESS, Verdict.NO, "both hosts have the same instances_path")
        return _compared(identity(directories, instance), theirs)
    except errors.Error as e:
        return Fact(_WITNESS, Verdict.UNKNOWN, f"the path could not be compared: {e}")


def _compared(ours: PathProbe, theirs: PathProbe) -> Fact:
    if not ours.inode or not theirs.inode:
        return Fact(_WITNESS, Verdict.YES, "only one host has a directory of that name")
    same_time = ours.changed_ns == theirs.changed_ns
    same_system = ours.filesystem == theirs.filesystem
    if ours.inode == theirs.inode and same_time and same_system:
        return Fact(_WITNESS, Verdict.NO, "both hosts have the same directory")
    if ours.inode == theirs.inode and same_time:
        return Fact(_WITNESS, Verdict.UNKNOWN,
                    "the directories have the same inode and change time on both hosts")
    if ours.inode == theirs.inode and same_system:
        # the same directory looks so too, if it changed between the two looks
        return Fact(_WITNESS, Verdict.UNKNOWN,
                    "the directories have the same inode and file system on both hosts")
    return Fact(_WITNESS, Verdict.YES, "the hosts have two different directories")


def _sees(directories: Instances, nonce: str) -> bool:
    with (syscalls.held(directories.area(_AREA)) as area,
          syscalls.translated(f"{directories.path} ({_AREA})")):
        return syscalls.identity(nonce, area) is not None


def _identity(directories: Instances, instance: str, nonce: str) -> PathProbe:
    pinned = directories.pin(instance)
    if pinned is None:
        return PathProbe(nonce=nonce)
    with pinned, syscalls.translated(pinned.label):
        status = os.fstat(pinned.fd)
        return PathProbe(nonce=nonce, inode=status.st_ino, changed_ns=status.st_ctime_ns,
                         filesystem=os.fstatvfs(pinned.fd).f_fsid)


def _remove_stale(area: int) -> None:
    before = time.time() - _STALE
    with os.scandir(area) as listing:
        names = [entry.name for entry in listing if _NONCE.match(entry.name)]
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=area, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and status.st_mtime < before:
                os.unlink(name, dir_fd=area)
