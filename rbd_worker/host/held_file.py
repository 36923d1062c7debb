# SPDX-License-Identifier: Apache-2.0
"""One file or directory that is held: what is told of it, and whether it may have changed."""

import dataclasses
import os
import typing as ty

from rbd_worker.host import digest, listing, syscalls
from rbd_worker.host.owners import Owners
from rpcapi.payloads import FileEntry


@dataclasses.dataclass(frozen=True)
class HeldFile:
    """One entry and, for a file, its descriptor and what was true when it was digested."""

    entry: FileEntry
    found: listing.Found


def described(found: listing.Found, before: HeldFile | None, owners: Owners) -> HeldFile:
    """The entry of what was found; told anew, and digested, only where it may have changed."""
    if before is not None and _told_of(before.found) == _told_of(found):
        return HeldFile(before.entry, found)
    if found.fd < 0:
        return HeldFile(owners.describe(found.path, found.status, ""), found)
    if before is not None and _is_unchanged(before.found.status, found.status):
        return HeldFile(owners.describe(found.path, found.status, before.entry.digest), found)
    with syscalls.translated(found.path):
        content = digest.of(found.fd, found.status.st_size)
    return HeldFile(owners.describe(found.path, found.status, content), found)


def looked_at_again(pinned: HeldFile, owners: Owners) -> HeldFile:
    """It may have grown since, whether or not a name leads to it."""
    if pinned.found.fd < 0:
        return pinned
    status = os.fstat(pinned.found.fd)
    return described(dataclasses.replace(pinned.found, status=status), pinned, owners)


def _is_unchanged(before: os.stat_result, now: os.stat_result) -> bool:
    """By size and times: what is only appended to always shows in the size."""
    return ((before.st_size, before.st_mtime_ns, before.st_ctime_ns)
            == (now.st_size, now.st_mtime_ns, now.st_ctime_ns))


def _told_of(found: listing.Found) -> tuple[ty.Any, ...]:
    """All that an entry is made of: blocks are given to a file later than its times say."""
    status = found.status
    return (found.path, status.st_mode, status.st_uid, status.st_gid, status.st_size,
            status.st_blocks, status.st_mtime_ns, status.st_ctime_ns)


def has_name(found: listing.Found) -> bool:
    """Whether some name still leads to the file."""
    return found.fd >= 0 and os.fstat(found.fd).st_nlink > 0


def parents_stand(path: str, fresh: ty.Mapping[str, HeldFile]) -> bool:
    """False where a file took the place of a directory above ``path``."""
    return all(fresh[each].entry.kind == "directory" for each in above(path) if each in fresh)


def above(path: str) -> list[str]:
    """The directories that hold ``path``, outermost first."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
