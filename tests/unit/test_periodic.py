# SPDX-License-Identifier: Apache-2.0
"""What is done again and again: at once, after an error too, and never after the shutdown."""

import threading

import pytest

from rbd_worker import errors
from rbd_worker.periodic import Periodic


def test_it_is_done_at_once_and_again(caplog: pytest.LogCaptureFixture) -> None:
    shutdown, turns = threading.Event(), threading.Semaphore(0)
    Periodic("t", turns.release, 0.01, shutdown, "trouble").start()
    assert turns.acquire(timeout=10) and turns.acquire(timeout=10)
    shutdown.set()


def test_an_error_is_told_and_the_next_turn_comes(caplog: pytest.LogCaptureFixture) -> None:
    shutdown, turns = threading.Event(), threading.Semaphore(0)

    def fail() -> None:
        turns.release()
        raise errors.HypervisorUnavailable(uri="qemu:///system", reason="it is down")

    Periodic("t", fail, 0.01, shutdown, "the round came to nothing").start()
    assert turns.acquire(timeout=10) and turns.acquire(timeout=10)
    shutdown.set()
    assert "the round came to nothing: libvirt at qemu:///system" in caplog.text


def test_an_error_that_is_not_foreseen_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    shutdown, turns = threading.Event(), threading.Semaphore(0)

    def fail() -> None:
        turns.release()
        raise KeyError("x")

    Periodic("t", fail, 0.01, shutdown, "the round came to nothing").start()
    assert turns.acquire(timeout=10) and turns.acquire(timeout=10)
    shutdown.set()
    assert "the round came to nothing, in a way that is not foreseen" in caplog.text


def test_an_interval_of_zero_is_never() -> None:
    turns = threading.Semaphore(0)
    Periodic("t", turns.release, 0, threading.Event(), "trouble").start()
    assert not turns.acquire(timeout=0.2)


def test_after_the_shutdown_nothing_begins() -> None:
    shutdown, turns = threading.Event(), threading.Semaphore(0)
    shutdown.set()
    Periodic("t", turns.release, 0.01, shutdown, "trouble").start()
    assert not turns.acquire(timeout=0.2)
