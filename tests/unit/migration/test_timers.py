# SPDX-License-Identifier: Apache-2.0
"""Timers in real time, with real threads."""

import threading
import time
import typing as ty

import pytest

from rbd_worker.migration.timers import Timers


@pytest.fixture
def timers() -> ty.Iterator[Timers]:
    timers = Timers()
    yield timers
    timers.stop()


class Bell:
    """Remembers when it rang."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.rang: list[float] = []
        self.heard = threading.Event()

    def ring(self) -> None:
        self.rang.append(time.monotonic() - self.begun)
        self.heard.set()


def test_an_action_is_called_when_its_time_has_come_and_not_before(timers: Timers) -> None:
    bell = Bell()
    timers.after(0.1, "key", bell.ring)
    assert bell.heard.wait(5)
    assert bell.rang[0] >= 0.1


def test_a_shorter_one_does_not_wait_for_a_longer_one(timers: Timers) -> None:
    late, early = Bell(), Bell()
    timers.after(60, "late", late.ring)
    timers.after(0.05, "early", early.ring)
    assert early.heard.wait(5)
    assert late.rang == []


def test_a_new_time_for_a_key_replaces_the_old_one(timers: Timers) -> None:
    old, new = Bell(), Bell()
    timers.after(0.05, "key", old.ring)
    timers.after(0.15, "key", new.ring)
    assert new.heard.wait(5)
    assert old.rang == []


def test_a_cancelled_one_is_never_called(timers: Timers) -> None:
    cancelled, later = Bell(), Bell()
    timers.after(0.05, "key", cancelled.ring)
    timers.cancel("key")
    timers.cancel("key")
    timers.after(0.15, "other", later.ring)
    assert later.heard.wait(5)
    assert cancelled.rang == []


def test_an_action_may_set_the_next_timer(timers: Timers) -> None:
    bell = Bell()
    timers.after(0.01, "key", lambda: timers.after(0.01, "key", bell.ring))
    assert bell.heard.wait(5)


def test_an_action_that_fails_keeps_no_other_from_its_turn(timers: Timers) -> None:
    def fail() -> None:
        raise RuntimeError("can't start new thread")
    bell = Bell()
    timers.after(0.01, "fails", fail)
    timers.after(0.1, "rings", bell.ring)
    assert bell.heard.wait(5)


def test_after_a_stop_nothing_is_called_and_the_thread_is_gone() -> None:
    before = threading.active_count()
    timers, bell = Timers(), Bell()
    timers.after(0.1, "key", bell.ring)
    timers.stop()
    time.sleep(0.2)
    assert bell.rang == []
    assert threading.active_count() <= before


def test_replaced_timers_do_not_pile_up(timers: Timers) -> None:
    for _ in range(10_000):
        timers.after(3600, "key", lambda: None)
    assert len(timers._heap) < 1_000
