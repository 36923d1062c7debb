# SPDX-License-Identifier: Apache-2.0
"""A migration is never held up by its snapshot, which leaves with its success only."""

import types

import pytest

from rbd_worker import errors
from rbd_worker.model import Executor, GuestState, Migration, Outcome, RbdImage, Role
from rbd_worker.snapshots import before_migration
from tests.unit.snapshots.parts import DATA, INSTANCE, ROOT, Worker

MIGRATION = Migration("0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10", INSTANCE, Role.SOURCE, "node1",
                      "node2", Executor.NOVA)
BEGUN = before_migration.Begun(INSTANCE, MIGRATION.key, "node2")
NAME = f"before-migration-{MIGRATION.key}"
NOTHING: list[tuple[list[str], list[str]]] = [([], []), ([], [])]
ON_BOTH = [([NAME], [NAME])] * 2


@pytest.fixture
def moving(worker: Worker) -> Worker:
    """The migration is open, and the guest has an agent."""
    worker.journal.open(MIGRATION)
    worker.tasks = [types.SimpleNamespace(is_closed=False, migration=MIGRATION)]
    worker.libvirt.agents.add(INSTANCE)
    return worker


def ended(worker: Worker, outcome: Outcome) -> None:
    worker.journal.close_entry(MIGRATION, outcome)
    worker.tasks = []


def test_it_leaves_when_the_migration_has_completed(moving: Worker) -> None:
    moving.before.take(BEGUN)
    assert (moving.left(), moving.libvirt.froze) == (ON_BOTH, [])
    moving.keeper.tidy()
    assert moving.left() == ON_BOTH
    moving.restart()
    moving.libvirt.states.pop(INSTANCE)
    ended(moving, Outcome.COMPLETED)
    moving.keeper.tidy()
    assert (moving.left(), moving.ledger.rows()) == (NOTHING, [])


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.CANCELLED])
def test_it_is_kept_for_a_week_when_the_migration_has_not(moving: Worker,
                                                          outcome: Outcome) -> None:
    moving.before.take(BEGUN)
    ended(moving, outcome)
    moving.keeper.tidy()
    assert moving.left() == ON_BOTH
    moving.now += before_migration.KEPT_SECONDS + 1
    moving.keeper.tidy()
    assert moving.left() == NOTHING


@pytest.mark.parametrize("state", [GuestState.OUTGOING, GuestState.ABSENT])
def test_a_guest_that_moves_already_is_left_alone(moving: Worker, state: GuestState) -> None:
    moving.libvirt.states[INSTANCE] = state
    moving.before.take(BEGUN)
    assert moving.left() == NOTHING


def test_a_migration_that_has_ended_needs_none(moving: Worker) -> None:
    ended(moving, Outcome.FAILED)
    moving.before.take(BEGUN)
    assert moving.left() == NOTHING


def test_what_cannot_be_taken_is_only_told(moving: Worker,
                                           caplog: pytest.LogCaptureFixture) -> None:
    def away(what: str, image: RbdImage) -> None:
        if image == DATA:
            raise errors.CephForbids(user="nova", wish="x", pool="volumes", reason="no")
    moving.ceph.before = away
    moving.before.take(BEGUN)
    assert "no snapshot before its migration" in caplog.text
    assert moving.ceph.images[ROOT].snapshots == {}


def test_nothing_is_taken_unless_it_is_wanted(worker: Worker) -> None:
    idle = before_migration.BeforeMigration(worker.maker, worker.remover, worker.ledger,
                                            worker.quiet, worker.journal, is_on=False)
    idle.begun(BEGUN)
    assert worker.left() == NOTHING


@pytest.mark.parametrize("key", ["7", "a" * 128, MIGRATION.key])
def test_any_key_makes_a_name(key: str) -> None:
    assert len(before_migration.name_for(key)) <= 64
