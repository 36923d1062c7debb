# SPDX-License-Identifier: Apache-2.0
"""The source's files, held by descriptors as long as its plan runs.

nova-compute removes the directory as soon as the guest has moved; whoever
holds the files can still read them.  A restart loses the descriptors, so they
are taken again while the directory stands.
"""

import logging
import typing as ty

from rbd_worker import errors
from rbd_worker.host import walk
from rbd_worker.migration.task import Task

LOG = logging.getLogger(__name__)


def pinned(task: Task) -> walk.PinnedFiles | None:
    """The held files; None where nothing is held and no directory stands.

    :raises errors.UnsafeDirectory: it holds something that is not carried.
    """
    if task.files is None:
        directory = task.ports.directories.pin(task.migration.instance)
        if directory is not None:
            with directory:
                task.files = walk.pin_files(directory, task.ports.directories.limits)
    return task.files


def keep(task: Task) -> None:
    """Hold the files as they are now (QEMU may have rotated its log); never raises our errors."""
    try:
        if task.files is not None:
            task.files.refresh()
        else:
            pinned(task)
    except errors.Error as e:
        LOG.info("%s its files cannot be looked at now: %s", task.migration, e.sentence)


def listed(files: walk.PinnedFiles | None, known: ty.Mapping[str, str]) -> dict[str, ty.Any]:
    """``root`` and ``entries`` of a request; what the peer does not know travels inline."""
    if files is None:
        return {"root": walk.EMPTY_ROOT}
    return {"root": files.root, "entries": files.entries_inline(known)}
