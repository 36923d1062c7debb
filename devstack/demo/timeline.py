# SPDX-License-Identifier: Apache-2.0
"""A migration's journal as lines of time, for people."""

import dataclasses
import typing as ty

from rich.console import Console
from rich.table import Table

from devstack.conductor import LiveMigration
from rbd_worker.migration.journal import Entry, Record, StepState


@dataclasses.dataclass(frozen=True)
class Row:
    """One line; ``at`` in seconds after the cast was published."""

    at: float
    host: str
    what: str


def rows(entry: Entry, records: ty.Iterable[Record], began: float) -> list[Row]:
    """What one host's journal tells of a migration; ``began`` in seconds since the epoch."""
    host, role = entry.migration.host, entry.migration.role
    lines = [Row(entry.opened - began, host, f"begins as {role}")]
    for record in records:
        if record.state in (StepState.DONE, StepState.UNDONE, StepState.NOTE):
            state = "" if record.state is StepState.NOTE else f" {record.state}"
            lines.append(Row(record.at - began, host, record.step + state))
    if entry.closed is not None:
        why = f": {entry.reason}" if entry.reason else ""
        lines.append(Row(entry.closed - began, host, f"{entry.outcome} as {role}{why}"))
    return lines


def show(order: LiveMigration, lines: ty.Iterable[Row], console: Console,
         downtime_ms: int | None = None) -> None:
    """Print both hosts' lines in one table, in order."""
    downtime = "" if downtime_ms is None else f", downtime {downtime_ms} ms"
    table = Table(title=f"{order.source} → {order.destination}{downtime}", title_justify="left")
    table.add_column("ms", justify="right")
    table.add_column("host")
    table.add_column("what")
    for line in sorted(lines, key=lambda row: row.at):
        table.add_row(f"{line.at * 1000:.0f}", line.host, line.what)
    console.print(table)
