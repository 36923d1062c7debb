# SPDX-License-Identifier: Apache-2.0
"""What holds after every round, whatever was killed; looked at from outside the workers."""

from devstack import lab as labs
from devstack.conductor import LiveMigration
from rbd_worker.model import Outcome
from tests.functional.fleet import Fleet

MARKER = b"this file belongs to the guest"


def broken(fleet: Fleet, guest: labs.Guest, order: LiveMigration) -> list[str]:
    """What does not hold; empty where all is well."""
    complaints = []
    running = guest.running_on()
    if len(running) != 1:
        return [f"the guest runs on {running or 'no host'}"]
    holder = fleet.lab.host(running[0])
    other = fleet.two if holder is fleet.one else fleet.one
    entries = [e for host in (fleet.one, fleet.two) if (e := fleet.entry(host, order))]
    is_unresolved = any(e.outcome is Outcome.UNRESOLVED for e in entries)
    marker = guest.directory(holder) / "disk.config"
    if not marker.exists() or marker.read_bytes() != MARKER:
        complaints.append(f"the guest's file is not with it on {holder.name}")
    if guest.directory(other).exists() and not is_unresolved:
        complaints.append(f"{other.name} keeps a directory, and no entry says why")
    if any(e.is_open and not e.reason for e in entries if e.outcome is Outcome.UNRESOLVED):
        complaints.append("an unresolved entry has no reason")
    states = {e.migration.role.value: e.outcome for e in entries if not e.is_open}
    if Outcome.COMPLETED in states.values() and holder.name != order.destination:
        complaints.append(f"completed, but the guest runs on {holder.name}")
    return complaints


def is_at_rest(fleet: Fleet, order: LiveMigration) -> bool:
    """Every entry of the migration is closed."""
    entries = [fleet.entry(host, order) for host in (fleet.one, fleet.two)]
    return not any(e is not None and e.is_open for e in entries)


def is_open_because(fleet: Fleet, order: LiveMigration) -> str:
    """Of open entries: phase, outcome and reason, for the summary."""
    entries = [e for host in (fleet.one, fleet.two) if (e := fleet.entry(host, order))]
    return "; ".join(f"{e.migration.role} {e.phase} {e.outcome or 'open'} {e.reason}"
                     for e in entries if e.is_open)
