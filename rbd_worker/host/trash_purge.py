# SPDX-License-Identifier: Apache-2.0
"""Which items of the trash leave for good, and in which order.

An item leaves when it is older than the retention, or when the trash holds
more than its limit and it is the oldest.  Only a proven one does: what has no
readable record stays, whatever its age.  The clock counts for ages only, and
an item from the future is a young one.
"""

import dataclasses
import logging
import os
import typing as ty

from rbd_worker.host import removal, syscalls, trash_items
from rbd_worker.host.trash_items import Item

LOG = logging.getLogger(__name__)

#: End of the name of an item that is being removed; it is listed no more.
SUFFIX = ".purging"
#: Seconds for which no item leaves on account of the limit: who has just seen a
#: directory vanish still finds it.
MIN_AGE = 3600


@dataclasses.dataclass(frozen=True)
class Limits:
    """:ivar retention: seconds that an item can be restored.
    :ivar bytes: most that all items together may take; None for no limit."""

    retention: float
    bytes: int | None = None


def due(items: ty.Iterable[Item], now: float, limits: Limits) -> list[Item]:
    """The items that leave now, oldest first.

    Unproven ones count for the size, because they take space as the others do.
    """
    oldest_first = sorted(items, key=lambda item: item.at)
    total = sum(item.bytes for item in oldest_first)
    leaving = []
    for item in oldest_first:
        age = now - item.at
        is_over = limits.bytes is not None and total > limits.bytes and age > MIN_AGE
        if not item.doubt and (age > limits.retention or is_over):
            leaving.append(item)
            total -= item.bytes
    return leaving


def begin(item_id: str, area: int) -> str:
    """The item is no item any more; the name under which it is removed now."""
    os.rename(item_id, item_id + SUFFIX, src_dir_fd=area, dst_dir_fd=area)
    return item_id + SUFFIX


def begun(area: int) -> list[str]:
    """What a kill left behind in the middle of its removal."""
    return sorted(name for name in os.listdir(area) if name.endswith(SUFFIX)
                  and trash_items.parse_id(name.removesuffix(SUFFIX)) is not None)


def end(item_id: str, area: int) -> bool:
    """Remove one item; False where it is not gone, or was restored or discarded meanwhile."""
    try:
        name = begin(item_id, area)
    except FileNotFoundError:
        return False
    except OSError as e:
        _tell(item_id, e)
        return False
    return remove(name, area)


def remove(name: str, area: int) -> bool:
    """False where it could not be removed as a whole; it is tried again next time."""
    try:
        return removal.remove_tree(name, area)
    except OSError as e:
        _tell(name, e)
        return False


def _tell(name: str, e: OSError) -> None:
    culprit = e.filename if isinstance(e.filename, str) and e.filename != name else ""
    LOG.warning("%s in the trash cannot be removed yet: %s", name,
                syscalls.translate(culprit or name, e).sentence)
