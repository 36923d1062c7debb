# SPDX-License-Identifier: Apache-2.0
"""How the matrix of all hosts is shown: a square of a few, a line a host of many."""

import collections
import typing as ty

from rbd_worker.preflight.cells import Cell, worst

Table: ty.TypeAlias = tuple[tuple[str, ...], list[tuple[str, ...]]]

#: Up to so many hosts a square fits a terminal.
SQUARE_HOSTS = 6


def pairs(cells: ty.Sequence[Cell]) -> Table:
    """One row for each way, for programs."""
    return (("Source", "Destination", "State", "Tried", "Checks"),
            [(c.source, c.destination, c.state, str(c.is_tried).lower(), " ".join(c.checks))
             for c in cells])


def square(hosts: ty.Sequence[str], cells: ty.Sequence[Cell]) -> Table:
    """From each host (row) to each other (column)."""
    by_pair = {(c.source, c.destination): c for c in cells}
    return (("From / to", *hosts),
            [(source, *(_cell(by_pair.get((source, destination))) for destination in hosts))
             for source in hosts])


def summary(hosts: ty.Sequence[str], cells: ty.Sequence[Cell]) -> Table:
    """One row for each host: the ways from it and to it by state, and what is wrong there."""
    leaving: dict[str, list[Cell]] = {host: [] for host in hosts}
    coming: dict[str, list[Cell]] = {host: [] for host in hosts}
    for cell in cells:
        leaving[cell.source].append(cell)
        coming[cell.destination].append(cell)
    rows: list[tuple[str, ...]] = []
    for host in hosts:
        both = [*leaving[host], *coming[host]]
        state = worst(cell.state for cell in both) if any(c.checks for c in both) else "ok"
        rows.append((host, state, _counted(leaving[host]), _counted(coming[host]),
                     _common(both)))
    return (("Host", "Worst", "From it", "To it", "Most frequent"), rows)


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    lines = [cell.state if cell.checks or cell.is_tried else "agreed", *cell.checks]
    if not cell.is_tried:
        lines.append("(way not tried)")
    return "\n".join(lines)


def _counted(cells: ty.Sequence[Cell]) -> str:
    counts = collections.Counter(c.state if c.checks or c.is_tried else "not tried"
                                 for c in cells)
    return ", ".join(f"{count} {state}" for state, count in counts.most_common())


def _common(cells: ty.Sequence[Cell], most: int = 3) -> str:
    counts = collections.Counter(name for cell in cells for name in cell.checks)
    return ", ".join(name for name, _ in counts.most_common(most))
