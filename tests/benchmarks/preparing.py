# SPDX-License-Identifier: Apache-2.0
"""One prepare by two real workers, timed: from the cast until the acknowledgement.

The clock starts before the cast is published and stops where the source's
journal has the destination's answer, whose digests the destination has read
back from its own disk.  Afterwards Nova gives the migration up, as it does
after a failure, and both hosts come to rest.
"""

import collections.abc
import contextlib
import time

from devstack import conductor as wire
from devstack import lab as labs
from tests.functional.fleet import Fleet

#: Seconds that one prepare may take, the largest file included.
_SECONDS = 100.0


@contextlib.contextmanager
def prepares(lab: labs.Lab) -> collections.abc.Iterator["Prepares"]:
    """Two workers beside Nova, and a conductor; the workers are ended at the end."""
    with wire.Conductor(lab.broker_url) as conductor:
        fleet = Fleet(lab, conductor)
        fleet.start(executor="nova")
        try:
            yield Prepares(fleet)
        finally:
            for worker in fleet.workers.values():
                worker.kill9()


class Prepares:
    """Guests of node1 that are prepared at node2."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def once(self, guest: labs.Guest) -> float:
        """Milliseconds of one prepare."""
        fleet = self.fleet
        order = fleet.order(guest, fleet.one, fleet.two)
        began = time.time()
        fleet.conductor.live_migrate(order)
        fleet.until(lambda: self._prepared(order) is not None, "the acknowledgement", _SECONDS)
        prepared = self._prepared(order)
        assert prepared is not None
        fleet.conductor.cast("node2", wire.rollback_at_destination(order))
        fleet.closed(order)
        return (prepared - began) * 1000

    def _prepared(self, order: wire.LiveMigration) -> float | None:
        """When the source had the acknowledgement, in seconds since the epoch."""
        entry = self.fleet.entry(self.fleet.one, order)
        if entry is None:
            return None
        with contextlib.closing(self.fleet.reader(self.fleet.one)) as reader:
            for record in reader.records(entry.migration):
                if (record.step, record.state) == ("ensure_destination_prepared", "done"):
                    assert "skipped" not in record.data, record.data
                    return record.at
        return None
