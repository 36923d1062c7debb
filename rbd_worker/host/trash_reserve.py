# SPDX-License-Identifier: Apache-2.0
"""Places in the trash that were made while there was space, for a disk that is full.

A move to the trash is a rename, which takes no space, but its record does.
So a few items are kept ready in ``.rbd-worker/reserve/``: a directory with a
record file whose blocks are written already (with blanks, which end a JSON
text as well as begin one).  On a full disk one of them is renamed into the
trash and its record is written over in place.
"""

import logging
import os

from rbd_worker import errors
from rbd_worker.host import sparse, syscalls, trash_items
from rbd_worker.host.instances import Instances

LOG = logging.getLogger(__name__)

_AREA = "reserve"
#: How many directories can leave while the disk is full.
PLACES = 4
#: A record of four witnesses takes about 1 KiB; file systems give blocks of 4.
RECORD_BYTES = 8 << 10
_BLANKS = b" " * RECORD_BYTES


class Reserve:
    """Thread-safe: each place is taken by a rename, which only one can do."""

    def __init__(self, directories: Instances) -> None:
        self._directories = directories

    def refill(self) -> None:
        """Every place is there, as far as there is space for it."""
        try:
            with syscalls.held(self._directories.area(_AREA)) as reserve:
                for number in range(PLACES):
                    if syscalls.identity(f"{number}", reserve) is None:
                        _make(f"{number}", reserve)
        except (OSError, errors.Error) as e:
            LOG.debug("the trash's reserve cannot be filled now: %s", e)

    def draw(self, item_id: str, area: int, record: trash_items.Record) -> int | None:
        """Have one of the places stand as ``item_id`` in the trash, its record durable.

        :returns: its descriptor; None where no place is left.
        :raises OSError: it could not be moved or written.
        """
        content = record.encoded()
        if len(content) > RECORD_BYTES:
            return None
        with syscalls.held(self._directories.area(_AREA)) as reserve:
            for number in range(PLACES):
                try:
                    syscalls.rename_noreplace(f"{number}", reserve, item_id, area)
                except FileNotFoundError:
                    continue
                return _filled(item_id, area, content)
        return None


def _filled(item_id: str, area: int, content: bytes) -> int:
    place = syscalls.open_directory(item_id, area)
    try:
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        with syscalls.held(os.open(trash_items.RECORD, flags, dir_fd=place)) as fd:
            sparse.write_all(fd, content.ljust(RECORD_BYTES), 0)
            os.fsync(fd)
    except BaseException:
        os.close(place)
        raise
    return place


def _make(name: str, reserve: int) -> None:
    """Made under another name first: a place is complete or it is not there."""
    new = f"{name}.new"
    with syscalls.held(syscalls.ensure_directory(new, reserve)) as place:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with syscalls.held(os.open(trash_items.RECORD, flags, 0o600, dir_fd=place)) as fd:
            sparse.write_all(fd, _BLANKS, 0)
            os.fsync(fd)
        os.fsync(place)
    os.rename(new, name, src_dir_fd=reserve, dst_dir_fd=reserve)
    os.fsync(reserve)
