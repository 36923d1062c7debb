# SPDX-License-Identifier: Apache-2.0
"""Is instances_path what it was?  An empty mount point looks like a host without guests.

A small file with an id, ``.rbd-worker/hosts/<host>``, is laid into
instances_path as soon as an instance directory is there, and the journal
keeps the id.  From then on no file work begins where the id is missing or
another: the file system is not mounted, or it was replaced.  Hosts that share
a path have a file each.
"""

import contextlib
import logging
import os
import secrets
import threading
import typing as ty

from rbd_worker import errors
from rbd_worker.host import sparse, syscalls
from rbd_worker.host.instances import OWN, Instances, give_to_worker, private_directory

LOG = logging.getLogger(__name__)

_HOSTS = "hosts"
_MOST = 128


class Memory(ty.Protocol):
    """Where the id is kept: the journal."""

    def path_id(self) -> str: ...

    def keep_path_id(self, path_id: str) -> None: ...


class Marker:
    """Thread-safe; looks at the disk each time, a mount may come and go at any moment."""

    def __init__(self, path: str, host: str, memory: Memory) -> None:
        self._path = path
        self._host = host
        self._memory = memory
        self._lock = threading.Lock()
        self._known = memory.path_id()
        self._seen: tuple[int, ...] | None = None

    def check(self, base: int) -> None:
        """Called with a descriptor of instances_path before anything is done in it.

        :raises errors.InstancesPathAway: it is not what it was; nothing may be concluded from it.
        """
        with syscalls.translated(self._path):
            seen = _look(base, self._host)
            if not self._known:
                if seen is not None or _has_instance(base):
                    self._adopt(base)
            elif seen is None or seen != self._seen:
                demand(self._path, self._host, self._known, base)
                self._seen = seen

    def _adopt(self, base: int) -> None:
        """Take an id that is there, or lay one down as soon as there is something to lose."""
        with self._lock:
            if self._known:
                return
            found = _read(base, self._host)
            try:
                path_id = found or _laid(base, self._path, self._host, secrets.token_hex(16))
                self._memory.keep_path_id(path_id)
            except (OSError, errors.Error) as e:  # a full disk: as it was before there were ids
                LOG.info("%s cannot be marked as this host's yet: %s", self._path, e)
                return
            self._known = path_id


def demand(path: str, host: str, path_id: str, base: int) -> None:
    """instances_path, open as ``base``, has this id of this host's.

    :raises errors.InstancesPathAway: it has not.
    """
    found = _read(base, host)
    if found != path_id:
        reason = "it is empty" if _is_empty(base) else (
            "it has another id" if found else "the id that rbd-worker left in it is missing")
        raise errors.InstancesPathAway(path=path, reason=reason)


def accept(directories: Instances, host: str, path_id: str) -> None:
    """Make instances_path, as it stands, the one that belongs to ``path_id``."""
    with directories.opened() as base, syscalls.translated(directories.path):
        _laid(base, directories.path, host, path_id)


def _laid(base: int, path: str, host: str, path_id: str) -> str:
    """The id is durable in instances_path."""
    with (syscalls.held(private_directory(OWN, base, f"{path}/{OWN}")) as own,
          syscalls.held(private_directory(_HOSTS, own, f"{path}/{OWN}/{_HOSTS}")) as hosts):
        new = f".{host}"  # no host has such a name
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=hosts)
        with syscalls.held(syscalls.create_file(new, hosts)) as fd:
            give_to_worker(fd, hosts)
            sparse.write_all(fd, path_id.encode(), 0)
            os.fsync(fd)
        os.rename(new, host, src_dir_fd=hosts, dst_dir_fd=hosts)
        for directory in (hosts, own, base):
            os.fsync(directory)
    return path_id


def _read(base: int, host: str) -> str:
    """The id that lies in instances_path; empty where there is none."""
    with syscalls.translated(host):
        fd = syscalls.open_below(f"{OWN}/{_HOSTS}/{host}", base)
    if fd is None:
        return ""
    with syscalls.held(fd):
        return os.pread(fd, _MOST, 0).decode("ascii", "replace")


def _look(base: int, host: str) -> tuple[int, ...] | None:
    """What tells the file with the id, as it is now, from any other; None where it cannot be.

    One system call instead of a dozen: this is looked at before all file work.  The numbers
    of a file system that was unmounted may come again with another, change times do not.
    """
    try:
        found = os.stat(f"{OWN}/{_HOSTS}/{host}", dir_fd=base, follow_symlinks=False)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _is_empty(base: int) -> bool:
    with os.scandir(base) as listing:
        return all(entry.name == "lost+found" for entry in listing)


def _has_instance(base: int) -> bool:
    with os.scandir(base) as listing:
        return any(Instances.is_name(entry.name) for entry in listing)
