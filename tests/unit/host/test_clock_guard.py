# SPDX-License-Identifier: Apache-2.0
"""When the clock is believed, and when nothing may leave on its word."""

import pathlib

import pytest

from rbd_worker.host import clock_guard

HOUR = 3600
DAY = 86400


class Machine:
    """A host's clocks; ``pass_time`` moves them together."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.0
        self.uptime = 1000.0
        self.boot = "first"

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.uptime += seconds

    def reboot(self, off: float, uptime: float = 60) -> None:
        """Switched off for ``off`` seconds."""
        self.wall += off + uptime
        self.uptime = uptime
        self.boot += "+"

    def guard(self, directory: pathlib.Path) -> clock_guard.ClockGuard:
        return clock_guard.ClockGuard(directory, clock_guard.Clocks(
            lambda: self.wall, lambda: self.uptime, lambda: self.boot))


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def guard(machine: Machine, tmp_path: pathlib.Path) -> clock_guard.ClockGuard:
    guard = machine.guard(tmp_path)
    assert guard.doubt() == ""
    return guard


def test_time_that_passes_is_believed(machine: Machine, guard: clock_guard.ClockGuard) -> None:
    for _ in range(200):
        machine.pass_time(HOUR)
        machine.wall += 5  # slewed by the time service
        assert guard.doubt() == ""


@pytest.mark.parametrize(("jump", "words"), [
    (365 * DAY, "set ahead by 365.0 d"), (-HOUR, "set back by 1.0 h"),
    (2 * HOUR, "set ahead by 2.0 h")])
def test_a_jump_is_told_and_doubted_for_a_day(
        machine: Machine, guard: clock_guard.ClockGuard, jump: float, words: str) -> None:
    machine.pass_time(HOUR)
    machine.wall += jump
    assert words in guard.doubt()
    machine.pass_time(DAY - 1)
    assert words in guard.doubt()
    machine.pass_time(2)
    assert guard.doubt() == ""
    machine.pass_time(HOUR)
    assert guard.doubt() == ""


def test_a_clock_that_is_set_right_is_believed_at_once(machine: Machine,
                                                       guard: clock_guard.ClockGuard) -> None:
    machine.pass_time(HOUR)
    machine.wall += 365 * DAY
    assert guard.doubt()
    machine.pass_time(HOUR)
    machine.wall -= 365 * DAY - 3
    assert guard.doubt() == ""


def test_a_second_jump_begins_the_day_again(machine: Machine,
                                            guard: clock_guard.ClockGuard) -> None:
    machine.wall += HOUR
    assert guard.doubt()
    machine.pass_time(DAY - HOUR)
    machine.wall += HOUR
    assert "ahead by 2.0 h" in guard.doubt()
    machine.pass_time(DAY - HOUR)
    assert guard.doubt()


def test_a_jump_while_no_worker_ran_is_seen(machine: Machine, guard: clock_guard.ClockGuard,
                                            tmp_path: pathlib.Path) -> None:
    machine.pass_time(8 * DAY)
    assert machine.guard(tmp_path).doubt() == ""
    machine.pass_time(HOUR)
    machine.wall += 30 * DAY
    assert "ahead by 30.0 d" in machine.guard(tmp_path).doubt()


def test_a_restart_does_not_shorten_the_doubt(machine: Machine, guard: clock_guard.ClockGuard,
                                              tmp_path: pathlib.Path) -> None:
    machine.wall += 30 * DAY
    assert guard.doubt()
    for _ in range(20):
        machine.pass_time(HOUR)
        assert machine.guard(tmp_path).doubt()
    machine.pass_time(5 * HOUR)
    assert machine.guard(tmp_path).doubt() == ""


@pytest.mark.parametrize(("off", "doubted"), [
    (300, False), (20 * HOUR, False), (30 * DAY, True), (-2 * HOUR, True)])
def test_over_a_reboot_only_a_plausible_pause_is_believed(
        machine: Machine, guard: clock_guard.ClockGuard, off: float, doubted: bool) -> None:
    machine.pass_time(HOUR)
    guard.doubt()
    machine.reboot(off)
    assert bool(guard.doubt()) is doubted
    machine.pass_time(DAY + 1)
    assert guard.doubt() == ""


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"wall": "now"}', b"\xff" * 100])
def test_a_file_that_makes_no_sense_is_none(machine: Machine, tmp_path: pathlib.Path,
                                            content: bytes) -> None:
    (tmp_path / "clock.json").write_bytes(content)
    assert machine.guard(tmp_path).doubt() == ""
    machine.wall += DAY
    assert machine.guard(tmp_path).doubt()


def test_without_a_place_to_write_the_running_worker_still_sees_jumps(
        machine: Machine, tmp_path: pathlib.Path) -> None:
    guard = machine.guard(tmp_path / "missing")
    assert guard.doubt() == ""
    machine.wall += DAY
    assert guard.doubt()


def test_the_machines_own_clocks_agree(tmp_path: pathlib.Path) -> None:
    assert clock_guard.ClockGuard(tmp_path).doubt() == ""
    assert clock_guard.ClockGuard(tmp_path).doubt() == ""
