# SPDX-License-Identifier: Apache-2.0
"""All benchmarks, in the order in which they run."""

import dataclasses
import typing as ty

from tests.benchmarks import (
    audit,
    brokercost,
    bulk,
    drain,
    hook,
    idle,
    journal,
    matrix,
    migration,
    prepare,
    tap,
)
from tests.benchmarks.bench import Bench
from tests.benchmarks.results import Result


@dataclasses.dataclass(frozen=True)
class Row:
    """One benchmark.

    :ivar limit: seconds after which it is given up.
    """

    what: str
    run: ty.Callable[[Bench], Result]
    limit: int


ROWS = {
    "prepare": Row("a directory of 1.1 MiB, against rsync and tar over ssh", prepare.run, 240),
    "bulk": Row("64 MiB, and 10 GiB sparse, against rsync -aS over ssh", bulk.run, 600),
    "tap": Row("20 KB messages, against a bare kombu consumer", tap.run, 180),
    "migration": Row("a guest's move with workers, against the same without", migration.run, 420),
    "drain": Row("500 migrations at once between two workers", drain.run, 400),
    "audit": Row("10,000 directories, one suspect in a hundred", audit.run, 240),
    "matrix": Row("preflight of all pairs of 10 to 100 hosts", matrix.run, 240),
    "hook": Row("libvirt's hook, against an empty shell hook", hook.run, 120),
    "idle": Row("memory, CPU and ready time, against nova-compute at rest", idle.run, 300),
    "broker": Row("what a host costs RabbitMQ, 10 to 300 hosts", brokercost.run, 420),
    "journal": Row("a durable record, against sqlite3's own commit", journal.run, 120),
}
