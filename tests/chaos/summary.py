# SPDX-License-Identifier: Apache-2.0
"""The table at the end: what each fault did to the migrations it met."""

import collections
import collections.abc
import statistics

from rich.table import Table

from tests.chaos.rounds import Round

_COLUMNS = ("fault", "rounds", "moved", "outcomes", "retries", "unresolved on the way",
            "rest after (median, longest)", "breaches")


def table(rounds: collections.abc.Sequence[Round], title: str) -> Table:
    """By fault, and a last line for all."""
    shown = Table(title=title, title_justify="left")
    for column in _COLUMNS:
        shown.add_column(column, justify="left" if column in ("fault", "outcomes") else "right")
    for name in sorted({one.fault for one in rounds}):
        shown.add_row(name, *_row([one for one in rounds if one.fault == name]))
    shown.add_section()
    shown.add_row("all", *_row(rounds))
    return shown


def _row(rounds: collections.abc.Sequence[Round]) -> tuple[str, ...]:
    outcomes = collections.Counter(one.outcome for one in rounds)
    rests = [one.rest for one in rounds]
    return (str(len(rounds)), str(sum(one.has_moved for one in rounds)),
            ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items())),
            str(sum(one.retries for one in rounds)), str(sum(one.unresolved for one in rounds)),
            f"{statistics.median(rests):.1f} s, {max(rests):.1f} s" if rests else "",
            str(sum(bool(one.complaints) for one in rounds)))
