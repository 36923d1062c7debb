# SPDX-License-Identifier: Apache-2.0
"""One live migration with workers beside it, and the same without: total time and downtime.

The moves are libvirt's, peer to peer, with Nova's flags, of a running guest;
what Nova does around them on the wire and on the disk is done in both cases
at the same moments.  With workers means: both workers run, the libvirt hook is
installed on both hosts, and the prepare runs while the guest already moves,
since the move is ordered right after the cast.  libvirtd is restarted before
each block of either kind, because it looks for hooks when it starts.
"""

import collections.abc
import contextlib
import shutil
import time

import libvirt

from devstack import conductor as wire
from devstack import lab as labs
from devstack.lab import broker, worker
from tests.benchmarks.bench import Bench
from tests.benchmarks.measure import Series
from tests.benchmarks.results import Goal, Result, Table
from tests.functional.fleet import Fleet

BLOCKS = 5
#: Moves of one block: there, back, there, back.
MOVES = 4

WITH, WITHOUT = "with workers and hook", "without"
_FLAGS = (libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
          | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE | libvirt.VIR_MIGRATE_PERSIST_DEST)
#: For the broker's own ``evaluate``.
_DELETE_QUEUES = ("[rabbit_amqqueue:delete(Q, false, false, <<\"lab\">>) || Q <- "
                  f"rabbit_amqqueue:list(<<\"{broker.VHOST}\">>)], ok")


def run(bench: Bench) -> Result:
    lab = bench.lab
    totals = {name: Series(name) for name in (WITH, WITHOUT)}
    downtimes = {name: Series(name) for name in (WITH, WITHOUT)}
    libvirt.registerErrorHandler(lambda *_: None, None)
    with wire.Conductor(lab.broker_url) as conductor:
        moves = _Moves(Fleet(lab, conductor))
        moves.warm_up()
        with bench.progress("migration", 2 * BLOCKS * MOVES) as step:
            for block in range(BLOCKS):
                for name in (WITH, WITHOUT)[::-1 if block % 2 else 1]:
                    with moves.block(with_workers=name == WITH):
                        for _ in range(MOVES):
                            total, downtime = moves.once()
                            totals[name].values.append(total)
                            downtimes[name].values.append(downtime)
                            step()
    total = Table("from the order to libvirt's word that the guest has moved", "ms",
                  list(totals.values()))
    downtime = Table("downtime, as libvirt at the destination tells it", "ms",
                     list(downtimes.values()))
    return Result("migration", [total, downtime], [
        Goal("total time: ratio to without workers", total.ratio(WITHOUT), 1.03),
        Goal("downtime: ratio to without workers", downtime.ratio(WITHOUT), 1.03)])


class _Moves:
    """One guest that goes there and back."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._at, self._other = fleet.one, fleet.two
        self._guest = fleet.lab.define_guest(fleet.one, talkative=True)
        self._has_workers = False
        for host in (fleet.one, fleet.two):
            fleet.lab.write_config(host, executor="nova")

    def warm_up(self) -> None:
        for _ in range(2):
            self.once()

    @contextlib.contextmanager
    def block(self, with_workers: bool) -> collections.abc.Iterator[None]:
        """Several moves of one kind."""
        fleet = self._fleet
        for host in (fleet.one, fleet.two):
            if with_workers:
                fleet.restart(host)
            _control(host, "hook", "install" if with_workers else "remove")
            fleet.lab.libvirt(host).restart()
        self._has_workers = with_workers
        time.sleep(2)  # for the workers' look at their libvirt after its restart
        try:
            yield
        finally:
            for each in fleet.workers.values():
                each.kill9()
            self._has_workers = False
            # or the casts of the next block would wait there for the workers after it
            fleet.lab.broker.evaluate(_DELETE_QUEUES)

    def once(self) -> tuple[float, float]:
        """Milliseconds of one move: all of it, and the downtime."""
        source, destination = self._at, self._other
        fleet, instance = self._fleet, self._guest.uuid
        order = fleet.order(self._guest, source, destination)
        with _opened(source) as here, _opened(destination) as there:
            domain = here.lookupByUUIDString(instance)
            began = time.perf_counter()
            fleet.conductor.live_migrate(order)
            self._guest.directory(destination).mkdir()  # Nova's pre_live_migration
            domain.migrateToURI3(destination.libvirt_uri, {}, _FLAGS)
            total = (time.perf_counter() - began) * 1000
            figures = there.lookupByUUIDString(instance).jobStats(
                libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
        shutil.rmtree(self._guest.directory(source))
        fleet.conductor.cast(destination.name, wire.post_at_destination(order))
        if self._has_workers:
            fleet.closed(order)
        self._at, self._other = destination, source
        return total, float(figures["downtime"])


def _control(host: labs.Host, *argv: str) -> None:
    host.run([worker.program("rbd-workerctl"), *worker.CONFIG_FILES, *argv])


@contextlib.contextmanager
def _opened(host: labs.Host) -> collections.abc.Iterator[libvirt.virConnect]:
    connection = libvirt.open(host.libvirt_uri)
    try:
        yield connection
    finally:
        connection.close()
