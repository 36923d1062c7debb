# SPDX-License-Identifier: Apache-2.0
"""A record of the journal made durable, against sqlite3's own commit of the same row.

Both files are in one directory, have the same tables and the same pragmas
(WAL, ``synchronous = FULL``), and are written by one thread in turn.
"""

import pathlib
import tempfile
import time
import typing as ty

from rbd_worker.migration import journal as journals
from rbd_worker.migration import journal_file
from rbd_worker.model import Executor, Migration, Role
from tests.benchmarks import measure
from tests.benchmarks.bench import Bench
from tests.benchmarks.results import Goal, Result, Table

ROUNDS = 1500
STEP = "ensure_files_pinned"
OTHER = "sqlite3 alone"
_INSERT = "INSERT INTO record (key, role, at, step, state, data) VALUES (?,?,?,?,?,?)"


def run(bench: Bench) -> Result:
    with tempfile.TemporaryDirectory(prefix="rbdw-bench-journal-", dir="/var/tmp") as name:
        return _run(pathlib.Path(name), bench)


def _run(directory: pathlib.Path, bench: Bench) -> Result:
    migration = Migration("5fd1a8f2-0001-4000-8000-000000000001",
                          "5fd1a8f2-0002-4000-8000-000000000002", Role.SOURCE, "node1", "node2",
                          Executor.NOVA)
    journal = journals.Journal(directory / "ours")
    journal.open(migration)
    (directory / "other").mkdir()
    db = journal_file.opened(directory / "other/journal.sqlite")
    row = (migration.key, migration.role, 0.0, STEP, "doing", "{}")

    def ours() -> None:
        journal.record(migration, (STEP, journals.StepState.DOING, {}))

    def other() -> None:
        db.execute("BEGIN IMMEDIATE")
        db.execute(_INSERT, row)
        db.execute("COMMIT")

    for warm in (ours, other) * 50:
        warm()
    with bench.progress("journal", 2 * ROUNDS) as step:
        series = measure.alternate(
            ROUNDS, {"rbd-worker's journal": lambda: _timed(ours), OTHER: lambda: _timed(other)},
            step)
    journal.close()
    db.close()
    table = Table("one record made durable", "ms", series)
    return Result("journal", [table],
                  [Goal("ratio to sqlite3's own commit", table.ratio(OTHER), 1.5)])


def _timed(action: ty.Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000
