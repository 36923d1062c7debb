# SPDX-License-Identifier: Apache-2.0
"""In what two hosts have to agree; decided from their traits alone."""

import typing as ty

from rbd_worker.preflight import ceph_traits, files_checks, libvirt_checks, worker_checks
from rbd_worker.preflight.bench import Comparison, Say
from rpcapi import preflight as contract

#: Seconds by which two clocks may differ before logs and tokens suffer.
CLOCK_SECONDS = 2.0

COMPARISONS: tuple[Comparison, ...] = (
    *worker_checks.COMPARISONS, *libvirt_checks.COMPARISONS,
    *ceph_traits.COMPARISONS, *files_checks.COMPARISONS,
)


def compare(source: contract.Traits, destination: contract.Traits) -> ty.Iterator[contract.Row]:
    """The rows of all comparisons, in the order of the table."""
    for comparison in COMPARISONS:
        yield from comparison.compare(source, destination, Say(comparison.name, source.host))


def clocks(source: str, destination: contract.Traits, before: float, after: float,
           ) -> contract.Row:
    """How far the other host's clock is from this one's.

    :param before, after: this host's clock as the question left and as the
        answer came; the other's reading lies between the two.
    """
    say = Say("clock", source)
    if not destination.clock:
        return say.unknown(f"{destination.host} told no time")
    apart = max(before - destination.clock, destination.clock - after, 0.0)
    told = f"at least {apart:.3f} s apart" if apart else (
        f"apart by less than the {after - before:.3f} s that the question took")
    if apart > CLOCK_SECONDS:
        return say.warning(f"{told}: {source} and {destination.host}",
                           "Have both follow the same time servers (chronyc sources)")
    return say.ok(f"{told}: {source} and {destination.host}")
