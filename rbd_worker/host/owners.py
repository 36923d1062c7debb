# SPDX-License-Identifier: Apache-2.0
"""Owner, group, mode and times: read as names, given again by what they mean here.

The number of a user like ``libvirt-qemu`` may differ between hosts, its name
does not; so the name decides where this host knows it, and the number where
it does not.
"""

import grp
import logging
import os
import pwd
import stat

from rbd_worker.host import syscalls
from rpcapi.payloads import FileEntry

LOG = logging.getLogger(__name__)

_MAX_NAME = 64
_MAX_MTIME = 1 << 62


class Owners:
    """Users and groups of this host, each looked up once; for one operation."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, int], str] = {}
        self._numbers: dict[tuple[str, str], int | None] = {}
        self._has_warned = False

    def describe(self, path: str, status: os.stat_result, digest: str) -> FileEntry:
        """The entry of a regular file (with its digest) or of a directory."""
        is_directory = stat.S_ISDIR(status.st_mode)
        return FileEntry(
            path=path, kind="directory" if is_directory else "file",
            size=0 if is_directory else status.st_size,
            data=0 if is_directory else min(status.st_blocks * 512, status.st_size),
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid, gid=status.st_gid,
            owner=self._name("user", status.st_uid), group=self._name("group", status.st_gid),
            mtime_ns=min(max(status.st_mtime_ns, 0), _MAX_MTIME), digest=digest)

    def apply(self, fd: int, entry: FileEntry) -> None:
        """Give an open file or directory what ``entry`` says, as far as it is permitted.

        Set-user-id and set-group-id bits of files are not taken over: a peer
        must not be able to plant a program that runs as somebody else.
        """
        uid = self._number("user", entry.owner, entry.uid)
        gid = self._number("group", entry.group, entry.gid)
        mode = entry.mode & (0o777 if entry.kind == "file" else 0o3777)
        try:
            syscalls.set_attributes(fd, uid, gid, mode, entry.mtime_ns)
        except PermissionError:
            if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
                raise
            if not self._has_warned:
                LOG.warning("%s keeps this worker's owner: it may not be given to %d:%d",
                            syscalls.name_of(fd), uid, gid)
            self._has_warned = True

    def _name(self, kind: str, number: int) -> str:
        key = kind, number
        if key not in self._names:
            self._names[key] = _name(kind, number)
        return self._names[key]

    def _number(self, kind: str, name: str, number: int) -> int:
        key = kind, name
        if key not in self._numbers:
            self._numbers[key] = _number(kind, name) if name else None
        known = self._numbers[key]
        return number if known is None else known


def _name(kind: str, number: int) -> str:
    try:
        name = pwd.getpwuid(number).pw_name if kind == "user" else grp.getgrgid(number).gr_name
    except KeyError:
        return ""
    return name if len(name) <= _MAX_NAME else ""


def _number(kind: str, name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None
