# SPDX-License-Identifier: Apache-2.0
"""Drives one task along its plan: forward, backward, or parked.

Forward: the first step that is not done is recorded as ``doing``, done, and
recorded as ``done`` together with the next one's ``doing``.  Backward: the
same list of steps in reverse, each recorded as ``undoing`` and ``undone``.
The direction survives a crash as the entry's phase (``rollback``).  An error
before the outcome is settled turns the plan back; after it, and for anything
undecided, the entry is marked *unresolved* and tried again later.
"""

import dataclasses
import logging

from rbd_worker import errors
from rbd_worker.migration import plans, remarks, results
from rbd_worker.migration.journal import StepState
from rbd_worker.migration.task import Task
from rbd_worker.model import Outcome, Phase, Role

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Parked:
    """The task waits; it wants to be run again after ``seconds`` at the latest."""

    seconds: float


def run(task: Task) -> Parked | None:
    """Take ``task`` as far as it goes now. None where its entry is closed.

    The caller holds the task's lock.  Raises only
    :class:`errors.JournalUnusable`: without a journal nothing may be done.
    """
    if task.is_closed:
        return None
    try:
        if task.phase is not Phase.ROLLBACK:
            parked = _forward(task)
            if parked is not None or task.is_closed:
                return parked
        _backward(task)
    except errors.JournalUnusable:
        raise
    except errors.Error as e:
        return _unresolved(task, e)
    return None


def _forward(task: Task) -> Parked | None:
    """Returns None with the entry closed, or with the phase set to ROLLBACK."""
    finished: list[tuple[str, StepState, dict[str, object]]] = []
    for step in plans.plan(task.migration.role, task.migration.executor):
        if task.states.get(step.name) is StepState.DONE:
            continue
        if finished or task.states.get(step.name) is not StepState.DOING:
            task.record(*finished, (step.name, StepState.DOING, {}), phase=step.phase)
        try:
            result = step.do(task)
        except errors.JournalUnusable:
            raise
        except (errors.Permanent, errors.Transient) as e:
            result = _after_error(task, step, e)
        if isinstance(result, results.Wait):
            LOG.debug("%s waits in %s: %s", task.migration, step.name, result.reason)
            _tell_what_it_waits_for(task, result, has_advanced=bool(finished))
            task.waits_for = result.reason
            return Parked(result.seconds)
        if isinstance(result, results.TurnBack):
            _turn_back(task, result)
            return None
        finished = [(step.name, StepState.DONE, result.data)]
        task.begin_afresh()
        task.waits_for = ""
        LOG.debug("%s %s", task.migration, step.name)
    task.record(*finished)
    task.close(Outcome.COMPLETED, task.notes.get("advice", {}).get("sentence", ""))
    LOG.info("%s completed as %s", task.migration, task.migration.role)
    return None


def _tell_what_it_waits_for(task: Task, wait: results.Wait, *, has_advanced: bool) -> None:
    """Once it takes longer than one look the operator is told.

    What was unresolved before a restart is so until a new attempt has an answer.
    """
    if task.outcome is Outcome.UNRESOLVED and task.tries and not has_advanced:
        return
    task.mark(None, wait.reason if wait.reason == task.waits_for else "")


def _after_error(task: Task, step: plans.Step, error: errors.Error) -> results.Result:
    """What an error in a step means for the plan; raises it where that is *unresolved*."""
    task.error = error
    if task.ports.shutdown.is_set():
        return results.Wait(0, "the worker stops")
    if _source_asks_again(task, error):
        raise error
    if task.migration.executor in step.may_fail_for:
        task.skipped[step.name] = error
        LOG.warning("%s %s was not possible, Nova moves the guest anyway: %s",
                    task.migration, step.name, error.sentence)
        return results.Done({"skipped": error.sentence})
    if _may_have_moved(task, step, error):
        raise error
    return results.TurnBack(Outcome.CANCELLED if task.abort_requested else Outcome.FAILED,
                            error.sentence)


def _may_have_moved(task: Task, step: plans.Step, error: errors.Error) -> bool:
    """Once the guest may be under way only both hosts' answers may turn a plan back."""
    if plans.SETTLED in (step.name, *_done(task)):
        return True
    return step.phase is Phase.LIVE and isinstance(error, errors.Transient)


def _source_asks_again(task: Task, error: errors.Error) -> bool:
    return task.migration.role is Role.DESTINATION and isinstance(error, errors.Transient)


def _done(task: Task) -> list[str]:
    return [name for name, state in task.states.items() if state is StepState.DONE]


def _turn_back(task: Task, turn: results.TurnBack) -> None:
    LOG.warning("%s turns back (%s): %s", task.migration, turn.outcome, turn.reason)
    task.record(("turned_back", StepState.NOTE,
                 {"outcome": turn.outcome.value, "reason": turn.reason}), phase=Phase.ROLLBACK)
    task.begin_afresh()


def turn_forward(task: Task) -> None:
    """The guest came although this host had turned back: what was undone is done again.

    A source that asked several times, unheard, may go on with an early answer while a late
    repetition fails here.  To be called when the guest is here and its source hands it over.
    """
    LOG.warning("%s goes on: the guest has come all the same", task.migration)
    task.record(("turned_forward", StepState.NOTE, {}), phase=Phase.LIVE)
    task.begin_afresh()


def _backward(task: Task) -> None:
    for step in reversed(plans.plan(task.migration.role, task.migration.executor)):
        state = task.states.get(step.name)
        if state in (None, StepState.UNDONE) or step.undo is None:
            continue
        task.record((step.name, StepState.UNDOING, {}))
        step.undo(task)
        task.record((step.name, StepState.UNDONE, {}))
    turned = task.notes["turned_back"]
    task.close(Outcome(turned["outcome"]), turned["reason"])
    LOG.info("%s %s as %s", task.migration, task.outcome, task.migration.role)


def _unresolved(task: Task, error: errors.Error) -> Parked:
    """Keep the entry open, say why, and come back later and later."""
    task.error = error
    if task.ports.shutdown.is_set():
        return Parked(0)
    limit = task.ports.settings.unresolved_retry_max
    pause = min(2.0 ** min(task.attempts, 30), limit)
    task.attempts += 1
    if task.outcome is not Outcome.UNRESOLVED:
        LOG.warning("%s is unresolved: %s", task.migration, error.sentence)
    told = "" if isinstance(error, errors.NovaDisagrees) else remarks.remark(task)
    task.mark(Outcome.UNRESOLVED, error.sentence + told)
    return Parked(pause)
