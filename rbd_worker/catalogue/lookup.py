# SPDX-License-Identifier: Apache-2.0
"""What the catalogue has, and what it says of a text."""

import functools
import typing as ty

from rbd_worker.catalogue import (
    ceph_messages,
    host_messages,
    libvirt_messages,
    nova_messages,
    own_messages,
    qemu_messages,
)
from rbd_worker.catalogue.entry import Entry

#: Characters of a line that are looked at; a log line beyond that is a dump.
MAX_LINE = 4096


@functools.cache
def entries() -> tuple[Entry, ...]:
    """All of them.  Others' words first: our sentences often carry theirs as the reason."""
    return (*nova_messages.ENTRIES, *libvirt_messages.ENTRIES, *qemu_messages.ENTRIES,
            *ceph_messages.ENTRIES, *host_messages.ENTRIES, *own_messages.entries())


def named(name: str) -> Entry | None:
    """The entry of that name, in whatever case."""
    return next((each for each in entries() if each.name.lower() == name.lower()), None)


def explain(lines: ty.Iterable[str]) -> tuple[Entry, ...]:
    """What is known of these lines; each entry once, in the order of the catalogue."""
    found: set[str] = set()
    for line in lines:
        found.update(each.name for each in entries()
                     if each.name not in found and each.matches(line[:MAX_LINE]))
    return tuple(each for each in entries() if each.name in found)
