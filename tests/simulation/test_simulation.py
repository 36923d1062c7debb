# SPDX-License-Identifier: Apache-2.0
"""At least 20,000 schedules: those that leave nothing to chance, and random ones.

``make simulate`` plays as many as one likes, and any one of them again.
"""

import pathlib

import pytest

from rbd_worker.migration.journal import StepState
from rbd_worker.model import Executor, Role
from tests.simulation import many, play, schedule, systematic, telling

#: Random schedules, in as many tests as make the work easy to share.
SCHEDULES = 8_500
BATCHES = 50
SIZE = SCHEDULES // BATCHES

#: Every record of every plan, with either executor.
RECORDS = [(executor, *record) for executor in Executor for record in schedule.records(executor)]
#: Short stories, of which each moment is tried.
STORIES = [(executor, name) for executor in Executor for name in ("there", "fails", "aborted")]
STORIES += [(Executor.NOVA, "left to the worker")]


@pytest.mark.parametrize(("executor", "role", "step", "state"), RECORDS)
def test_a_kill_after_a_record_of_a_plan_breaks_no_promise(
        root: pathlib.Path, executor: Executor, role: Role, step: str, state: StepState) -> None:
    tally = systematic.Tally().play(systematic.kills_after(executor, role, step, state), root)
    assert tally.failing == [], tally.told
    assert (executor, role, step, state) in tally.killed_after, "no story comes to this record"


@pytest.mark.parametrize(("executor", "name"), STORIES)
def test_a_kill_at_anything_that_a_worker_does_breaks_no_promise(
        root: pathlib.Path, executor: Executor, name: str) -> None:
    tally = systematic.Tally().play(systematic.kills(executor, name, root), root)
    assert tally.failing == [], tally.told
    assert tally.played > 200


@pytest.mark.parametrize(("executor", "name"), STORIES)
def test_a_power_failure_at_anything_that_a_worker_does_breaks_no_promise(
        root: pathlib.Path, executor: Executor, name: str) -> None:
    tally = systematic.Tally().play(systematic.power_failures(executor, name, root), root)
    assert tally.failing == [], tally.told
    assert tally.played > 100


@pytest.mark.parametrize(("executor", "name"), STORIES)
def test_no_single_call_that_fails_breaks_a_promise(
        root: pathlib.Path, executor: Executor, name: str) -> None:
    tally = systematic.Tally().play(systematic.calls_that_fail(executor, name, root), root)
    assert tally.failing == [], tally.told
    assert tally.played > 200


def test_no_forged_order_keeps_a_real_move_from_its_end(root: pathlib.Path) -> None:
    tally = systematic.Tally().play(systematic.forged_orders(root), root)
    assert tally.failing == [], tally.told
    assert tally.played > 200


def test_files_that_come_late_go_along_with_the_next_move(root: pathlib.Path) -> None:
    tally = systematic.Tally().play(systematic.late_files(root), root)
    assert tally.failing == [], tally.told
    assert tally.played > 50


@pytest.mark.parametrize("executor", Executor)
def test_without_trouble_a_guest_goes_there_and_back(root: pathlib.Path,
                                                     executor: Executor) -> None:
    result = play.play(systematic.story(executor, "there and back"), root, tells=True)
    assert result.breaches == ()
    assert sum("has moved" in line for line in result.story) == 2


def test_a_seed_tells_the_same_story_again(root: pathlib.Path) -> None:
    for seed in range(40):
        once, again = (play.play(play.of(seed), root, tells=True) for _ in range(2))
        assert _without_paths(once) == _without_paths(again)


#: The last ones, all of a size: no process is left with much to do alone.
@pytest.mark.parametrize("number", range(BATCHES))
def test_every_promise_is_kept_whatever_goes_wrong(root: pathlib.Path, number: int) -> None:
    failing = many.batch(range(number * SIZE, (number + 1) * SIZE)).failing
    stories = ["\n".join(telling.sentences(play.minimised(play.play(play.of(seed), root), root)))
               for seed in failing[:1]]
    assert not failing, f"make simulate SEED={failing[0]}\n" + "\n".join(stories)


def _without_paths(result: play.Result) -> list[str]:
    """Where the world lies and what its directories' inodes are differs, and nothing else."""
    return [line for line in result.story if "/dev/shm" not in line and "identity" not in line]
