# SPDX-License-Identifier: Apache-2.0
"""One round: a guest is sent off, something breaks and is mended, all comes to rest."""

import collections.abc
import dataclasses
import pathlib
import random
import time

from devstack import lab as labs
from devstack.conductor import LiveMigration
from devstack.lab import processes
from tests.chaos import faults, invariants
from tests.chaos.arena import Arena

#: Seconds from the mending to the end of everything; pauses between attempts are 10 s at most.
REST_SECONDS = 120.0


@dataclasses.dataclass(frozen=True)
class Draw:
    """What chance decides of a round, known from the seed and the round's number alone.

    :ivar delay: seconds from the order to the fault.
    :ivar lasts: seconds from the fault to its mending.
    :ivar choice: for what is left to the fault.
    """

    fault: faults.Fault
    delay: float
    lasts: float
    choice: random.Random

    @classmethod
    def of(cls, seed: int, number: int, names: collections.abc.Sequence[str]) -> "Draw":
        choice = random.Random(f"{seed}/{number}")
        fault = faults.ALL[choice.choice(names)]
        return cls(fault, choice.uniform(0, 4), choice.uniform(0, fault.most), choice)


@dataclasses.dataclass(frozen=True)
class Round:
    """How it went.

    :ivar outcome: of the source's entry.
    :ivar has_moved: whether the guest runs at the destination.
    :ivar retries: attempts after a first one, as the workers logged them.
    :ivar unresolved: times that an entry became unresolved on the way.
    :ivar rest: seconds from the mending to rest.
    :ivar complaints: invariants that do not hold.
    :ivar by_hand: what an operator had to do.
    """

    fault: str
    outcome: str
    has_moved: bool
    retries: int
    unresolved: int
    rest: float
    complaints: tuple[str, ...]
    by_hand: tuple[str, ...] = ()


def run(arena: Arena, guest: labs.Guest, draw: Draw) -> Round:
    """One migration to the other host, with what was drawn."""
    (here,) = guest.running_on()
    source = arena.lab.host(here)
    destination = arena.two if source is arena.one else arena.one
    invariants.mark(guest, source)
    logs = Logs(worker.service.log for worker in arena.workers.values())
    order = arena.order_move(guest, source, destination)
    time.sleep(draw.delay)
    draw.fault.strike(faults.Scene(arena, guest, order, draw.choice))
    time.sleep(draw.lasts)
    ended = arena.mend()
    began = time.monotonic()
    complaints = [f"the worker on {name} had ended" for name in ended]
    complaints += _await_rest(arena, guest, order)
    rest = time.monotonic() - began
    complaints += invariants.broken(arena, guest, order)
    entry = arena.entry(source, order)
    text = logs.since()
    return Round(
        fault=draw.fault.name, outcome=str(entry.outcome or "open") if entry else "not heard",
        has_moved=guest.running_on() == [destination.name], retries=text.count("Retrying "),
        unresolved=text.count(f"{order.uuid}] is unresolved"), rest=rest,
        complaints=tuple(complaints))


def _await_rest(arena: Arena, guest: labs.Guest, order: LiveMigration) -> list[str]:
    with arena.conduct():  # Nova's services have their exchange again
        deadline = time.monotonic() + processes.patience(REST_SECONDS)
        while not invariants.is_at_rest(arena, order):
            if time.monotonic() > deadline:
                return [f"open after {REST_SECONDS:.0f} s: "
                        f"{invariants.is_open_because(arena, order)}"]
            _follow_advice(arena, guest, order)
            time.sleep(0.2)
    try:
        arena.wait_hearing()
    except AssertionError as e:
        return [str(e).splitlines()[0]]
    return []


def _follow_advice(arena: Arena, guest: labs.Guest, order: LiveMigration) -> None:
    """As an operator does who is told that libvirt left the end of a move open.

    Only on the worker's own word: an end that it does not explain stays open here, too.
    """
    source = arena.lab.host(order.source)
    if (f"virsh destroy {guest.uuid} on {source.name}" in invariants.is_open_because(arena, order)
            and guest.running_on() == [order.destination]):
        source.virsh("destroy", guest.uuid, check=False)


class Logs:
    """What is logged from now on, by those that start later in the same files, too."""

    def __init__(self, files: collections.abc.Iterable[pathlib.Path]) -> None:
        self._began = {log: log.stat().st_size for log in files}

    def since(self) -> str:
        return "".join(log.read_bytes()[began:].decode(errors="replace")
                       for log, began in self._began.items())
