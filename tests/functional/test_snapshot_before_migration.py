# SPDX-License-Identifier: Apache-2.0
"""A snapshot for each migration: it leaves with a success and stays with a failure."""

import pathlib

from devstack.conductor import LiveMigration
from rbd_worker.model import Outcome
from tests.functional.fleet import Fleet
from tests.functional.snapshotting import Disks, told


def test_a_snapshot_stays_until_its_migration_has_completed(fleet: Fleet, tmp_path: pathlib.Path):
    fleet.start(nova={"live_migration_retry_count": 10}, snapshot_before_migration=True)
    disks = Disks(fleet.lab, tmp_path)
    guest = fleet.lab.define_guest(fleet.one)
    failed = LiveMigration(guest.uuid, "node1", "node9", number=99)
    fleet.conductor.live_migrate(failed)

    def has_failed() -> bool:
        entry = fleet.entry(fleet.one, failed)
        return entry is not None and entry.outcome is Outcome.FAILED

    kept = f"before-migration-{failed.uuid}"
    fleet.until(has_failed, "the end of a migration to a host without a worker", 120)
    assert disks.snapshots(guest.image) == [f"rbd-worker.{kept}"]
    fleet.moved(guest, fleet.one, fleet.two)
    fleet.until(lambda: disks.snapshots(guest.image) == [f"rbd-worker.{kept}"],
                "the end of the snapshot of a migration that has completed", 120)
    (row,) = told(fleet.two, "snapshot", "list", guest.uuid)
    assert (row["Name"], row["By"], bool(row["Expires"])) == (kept, "rbd-worker", True)
    disks.store.close()
