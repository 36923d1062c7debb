# SPDX-License-Identifier: Apache-2.0
"""Workers that are broken on purpose, one way each, to see that the simulation notices.

Each is a patch of the worker's own code for the length of a ``with`` block,
and names the invariant that it has to break.
"""

import contextlib
import dataclasses
import shutil
import typing as ty
import unittest.mock

from rbd_worker.host import area, evidence, probe, trash, trash_purge
from rbd_worker.migration import (
    engine,
    journal_file,
    mover,
    outcome_steps,
    pins,
    plans,
    rivals,
    settle,
    task,
)
from rbd_worker.model import Evidence, Executor, Fact, GuestState, Verdict
from rbd_worker.triggers import hearing
from tests.simulation import power
from tests.simulation.schedule import (
    CallMishap,
    Cloud,
    Failing,
    Forgery,
    Kill,
    Leftover,
    Move,
    Schedule,
)
from tests.simulation.systematic import story

Patch = ty.Callable[[], contextlib.AbstractContextManager[ty.Any]]


@dataclasses.dataclass(frozen=True)
class Broken:
    """:ivar breaks: the invariant; others may break as well.
    :ivar first: schedules that are played before those of the first seeds.
    """

    name: str
    breaks: str
    patches: tuple[tuple[ty.Any, str, ty.Any], ...]
    first: tuple[Schedule, ...] = ()

    @contextlib.contextmanager
    def applied(self) -> ty.Iterator[None]:
        with contextlib.ExitStack() as held:
            for target, name, value in self.patches:
                held.enter_context(unittest.mock.patch.object(target, name, value))
            yield


def _yes(witness: str) -> ty.Callable[..., Fact]:
    return lambda *_, **__: Fact(witness, Verdict.YES, "taken for granted")


def _ask_nobody(_self: ty.Any, instances: ty.Sequence[str], *_: ty.Any) -> dict[str, Evidence]:
    facts = tuple(_yes(witness)() for witness in sorted(Evidence.REQUIRED))
    return {instance: Evidence(instance, facts, GuestState.RUNNING) for instance in instances}


def _acknowledge_first(self: ty.Any, body: bytes) -> None:
    self._coordinator.submit(lambda: _HEARD(self, body))


def _keep_the_body(self: ty.Any, body: bytes) -> None:
    self._ports.journal.refuse("cast", body.decode()[-1000:])
    _HEARD(self, body)


def _remove_for_good(_self: trash.Trash, directory: ty.Any, found: Evidence,
                     _key: str) -> trash.Item:
    shutil.rmtree(directory.label)
    return trash.Item("gone", found.instance, 0.0)


def _without_undo(role: ty.Any, executor: ty.Any) -> tuple[plans.Step, ...]:
    return tuple(dataclasses.replace(step, undo=None) for step in _PLAN(role, executor))


def _never_look_again(task_: ty.Any, error: ty.Any) -> engine.Parked:
    return dataclasses.replace(_UNRESOLVED(task_, error), seconds=0)


def _forget_what_was_placed(self: ty.Any, name: str, **data: ty.Any) -> None:
    if name != "files_placed":
        _NOTE(self, name, **data)


def _end_it_afterwards(self: ty.Any, migration: ty.Any, order: ty.Any) -> ty.Any:
    result = _ATTEMPT(self, migration, order)
    self._hypervisor.abort(migration.instance)
    return result


def _not_flushed(path: ty.Any) -> ty.Any:
    db = _OPENED(path)
    db.execute("PRAGMA synchronous=OFF")
    return db


def _surely_there(*_: object) -> settle.Settlement:
    return settle.Settlement(settle.Place.DESTINATION, "it surely has moved")


_OPENED = journal_file.opened
_HEARD = hearing.Hearing.heard
_PLAN = plans.plan
_UNRESOLVED = engine._unresolved
_NOTE = task.Task.note
_ATTEMPT = mover.Movers._attempt

BROKEN = (
    Broken("a directory leaves although libvirt here has its guest", "removal", (
        (evidence.Witnesses, "_libvirt_here", _yes("libvirt here")),),
        (story(Executor.NOVA, "there", Leftover(1, 0, is_defined=True)),)),
    Broken("neither the holder nor the watchers are asked", "removal", (
        (evidence, "_holder", _yes("holder")),
        (evidence.Witnesses, "_watchers", lambda *_: iter([_yes("watchers")()])))),
    Broken("watchers are not looked at", "removal", (
        (evidence, "_image_fact", _yes("watchers")),)),
    Broken("the nonce is not compared", "removal", (
        (probe, "compare", _yes("path")), (evidence.Witnesses, "_path", _yes("path")))),
    Broken("directories are removed before the proof", "removal", (
        (evidence.Witnesses, "ask_all", _ask_nobody),)),
    Broken("what leaves does not go to the trash", "bytes", (
        (trash.Trash, "take", _remove_for_good),)),
    Broken("nothing is handed over", "bytes", ((pins, "pinned", lambda _task: None),)),
    Broken("what was placed is forgotten", "bytes", (
        (task.Task, "note", _forget_what_was_placed),), tuple(
            story(Executor.LIBVIRT, "there, back and there", Kill(1, "write", number, 0.01),
                  history_files=1) for number in range(20, 50))),
    Broken("what comes late is not held by the next migration", "bytes", (
        (pins, "ensure_held_by_next", lambda *_: None),), (
        story(Executor.NOVA, "there", CallMishap(6, "lost"), Move(9.3, 0, 1),
              CallMishap(9, "lost")),)),
    Broken("a failed migration is not undone", "directory", ((plans, "plan", _without_undo),)),
    Broken("an unresolved migration is not looked at again", "rest", (
        (engine, "_unresolved", _never_look_again),)),
    Broken("the outcome is taken for granted", "rest", (
        (outcome_steps, "settle", _surely_there),)),
    Broken("a wait has no reason", "explained", (
        (engine.Task, "mark", lambda *_: None),)),
    Broken("the trash is emptied before its time", "bytes", (
        (trash_purge, "due", lambda items, _now, _limits: list(items)),),
        (story(Executor.LIBVIRT, "there and back"),)),
    Broken("an end that libvirt left open is waited for without a word", "explained", (
        (outcome_steps, "_check_for_open_end", lambda _task: None),),
        (story(Executor.LIBVIRT, "left open for good"),)),
    Broken("the guest's move is ended without an order", "guest", (
        (mover.Movers, "_attempt", _end_it_afterwards),)),
    Broken("a message is acknowledged before it is journaled", "message", (
        (hearing.Hearing, "heard", _acknowledge_first),), tuple(
            story(Executor.NOVA, "there", Kill(0, "write", number, 5.0))
            for number in range(1, 6))),
    Broken("the journal is not flushed", "message", (
        (journal_file, "opened", _not_flushed),), tuple(
            story(Executor.NOVA, "there", Kill(0, "written", number, 90.0, is_power=True))
            for number in range(1, 8))),
    Broken("names are not flushed", "bytes", (
        (power.Unflushed, "flushed", lambda *_: None),), tuple(
        story(executor, "there", Kill(1, "written", number, 90.0, is_power=True))
        for executor in Executor for number in range(5, 25))),
    Broken("a copy that the disk refused counts as written", "bytes", (
        (area.Area, "_renew", lambda _: None),), tuple(
        story(Executor.NOVA, "there", Failing(1, "flush", number)) for number in range(1, 40))),
    Broken("which order was there first is forgotten", "carried", (
        (rivals, "note", lambda _others: {}),), (
        Schedule(0, Cloud(Executor.NOVA, 3, 1), (
            Move(1, 0, 2), Forgery(1.2, 0, 0, "live_migration")), (0, 1)),)),
    Broken("a message's body is kept", "secret", ((hearing.Hearing, "heard", _keep_the_body),)),
)
