# SPDX-License-Identifier: Apache-2.0
"""An instance directory as Nova would have made it, where Nova made none.

Owner and group are those of the other instance directories, which Nova made;
on a host without any those of instances_path itself.
"""

import collections
import contextlib
import logging
import os
import stat

from rbd_worker import model
from rbd_worker.host import instances, syscalls

LOG = logging.getLogger(__name__)

#: What ``os.makedirs`` of nova-compute gives with the usual umask.
MODE = 0o755
#: So many of the other directories are looked at.
_SAMPLE = 64


def ensure(directories: instances.Instances, instance: str) -> list[int] | None:
    """Have the instance's directory stand, empty if it is new.

    :returns: the lasting identity of a directory that was made now; None where one stood.
    :raises errors.BadInstanceUUID: the name is not a canonical UUID.
    :raises errors.UnsafeDirectory: something else stands under its name.
    :raises errors.AccessDenied, errors.NoSpace: it cannot be made.
    """
    model.canonical_uuid(instance)
    label = f"{directories.path}/{instance}"
    with directories.opened() as base, syscalls.translated(label):
        owner = _owner(directories, base)
        try:
            os.mkdir(instance, MODE, dir_fd=base)
        except FileExistsError:
            with syscalls.held(syscalls.open_directory(instance, base)):
                return None
        with syscalls.held(syscalls.open_directory(instance, base)) as made:
            _give(made, owner)
            return syscalls.lasting_identity(made)


def _owner(directories: instances.Instances, base: int) -> tuple[int, int]:
    """User and group that most of the instance directories have."""
    found: collections.Counter[tuple[int, int]] = collections.Counter()
    for name in directories.names()[:_SAMPLE]:
        with contextlib.suppress(FileNotFoundError):
            status = syscalls.status(name, base)
            if stat.S_ISDIR(status.st_mode):
                found[status.st_uid, status.st_gid] += 1
    if found:
        return found.most_common(1)[0][0]
    status = os.fstat(base)
    return status.st_uid, status.st_gid


def _give(fd: int, owner: tuple[int, int]) -> None:
    try:
        syscalls.set_attributes(fd, *owner, MODE)
    except PermissionError:
        if stat.S_IMODE(os.fstat(fd).st_mode) != MODE:
            raise
        LOG.warning("%s keeps this worker's owner: it may not be given to %d:%d",
                    syscalls.name_of(fd), *owner)
