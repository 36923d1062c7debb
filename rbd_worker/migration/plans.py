# SPDX-License-Identifier: Apache-2.0
"""What is done, in which order, and how each step is undone: two tables.

A step is named for the state it brings about; doing it twice equals doing it
once, and its undo is safe if it was never done.  Steps behind the settlement
of the outcome are not undone: the guest has moved, so they are repeated until
they succeed, and the entry is *unresolved* meanwhile.
"""

import dataclasses
import functools
import typing as ty

from rbd_worker.migration import arrival, destination_steps, outcome_steps, source_steps
from rbd_worker.migration.results import Result
from rbd_worker.migration.task import Task
from rbd_worker.model import Executor, Phase, Role


@dataclasses.dataclass(frozen=True)
class Step:
    """One row of a plan.

    :ivar executors: with which executors the step is part of the plan.
    :ivar may_fail_for: executors whose migration goes on although this step
        cannot be done, because Nova moves the guest anyway.
    """

    name: str
    phase: Phase
    do: ty.Callable[[Task], Result]
    undo: ty.Callable[[Task], None] | None = None
    executors: frozenset[Executor] = frozenset(Executor)
    may_fail_for: frozenset[Executor] = frozenset()


_LIBVIRT = frozenset({Executor.LIBVIRT})
_NOVA = frozenset({Executor.NOVA})

SETTLED = "ensure_outcome_settled"

SOURCE = (
    Step("ensure_files_pinned", Phase.PRE,
         source_steps.ensure_files_pinned, source_steps.ensure_files_released,
         may_fail_for=_NOVA),
    Step("ensure_destination_prepared", Phase.PRE,
         source_steps.ensure_destination_prepared, source_steps.ensure_destination_rolled_back,
         may_fail_for=_NOVA),
    Step("ensure_guest_moved", Phase.LIVE,
         source_steps.ensure_guest_moved, executors=_LIBVIRT),
    Step(SETTLED, Phase.LIVE, outcome_steps.ensure_settled_at_source),
    Step("ensure_files_handed_over", Phase.POST, source_steps.ensure_files_handed_over),
    Step("ensure_source_removed", Phase.POST, source_steps.ensure_source_removed),
)

DESTINATION = (
    Step("ensure_leftover_trashed", Phase.PRE,
         destination_steps.ensure_leftover_trashed, executors=_LIBVIRT),
    Step("ensure_files_staged", Phase.PRE,
         destination_steps.ensure_files_staged, destination_steps.ensure_staging_dropped,
         may_fail_for=_NOVA),
    Step("ensure_directory_made", Phase.PRE,
         destination_steps.ensure_directory_made,
         destination_steps.ensure_made_directory_trashed, executors=_LIBVIRT),
    Step("ensure_arrival_awaited", Phase.PRE,  # the hook may make what Nova did not
         arrival.ensure_arrival_awaited, arrival.ensure_arrival_directory_trashed,
         executors=_NOVA),
    Step(SETTLED, Phase.LIVE, outcome_steps.ensure_settled_at_destination),
    Step("ensure_files_placed", Phase.POST, destination_steps.ensure_files_placed),
)


@functools.cache
def plan(role: Role, executor: Executor) -> tuple[Step, ...]:
    """The steps of one role under one executor, in order."""
    table = SOURCE if role is Role.SOURCE else DESTINATION
    return tuple(step for step in table if executor in step.executors)
