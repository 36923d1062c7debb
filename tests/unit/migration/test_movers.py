# SPDX-License-Identifier: Apache-2.0
"""Threads that move guests: slots, retries, aborts and what is told of the end."""

import dataclasses
import threading
import time
import typing as ty

import pytest

from devstack.lab import processes
from rbd_worker import errors
from rbd_worker.host.hypervisor import MoveOrder
from rbd_worker.migration.mover import Movers
from rbd_worker.model import Executor, GuestState, Migration, Role

ORDER = MoveOrder(destination="node02", inbound_address=None, graphics_listen=None)


def _migration(number: int) -> Migration:
    return Migration(f"m{number}", f"{number:08x}-d71a-48c7-bf99-94d829b20aef", Role.SOURCE,
                     "node01", "node02", Executor.LIBVIRT)


@dataclasses.dataclass
class Result:
    downtime_ms: int = 34
    total_ms: int = 2000
    memory_bytes: int = 64 << 20


class Guests:
    """A hypervisor whose moves end when they are told to."""

    def __init__(self) -> None:
        self.moving: list[str] = []
        self.most_at_once = 0
        self.may_end = threading.Event()
        self.failures: list[Exception] = []
        self.where = GuestState.RUNNING
        self.aborted: list[str] = []
        #: Why a move that is followed is ended.
        self.said = ""
        self._lock = threading.Lock()

    def move(self, instance: str, _order: MoveOrder, on_progress: ty.Any) -> Result:
        with self._lock:
            self.moving.append(instance)
            self.most_at_once = max(self.most_at_once, len(self.moving))
            failure = self.failures.pop(0) if self.failures else None
        try:
            if failure is not None:
                raise failure
            on_progress("half")
            assert self.may_end.wait(10)
            return Result()
        finally:
            with self._lock:
                self.moving.remove(instance)

    def follow(self, instance: str, on_progress: ty.Any) -> str:
        on_progress("half")
        assert self.may_end.wait(10)
        if self.failures:
            raise self.failures.pop(0)
        return self.said

    def state(self, _instance: str) -> GuestState:
        return self.where

    def abort(self, instance: str) -> None:
        self.aborted.append(instance)


class Ends:
    """Waits for moves to end."""

    def __init__(self, movers: Movers) -> None:
        self.keys: list[str] = []
        self._condition = threading.Condition()
        movers.on_end = self._ended

    def _ended(self, key: tuple[str, Role]) -> None:
        with self._condition:
            self.keys.append(key[0])
            self._condition.notify_all()

    def wait(self, count: int) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: len(self.keys) >= count, 10)


@pytest.fixture
def guests() -> Guests:
    return Guests()


@pytest.fixture
def shutdown() -> threading.Event:
    return threading.Event()


def _movers(guests: Guests, shutdown: threading.Event, limit: int = 1,
            retry_count: int = 30) -> tuple[Movers, Ends]:
    movers = Movers(ty.cast(ty.Any, guests), limit, retry_count, shutdown)
    return movers, Ends(movers)


def _wait_until(condition: ty.Callable[[], bool]) -> None:
    processes.wait_until(condition, 10, "what the movers do")


def test_what_libvirt_measured_is_told_at_the_end(guests: Guests,
                                                  shutdown: threading.Event) -> None:
    movers, ends = _movers(guests, shutdown)
    guests.may_end.set()
    movers.start(_migration(1), ORDER)
    ends.wait(1)
    assert movers.end_of("m1") == {"downtime_ms": 34, "total_ms": 2000,
                                   "memory_bytes": 64 << 20}
    assert not movers.is_moving("m1")


def test_while_a_guest_moves_its_progress_can_be_seen(guests: Guests,
                                                      shutdown: threading.Event) -> None:
    movers, ends = _movers(guests, shutdown)
    movers.start(_migration(1), ORDER)
    _wait_until(lambda: movers.progress_of("m1") is not None)
    assert movers.is_moving("m1") and movers.end_of("m1") is None
    guests.may_end.set()
    ends.wait(1)
    movers.forget("m1")
    assert movers.progress_of("m1") is None and movers.end_of("m1") is None


def test_a_guest_is_moved_by_one_thread_only(guests: Guests, shutdown: threading.Event) -> None:
    movers, ends = _movers(guests, shutdown, limit=0)
    for _ in range(5):
        movers.start(_migration(1), ORDER)
    _wait_until(lambda: len(guests.moving) == 1)
    guests.may_end.set()
    ends.wait(1)
    assert ends.keys == ["m1"]


@pytest.mark.parametrize(("limit", "at_once"), [(1, 1), (2, 2), (0, 4)])
def test_no_more_guests_move_at_once_than_allowed(guests: Guests, shutdown: threading.Event,
                                                  limit: int, at_once: int) -> None:
    movers, ends = _movers(guests, shutdown, limit)
    for number in range(4):
        movers.start(_migration(number), ORDER)
    _wait_until(lambda: len(guests.moving) == at_once)
    time.sleep(0.05)
    guests.may_end.set()
    ends.wait(4)
    assert guests.most_at_once == at_once


def test_an_interrupted_order_is_repeated_while_the_guest_is_here(
        guests: Guests, shutdown: threading.Event) -> None:
    movers, ends = _movers(guests, shutdown)
    guests.failures = [errors.MoveInterrupted(instance="i", reason="connection lost")]
    guests.may_end.set()
    begun = time.monotonic()
    movers.start(_migration(1), ORDER)
    ends.wait(1)
    assert time.monotonic() - begun >= 1
    assert movers.end_of("m1") == dataclasses.asdict(Result())


def test_an_interrupted_order_is_not_repeated_when_the_guest_is_under_way(
        guests: Guests, shutdown: threading.Event) -> None:
    movers, ends = _movers(guests, shutdown)
    guests.failures = [errors.MoveInterrupted(instance="i", reason="connection lost")] * 9
    guests.where = GuestState.OUTGOING
    movers.start(_migration(1), ORDER)
    ends.wait(1)
    assert movers.end_of("m1") == {}
    assert len(guests.failures) == 8


@pytest.mark.parametrize("error", [
    errors.MoveRefused(instance="i", reason="no secret", fix="Define it"),
    errors.MoveUnsettled(instance="i", reason="connection lost")], ids=repr)
def test_other_errors_end_the_move_with_their_sentence(
        guests: Guests, shutdown: threading.Event, error: errors.Error) -> None:
    movers, ends = _movers(guests, shutdown)
    guests.failures = [error] * 9
    movers.start(_migration(1), ORDER)
    ends.wait(1)
    assert movers.end_of("m1") == {"error": error.sentence}
    assert len(guests.failures) == 8


def test_a_bug_ends_the_move_too(guests: Guests, shutdown: threading.Event) -> None:
    movers, ends = _movers(guests, shutdown)
    guests.failures = [ZeroDivisionError("why")]
    movers.start(_migration(1), ORDER)
    ends.wait(1)
    assert movers.end_of("m1") == {"error": "internal error ZeroDivisionError"}


def test_a_shutdown_ends_the_pause_between_two_attempts(guests: Guests,
                                                        shutdown: threading.Event) -> None:
    movers, ends = _movers(guests, shutdown)
    guests.failures = [errors.MoveInterrupted(instance="i", reason="connection lost")] * 99
    movers.start(_migration(1), ORDER)
    _wait_until(lambda: len(guests.failures) < 99)
    shutdown.set()
    ends.wait(1)
    assert len(guests.failures) >= 97


def test_a_shutdown_ends_the_wait_for_a_slot(guests: Guests, shutdown: threading.Event) -> None:
    movers, ends = _movers(guests, shutdown)
    movers.start(_migration(1), ORDER)
    movers.start(_migration(2), ORDER)
    _wait_until(lambda: len(guests.moving) == 1)
    shutdown.set()
    ends.wait(1)
    guests.may_end.set()
    ends.wait(2)
    assert sorted(("error" in (movers.end_of(key) or {})) for key in ("m1", "m2")) == [False, True]


def test_a_move_that_was_aborted_before_its_turn_never_begins(
        guests: Guests, shutdown: threading.Event) -> None:
    movers, ends = _movers(guests, shutdown)
    movers.start(_migration(1), ORDER)
    _wait_until(lambda: len(guests.moving) == 1)
    movers.start(_migration(2), ORDER)
    movers.abort(_migration(2))
    ends.wait(1)
    assert ends.keys == ["m2"], "it does not wait for the other guest"
    guests.may_end.set()
    ends.wait(2)
    assert "aborted" in (movers.end_of("m2") or {})["error"]
    assert guests.most_at_once == 1
    assert guests.aborted == [_migration(2).instance]


def test_an_abort_that_comes_a_moment_before_libvirts_job_is_not_lost(
        shutdown: threading.Event) -> None:
    class Late(Guests):
        def move(self, instance: str, order: MoveOrder, on_progress: ty.Any) -> Result:
            movers.abort(_migration(1))  # libvirt has no job yet: this one is lost
            return super().move(instance, order, on_progress)
    guests = Late()
    movers, ends = _movers(guests, shutdown)
    guests.may_end.set()
    movers.start(_migration(1), ORDER)
    ends.wait(1)
    assert guests.aborted == [_migration(1).instance] * 2


def test_an_aborted_one_is_not_tried_again(guests: Guests, shutdown: threading.Event) -> None:
    movers, ends = _movers(guests, shutdown)
    guests.failures = [errors.MoveInterrupted(instance="i", reason="connection lost")] * 99
    movers.start(_migration(1), ORDER)
    _wait_until(lambda: len(guests.failures) < 99)
    movers.abort(_migration(1))
    ends.wait(1)
    assert "aborted" in (movers.end_of("m1") or {})["error"]


@pytest.mark.parametrize(("said", "end"), [
    ("", {"adopted": True}),
    ("not complete after 800 s: abort", {"error": "not complete after 800 s: abort"})])
def test_an_adopted_move_has_an_end_and_is_adopted_once(
        guests: Guests, shutdown: threading.Event, said: str, end: dict[str, ty.Any]) -> None:
    movers = Movers(ty.cast(ty.Any, guests), 1, 0, shutdown)
    ends = Ends(movers)
    guests.said = said
    movers.adopt(_migration(1))
    movers.adopt(_migration(1))
    assert movers.is_moving("m1") and movers.end_of("m1") is None
    guests.may_end.set()
    ends.wait(1)
    assert movers.end_of("m1") == end and not movers.is_moving("m1")
    assert ends.keys == ["m1"]


def test_an_adopted_move_takes_no_slot(guests: Guests, shutdown: threading.Event) -> None:
    movers = Movers(ty.cast(ty.Any, guests), 1, 0, shutdown)
    ends = Ends(movers)
    movers.adopt(_migration(1))
    movers.start(_migration(2), ORDER)
    guests.may_end.set()
    ends.wait(2)
    assert sorted(ends.keys) == ["m1", "m2"]


def test_a_move_that_cannot_be_followed_is_looked_at_again(
        guests: Guests, shutdown: threading.Event) -> None:
    movers = Movers(ty.cast(ty.Any, guests), 1, 0, shutdown)
    ends = Ends(movers)
    guests.failures = [errors.HypervisorUnavailable(uri="x", reason="restarted")]
    guests.may_end.set()
    movers.adopt(_migration(1))
    ends.wait(1)
    assert movers.end_of("m1") is None and not movers.is_moving("m1")


def test_a_move_for_which_no_thread_can_be_started_may_be_ordered_again(
        guests: Guests, shutdown: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")
    movers, ends = _movers(guests, shutdown)
    for begin in (lambda: movers.start(_migration(1), ORDER), lambda: movers.adopt(_migration(1))):
        with monkeypatch.context() as full:
            full.setattr(threading.Thread, "start", refused)
            with pytest.raises(RuntimeError):
                begin()
        assert not movers.is_moving("m1")
    guests.may_end.set()
    movers.start(_migration(1), ORDER)
    ends.wait(1)
