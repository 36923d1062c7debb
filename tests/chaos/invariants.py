# SPDX-License-Identifier: Apache-2.0
"""What holds after every round, whatever was broken; looked at from outside the workers."""

import collections.abc

from devstack import lab as labs
from devstack.conductor import SECRET_TOKEN, LiveMigration
from rbd_worker.migration.journal import Entry
from rbd_worker.model import Outcome
from tests.chaos.arena import Arena

MARKER_NAME = "disk.config"
MARKER = b"this file belongs to the guest"


def broken(arena: Arena, guest: labs.Guest, order: LiveMigration) -> list[str]:
    """What does not hold; empty where all is well."""
    running = guest.running_on()
    if len(running) != 1:
        return [f"the guest runs on {running or 'no host'}"]
    holder = arena.lab.host(running[0])
    other = arena.two if holder is arena.one else arena.one
    source, destination = (arena.entry(arena.lab.host(name), order)
                           for name in (order.source, order.destination))
    entries = [entry for entry in (source, destination) if entry]
    complaints = []
    if source is None:
        complaints.append("the cast was confirmed by the broker and never heard")
    elif _is_demanded(arena, order, holder) and not _has_marker(guest, holder):
        complaints.append(f"the guest's file is not with it on {holder.name}")
    is_unresolved = any(e.outcome is Outcome.UNRESOLVED for e in entries)
    if guest.directory(other).exists() and not is_unresolved:
        complaints.append(f"{other.name} keeps a directory, and no entry says why")
    complaints += [f"{host.name} keeps staged files" for host in (arena.one, arena.two)
                   if guest.uuid in arena.staging(host) and not is_unresolved]
    return complaints + _contradictions(entries, holder, order)


def _contradictions(entries: collections.abc.Sequence[Entry], holder: labs.Host,
                    order: LiveMigration) -> list[str]:
    """Where the journals say what is not so."""
    complaints = []
    if any(e.is_open and not e.reason for e in entries if e.outcome is Outcome.UNRESOLVED):
        complaints.append("an unresolved entry has no reason")
    outcomes = {e.outcome for e in entries if not e.is_open}
    if Outcome.COMPLETED in outcomes and holder.name != order.destination:
        complaints.append(f"completed, but the guest runs on {holder.name}")
    if outcomes & {Outcome.FAILED, Outcome.CANCELLED} and holder.name != order.source:
        complaints.append(f"{' and '.join(sorted(str(o) for o in outcomes))}, but the guest "
                          f"runs on {holder.name}")
    return complaints


def _is_demanded(arena: Arena, order: LiveMigration, holder: labs.Host) -> bool:
    """Whether the worker answers for the guest's file.

    Nova deletes the source's directory whether a worker carries it on or not;
    with Nova the worker answers for what it had staged.
    """
    if arena.executor == "libvirt" or holder.name == order.source:
        return True
    notes = arena.notes(arena.lab.host(order.source), order)
    return MARKER_NAME in notes.get("ensure_destination_prepared", {}).get("staged", {})


def _has_marker(guest: labs.Guest, host: labs.Host) -> bool:
    marker = guest.directory(host) / MARKER_NAME
    return marker.exists() and marker.read_bytes() == MARKER


def mark(guest: labs.Guest, host: labs.Host) -> None:
    """Give the guest its file, where Nova alone would have lost it."""
    if not _has_marker(guest, host):
        (guest.directory(host) / MARKER_NAME).write_bytes(MARKER)


def is_at_rest(arena: Arena, order: LiveMigration) -> bool:
    """Nova is done, and every entry of the migration is closed."""
    entries = [arena.entry(host, order) for host in (arena.one, arena.two)]
    is_heard = arena.entry(arena.lab.host(order.source), order) is not None
    return (is_heard and arena.is_nova_done()
            and not any(e is not None and e.is_open for e in entries))


def is_open_because(arena: Arena, order: LiveMigration) -> str:
    """Of open entries: phase, outcome and reason, for the summary."""
    entries = [e for host in (arena.one, arena.two) if (e := arena.entry(host, order))]
    return "; ".join(f"{e.migration.role} {e.phase} {e.outcome or 'open'} {e.reason}"
                     for e in entries if e.is_open)


def secrets_told(arena: Arena) -> list[str]:
    """Files of the workers that hold the user's token of a cast."""
    files = [worker.service.log for worker in arena.workers.values()]
    for host in (arena.one, arena.two):
        files += (host.root / "var/lib/nova/rbd-worker").glob("journal*")
    return [f"{path} holds a token" for path in files
            if SECRET_TOKEN.encode() in path.read_bytes()]
