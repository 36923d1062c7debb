# SPDX-License-Identifier: Apache-2.0
import time

import pytest

from rbd_worker.triggers.probe import RETURN_SECONDS, Probe


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_first_probe_is_due_at_once(clock):
    assert Probe(20, clock).deadline <= clock.now


def test_a_probe_that_is_out_is_overdue_after_its_time(clock):
    probe = Probe(20, clock)
    probe.send()
    assert (probe.is_out, probe.deadline) == (True, 1000 + RETURN_SECONDS)


@pytest.mark.parametrize("took", [0.0, 0.5, 4.9])
def test_the_next_probe_is_due_one_interval_after_the_last_was_sent(clock, took):
    probe = Probe(20, clock)
    body = probe.send()
    clock.now += took
    assert probe.came_back(body)
    assert (probe.is_out, probe.deadline) == (False, 1020)


def test_a_short_interval_never_makes_probes_overlap(clock):
    probe = Probe(1, clock)
    body = probe.send()
    assert probe.deadline == 1001
    probe.came_back(body)
    assert probe.deadline == 1001


@pytest.mark.parametrize("stranger", [b"", b"rbd-worker probe ", b"rbd-worker probe 01234567"])
def test_a_probe_of_an_earlier_life_proves_nothing(clock, stranger):
    probe = Probe(20, clock)
    probe.send()
    assert not probe.came_back(stranger)
    assert probe.is_out
    assert probe.last_seen is None


def test_only_the_newest_probe_counts(clock):
    probe = Probe(20, clock)
    first, second = probe.send(), probe.send()
    assert not probe.came_back(first)
    assert probe.came_back(second)
    assert probe.last_seen == pytest.approx(time.time(), abs=5)


def test_a_probe_comes_back_once(clock):
    probe = Probe(20, clock)
    body = probe.send()
    assert probe.came_back(body)
    assert not probe.came_back(body)


def test_a_hurried_probe_is_due_at_once_and_the_old_one_forgotten(clock):
    probe = Probe(20, clock)
    body = probe.send()
    probe.hurry()
    assert (probe.is_out, probe.deadline) == (False, 1000)
    assert not probe.came_back(body)
