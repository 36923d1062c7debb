# SPDX-License-Identifier: Apache-2.0
"""What holds after every round beside Nova; looked at from outside the workers."""

import collections.abc
import os
import pathlib
import re

from devstack import lab as labs
from rbd_worker.model import Outcome, Role
from tests.chaos.beside_nova.arena import NovaArena
from tests.chaos.invariants import MARKER, MARKER_NAME

_TICK = re.compile(rb"^tick ([0-9A-F]{4,8})\r?$", re.MULTILINE | re.IGNORECASE)
#: Nova met a directory in its way, which the workers are there to prevent.
_NOVAS_WORDS = ("DestinationDiskExists", "Hook script execution failed")


def mark(arena: NovaArena, uuid: str, host: labs.Host) -> None:
    (arena.directory(host, uuid) / MARKER_NAME).write_bytes(MARKER)


def history(arena: NovaArena, uuid: str, host: labs.Host) -> set[bytes]:
    """The complete lines that the guest wrote, as far as its console logs there have them."""
    return _lines(arena.directory(host, uuid))


def _lines(directory: pathlib.Path) -> set[bytes]:
    return {line for log in directory.glob("console.log*")
            for line in _TICK.findall(log.read_bytes())}


def _removed_history(arena: NovaArena, uuid: str) -> set[bytes]:
    return {line for host in arena.hosts for directory in arena.trashed(host, uuid)
            for line in _lines(directory)}


def lost(arena: NovaArena, uuid: str, key: str, before: set[bytes],
         done: collections.abc.Sequence[str]) -> list[str]:
    """Files of the guest that are not with it any more, although a worker had them.

    Nova deletes the source's directory whether a worker carries it on or not; QEMU
    empties the console's log with each start, also that of a guest that is moved back by
    hand, whose history then lies in the trash.

    :param done: by hand.
    """
    holder = arena.lab.host(arena.cloud.show(uuid).host or "")
    entry = arena.entries_of_key(uuid, key).get(Role.SOURCE)
    if entry is None or (entry.outcome is Outcome.COMPLETED and not _was_staged(arena, uuid, key)):
        return []
    marker = arena.directory(holder, uuid) / MARKER_NAME
    complaints = []
    if not marker.exists() or marker.read_bytes() != MARKER:
        complaints.append(f"the guest's file is not with it on {holder.name}")
    missing = before - history(arena, uuid, holder)
    if any(each.startswith("virsh migrate") for each in done):
        missing -= _removed_history(arena, uuid)
    if missing and "reboot --hard" not in done:
        complaints.append(f"{len(missing)} of {len(before)} lines of the console are lost")
    return complaints


def _was_staged(arena: NovaArena, uuid: str, key: str) -> bool:
    return any(record.step == "ensure_destination_prepared"
               and MARKER_NAME in record.data.get("staged", {})
               for record in arena.records(uuid, key, Role.SOURCE))


def misplaced(arena: NovaArena, uuid: str) -> list[str]:
    """A running guest's console log is the one in its directory, whatever was renamed."""
    complaints = []
    for host in arena.hosts:
        if arena.cloud.guest(uuid).state(host) != "running":
            continue
        log = arena.directory(host, uuid) / "console.log"
        if not log.exists() or _identity(log) not in _open_files(arena, uuid, host):
            complaints.append(f"the guest on {host.name} does not write to its directory")
    return complaints


def _open_files(arena: NovaArena, uuid: str, host: labs.Host) -> set[tuple[int, int]]:
    outer = host.pids()[arena.cloud.guest(uuid).qemu_pid(host)]
    return {_identity(path) for path in pathlib.Path(f"/proc/{outer}/fd").iterdir()}


def _identity(path: pathlib.Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def contradictions(arena: NovaArena, uuid: str, key: str, holder: str) -> list[str]:
    """Where the journals say what is not so; only while nobody has moved it by hand."""
    closed = {e.outcome: e.migration for e in arena.entries_of_key(uuid, key).values()
              if not e.is_open}
    complaints = []
    for outcome, migration in closed.items():
        expected = (migration.destination if outcome is Outcome.COMPLETED else migration.source)
        if holder != expected:
            complaints.append(f"{migration.role} {outcome}, but the guest runs on {holder}")
    return complaints


def said(text: str) -> list[str]:
    """What no worker's log may hold: tracebacks of its own, not of its libraries."""
    found = re.findall(r"ERROR (rbd_worker\.\S+ .*(?:Traceback|is not foreseen).*)", text)
    return [f"a worker logged {found[0]!r}"] if found else []


def nova_said(text: str) -> list[str]:
    """What no log of nova-compute may hold with workers beside it."""
    return [f"nova-compute logged {word}" for word in _NOVAS_WORDS if word in text]
