# SPDX-License-Identifier: Apache-2.0
"""What the surveys of all hosts say of each pair; pure."""

import typing as ty

from rbd_worker.preflight import comparisons
from rpcapi import preflight as contract

#: From the worst to the best.
STATES: ty.Final[tuple[contract.State, ...]] = ("failed", "warning", "unknown", "ok")

#: What can only be seen where one host lays a file for the other to find; either way is right.
_PAIR_ONLY = frozenset({"files.shared"})


class Cell(ty.NamedTuple):
    """One way from a host to another.

    :ivar state: the worst of what is known: of both hosts, of what they have to
        agree in, and of the way itself where it was tried.
    :ivar checks: names of the rows that are not ok.
    :ivar is_tried: the way itself was; ``state`` is not ``ok`` without it.
    """

    source: str
    destination: str
    state: contract.State
    checks: tuple[str, ...]
    is_tried: bool


def cells(reply: contract.MatrixReply) -> list[Cell]:
    """One for each ordered pair of hosts."""
    tried = {(r.source, r.destination): r.rows for r in reply.routes}
    own = {s.traits.host: _bad(s.rows) for s in reply.surveys}
    found = []
    for source in reply.surveys:
        for destination in reply.surveys:
            pair = (source.traits.host, destination.traits.host)
            if pair[0] == pair[1]:
                continue
            bad = {**own[pair[0]]}
            rows = [row for row in comparisons.compare(source.traits, destination.traits)
                    if row.name not in _PAIR_ONLY]
            rows += tried.get(pair, ())
            for more in (own[pair[1]], _bad(rows)):
                for name, state in more.items():
                    bad[name] = worst((state, bad.get(name, "ok")))
            is_tried = bool(tried.get(pair))
            state = worst((*bad.values(), "ok" if is_tried else "unknown"))
            found.append(Cell(*pair, state, tuple(bad), is_tried))
    return found


def worst(states: ty.Iterable[contract.State]) -> contract.State:
    """The worst of some states; ``unknown`` of none."""
    return min(states, key=STATES.index, default="unknown")


def _bad(rows: ty.Iterable[contract.Row]) -> dict[str, contract.State]:
    bad: dict[str, contract.State] = {}
    for row in rows:
        if row.state != "ok":
            bad[row.name] = worst((row.state, bad.get(row.name, "ok")))
    return bad
