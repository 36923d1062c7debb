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
from rbd_worker.host.instances import PinnedDirectory
from rbd_worker.migration.task import Task
from rbd_worker.model import Phase, Role

LOG = logging.getLogger(__name__)


def pinned(task: Task) -> walk.PinnedFiles | None:
    """The held files; None where nothing is held and no directory, or a later one, stands.

    :raises errors.UnsafeDirectory: it holds something that is not carried.
    """
    if task.files is None:
        directory = task.ports.directories.pin(task.migration.instance)
        if directory is not None:
            with directory:
                if is_another(task, directory):
                    return None
                task.files = walk.pin_files(directory, task.ports.directories.limits)
    return task.files


def is_another(task: Task, directory: PinnedDirectory) -> bool:
    """Whether the directory is not the one whose files were held first.

    Nova made it since, for a guest that comes back: its files belong to a later migration.
    """
    held = task.notes.get("ensure_files_pinned", {}).get("identity")
    return held is not None and not directory.is_journaled(held)


def are_lost(task: Task) -> bool:
    """Whether a restart let go of files whose directory Nova has removed or replaced since."""
    if task.files is not None or "identity" not in task.notes.get("ensure_files_pinned", {}):
        return False
    directory = task.ports.directories.pin(task.migration.instance)
    if directory is None:
        return True
    with directory:
        return is_another(task, directory)


def keep(task: Task) -> None:
    """Hold the files as they are now (QEMU may have rotated its log); never raises our errors."""
    try:
        if task.files is not None:
            task.files.refresh()
        else:
            pinned(task)
    except errors.Error as e:
        LOG.info("%s its files cannot be looked at now: %s", task.migration, e.sentence)


def ensure_held_by_next(task: Task, directory: PinnedDirectory) -> None:
    """What was just placed into ``directory`` is held by whoever takes the guest away next.

    An order away from here may be open by then, and wait long for its own destination.
    nova-compute does not wait with it, and removes what that migration had not seen yet.

    :raises errors.DirectoryChanged: one does not hold the directory's files as they are yet.
    :raises errors.OutcomeUnknown: one may have told its destination already what it takes along.
    """
    for other in task.others():
        if other.migration.role is not Role.SOURCE or other.phase is Phase.ROLLBACK:
            continue
        files = other.files
        if files is None and other.phase is not Phase.POST:
            raise errors.DirectoryChanged(
                path=directory.label, reason=f"migration {other.migration.key}, which takes the "
                                             "guest away, does not hold its files yet")
        if files is not None and files.is_of(directory):
            files.extend()
            if other.phase is Phase.POST:
                raise errors.OutcomeUnknown(
                    instance=directory.instance,
                    reason=f"migration {other.migration.key} has taken it away meanwhile")


def listed(files: walk.PinnedFiles | None, known: ty.Mapping[str, str]) -> dict[str, ty.Any]:
    """``root`` and ``entries`` of a request; what the peer does not know travels inline."""
    if files is None:
        return {"root": walk.EMPTY_ROOT}
    return {"root": files.root, "entries": files.entries_inline(known)}
