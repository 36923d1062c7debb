# SPDX-License-Identifier: Apache-2.0
"""One round: Nova moves one guest or two, one fault or two strike, all comes to rest."""

import collections.abc
import dataclasses
import random
import time

from devstack import gate
from devstack.conductor import LiveMigration
from tests.chaos.beside_nova import faults, invariants
from tests.chaos.beside_nova.arena import NovaArena
from tests.chaos.beside_nova.operators import Operator
from tests.chaos.rounds import Logs, Round

#: Longest time in seconds from the order to a fault, and from one fault to the next.
_DELAY, _BETWEEN = 7.0, 4.0


@dataclasses.dataclass(frozen=True)
class Draw:
    """What chance decides of a round, known from the seed and the round's number alone.

    :ivar delays: seconds to each fault from the order, or from the fault before it.
    :ivar lasts: seconds from the last fault to the first mending.
    :ivar movers: which of the servers are sent off, the first one meets the faults.
    """

    faults: tuple[faults.Fault, ...]
    delays: tuple[float, ...]
    lasts: float
    movers: tuple[int, ...]
    choice: random.Random

    @classmethod
    def of(cls, seed: int, number: int, names: collections.abc.Sequence[str],
           servers: int) -> "Draw":
        choice = random.Random(f"beside Nova {seed}/{number}")
        drawn = choice.sample(names, min(choice.choice((1, 1, 2)), len(names)))
        struck = tuple(faults.ALL[name] for name in drawn)
        delays = (choice.uniform(0, _DELAY), choice.uniform(0, _BETWEEN))
        movers = choice.sample(range(servers), choice.choice((1, 1, servers)))
        return cls(struck, delays[:len(struck)],
                   choice.uniform(0, max(fault.most for fault in struck)), tuple(movers), choice)

    @property
    def is_harmless(self) -> bool:
        return all(fault.name in faults.HARMLESS for fault in self.faults)

    def __str__(self) -> str:
        struck = " + ".join(f"{fault.name} at {delay:.1f} s" for fault, delay in zip(
            self.faults, self.delays, strict=True))
        return f"{struck} for {self.lasts:.1f} s"


class _Move:
    """One server that Nova was told to move."""

    def __init__(self, arena: NovaArena, uuid: str) -> None:
        self.arena, self.uuid = arena, uuid
        self.guest = arena.cloud.guest(uuid)
        self.source = arena.lab.host(arena.cloud.show(uuid).host or "")
        self.destination = arena.other(self.source)
        self.operator = Operator(arena, uuid)
        invariants.mark(arena, uuid, self.source)
        self._console = invariants.history(arena, uuid, self.source)
        self._before = len(arena.cloud.migrations(uuid))
        arena.cloud.live_migrate(uuid, self.destination.name, wait=False)

    @property
    def migration(self) -> gate.Migration | None:
        """None where the conductor was killed before it made one."""
        made = self.arena.cloud.migrations(self.uuid)[self._before:]
        return made[0] if made else None

    def scene(self, choice: random.Random) -> faults.Scene:
        order = LiveMigration(self.uuid, self.source.name, self.destination.name)
        return faults.Scene(self.arena, self.guest, order, choice)  # type: ignore[arg-type]

    def judged(self, is_harmless: bool) -> list[str]:
        """What does not hold once the server is well again."""
        migration, done = self.migration, self.operator.done
        complaints = invariants.misplaced(self.arena, self.uuid)
        if is_harmless and (migration is None or migration.status != "completed"):
            complaints.append(f"Nova failed beside workers alone: {migration}")
        if is_harmless and any(not each.startswith("audit") for each in done):
            complaints.append("Nova needed an operator, beside faults of workers alone")
        if migration is None:
            return complaints
        if not any(each.startswith("virsh migrate") for each in done):
            complaints += invariants.contradictions(
                self.arena, self.uuid, migration.uuid, self.arena.cloud.show(self.uuid).host or "")
        return complaints + invariants.lost(
            self.arena, self.uuid, migration.uuid, self._console, done)

    def outcome(self) -> str:
        """Nova's word, and the source's entry's."""
        migration = self.migration
        if migration is None:
            return "never made"
        entries = self.arena.entries_of_key(self.uuid, migration.uuid)
        words = "/".join(str(e.outcome or "open") for _, e in sorted(entries.items()))
        return f"{migration.status}: {words or 'not heard'}"


def run(arena: NovaArena, servers: collections.abc.Sequence[str], draw: Draw) -> list[Round]:
    """One round; a result for each server that was sent off."""
    workers = Logs(worker.service.log for worker in arena.workers.values())
    computes = Logs(arena.cloud.compute_log(host.name) for host in arena.hosts)
    # Nova finds some errors a minute late, as long as its own calls take
    complaints = [each for number in draw.movers
                  for each in Operator(arena, servers[number]).settle()]
    moves = [_Move(arena, servers[number]) for number in draw.movers]
    for fault, delay in zip(draw.faults, draw.delays, strict=True):
        time.sleep(delay)
        fault.strike(moves[0].scene(draw.choice))
    time.sleep(draw.lasts)
    complaints += [f"the worker on {name} had ended" for name in arena.mend(draw.choice)]
    restarted = tuple(f"restart nova-compute on {name}" for name in arena.stuck)
    if draw.is_harmless and restarted:
        complaints.append("a nova-compute got stuck beside faults of workers alone")
    rounds = []
    for move in moves:
        began = time.monotonic()
        open_ends = move.operator.settle()
        rest = time.monotonic() - began
        text = workers.since()
        complaints += open_ends or move.judged(draw.is_harmless)
        complaints += invariants.said(text) + invariants.nova_said(computes.since())
        rounds.append(Round(
            fault=" + ".join(sorted(fault.name for fault in draw.faults)),
            outcome=move.outcome(), has_moved=move.guest.running_on() == [move.destination.name],
            retries=text.count("Retrying "), rest=rest, complaints=tuple(complaints),
            unresolved=sum("] is unresolved" in line and move.uuid in line
                           for line in text.splitlines()),
            by_hand=(*restarted, *move.operator.done)))
        complaints = []
    return rounds
