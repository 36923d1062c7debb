# SPDX-License-Identifier: Apache-2.0
"""Behaves as a pair of nova-computes does, on the wire and on the disk, and no better.

The order and the effects are those of Nova 34 with ``images_type = rbd``: the
check at the destination, the cast to the source, the destination's mkdir that
refuses a directory that stands already, libvirt's migration, the source's
rename to ``<uuid>_del`` and rmtree, the messages afterwards.  It knows nothing
of rbd-worker.
"""

import shutil
import time

from devstack import conductor
from devstack import lab as labs
from devstack.conductor import Conductor, LiveMigration
from devstack.lab import processes


class DestinationDiskExists(Exception):
    """Nova's own error, for Nova's own reason."""


class Nova:
    """Both nova-computes and the conductor between them."""

    def __init__(self, lab: labs.Lab, wire: Conductor) -> None:
        self._lab = lab
        self._wire = wire

    def live_migrate(self, guest: labs.Guest, order: LiveMigration, *,
                     check_seconds: float = 0.1, bandwidth: int = 0,
                     post_error: bool = False) -> None:
        """One live migration as Nova does it; returns when Nova says it is over.

        :param check_seconds: between the check at the destination and the cast, where the
            machine is quiet.
        :param post_error: the source fails in its post-migration steps, so that
            it never removes its directory.
        :raises DestinationDiskExists, labs.CommandFailed: after Nova's rollback.
        """
        source, destination = self._lab.host(order.source), self._lab.host(order.destination)
        self._wire.cast(destination.name, conductor.check_destination(order), topic="compute")
        time.sleep(processes.patience(check_seconds))
        self._wire.live_migrate(order)
        time.sleep(processes.patience(0.05))
        try:
            self._pre_live_migration(guest, destination)
            self._migrate(guest, source, destination, bandwidth)
        except (DestinationDiskExists, labs.CommandFailed):
            self._rollback_at_destination(guest, order, destination)
            raise
        if not post_error:
            self._clean_source(guest, source)
        self._wire.cast(destination.name, conductor.post_at_destination(order))

    def _pre_live_migration(self, guest: labs.Guest, destination: labs.Host) -> None:
        directory = guest.directory(destination)
        if directory.exists():
            raise DestinationDiskExists(str(directory))
        directory.mkdir(mode=0o755)

    def _migrate(self, guest: labs.Guest, source: labs.Host, destination: labs.Host,
                 bandwidth: int) -> None:
        options = ("--bandwidth", str(bandwidth)) if bandwidth else ()
        guest.migrate(source, destination, *options)

    def _rollback_at_destination(self, guest: labs.Guest, order: LiveMigration,
                                 destination: labs.Host) -> None:
        self._wire.cast(destination.name, conductor.rollback_at_destination(order))
        shutil.rmtree(guest.directory(destination), ignore_errors=True)

    def _clean_source(self, guest: labs.Guest, source: labs.Host) -> None:
        directory = guest.directory(source)
        doomed = directory.with_name(f"{directory.name}_del")
        directory.rename(doomed)
        shutil.rmtree(doomed)
