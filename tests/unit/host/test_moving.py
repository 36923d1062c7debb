# SPDX-License-Identifier: Apache-2.0
"""How a move is driven, on a stand-in for libvirt whose moves end when the test says."""

import threading
import time
import typing as ty

import libvirt
import pytest

from devstack.lab import processes
from rbd_worker import errors
from rbd_worker.host import moving
from rbd_worker.host.move_options import MoveOrder
from tests.unit.host import libvirt_settings

GUEST = "11111111-2222-4333-8444-000000000001"
PAUSED_USER, PAUSED_POSTCOPY, RUNS = (3, 1), (3, 12), (1, 1)
ABORTED, FAILED, LOST, INVALID = 78, 9, 38, 55
FIGURES = {"operation": 5, "time_elapsed": 1234, "downtime": 34, "memory_processed": 5 << 20}


def error(code: int) -> libvirt.libvirtError:
    one = libvirt.libvirtError("")
    one.err = (code, 10, "said so", 2, None, None, None, -1, -1)
    return one


class StandIn:
    """A connection and its one domain; records what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[tuple[ty.Any, ...]] = []
        self.at: tuple[int, int] = RUNS
        self.over = threading.Event()
        self.failure: int | None = None
        self.downtime_failures = 0
        self.is_closed = False
        self.figures_delay = 0.0
        self._completed: ty.Any = None

    # the connection
    def lookupByUUIDString(self, uuid: str) -> "StandIn":
        return self

    def domainEventRegisterAny(self, domain: object, event: int, handler: ty.Any,
                               opaque: object) -> int:
        self._completed = handler
        return 7

    def domainEventDeregisterAny(self, number: int) -> None:
        self.calls.append(("deregister", number))

    def close(self) -> None:
        self.is_closed = True

    # the domain
    def XMLDesc(self, flags: int) -> str:
        return "<domain><memory unit='MiB'>64</memory><devices/></domain>"

    def migrateToURI3(self, uri: str, parameters: dict[str, ty.Any], flags: int) -> None:
        self.calls.append(("migrate", uri))
        assert self.over.wait(10)
        if self.failure is not None:
            raise error(self.failure)
        timer = threading.Timer(self.figures_delay, self._completed, (self, self, FIGURES, None))
        timer.daemon = True
        timer.start()

    def jobStats(self) -> dict[str, int]:
        return {"type": 2, "memory_total": 100, "memory_processed": 40, "memory_remaining": 60,
                "memory_bps": 9, "memory_iteration": 3, "time_elapsed": 500}

    def state(self) -> list[int]:
        return list(self.at)

    def migrateSetMaxDowntime(self, milliseconds: int, flags: int) -> None:
        self.calls.append(("downtime", milliseconds))
        if self.downtime_failures:
            self.downtime_failures -= 1
            raise error(INVALID)

    def migrateStartPostCopy(self, flags: int) -> None:
        self.calls.append(("post-copy",))
        self.at = PAUSED_POSTCOPY

    def abortJob(self) -> None:
        self.calls.append(("abort",))
        self.end(ABORTED)

    def suspend(self) -> None:
        self.calls.append(("suspend",))
        self.at = PAUSED_USER

    # the test
    def end(self, failure: int | None = None) -> None:
        self.failure = failure
        self.over.set()

    def count(self, name: str) -> int:
        return sum(call[0] == name for call in self.calls)


class Running:
    """A move in its thread."""

    def __init__(self, **options: ty.Any) -> None:
        self.libvirtd = StandIn()
        self.progress: list[moving.Progress] = []
        self.move = moving.Move(self.libvirtd, libvirt_settings.make(**options), GUEST,
                                MoveOrder("node2"), self.progress.append)
        self.result: moving.MoveResult | None = None
        self.error: errors.Error | None = None
        self._thread = threading.Thread(target=self._run)

    def start(self) -> "Running":
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            self.result = self.move.run()
        except errors.Error as e:
            self.error = e

    def until(self, condition: ty.Callable[[], bool], seconds: float = 5.0) -> None:
        processes.wait_until(condition, seconds, "what the move does",
                             seen=lambda: self.libvirtd.calls)

    def end(self, failure: int | None = None) -> None:
        self.libvirtd.end(failure)
        self.join()

    def join(self) -> None:
        self._thread.join(5)
        assert not self._thread.is_alive()


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "FIRST_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(moving, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(moving, "FIGURES_SECONDS", 0.1)


def test_a_move_that_ends_well_tells_libvirts_figures_and_closes_its_connection():
    running = Running().start()
    running.end()
    assert running.result == moving.MoveResult(downtime_ms=34, total_ms=1234,
                                               memory_bytes=5 << 20)
    assert running.libvirtd.calls[0] == ("migrate", "qemu+tcp://node2/system")
    assert running.libvirtd.is_closed and ("deregister", 7) in running.libvirtd.calls


@pytest.mark.parametrize(("failure", "kind"), [
    (LOST, errors.MoveInterrupted), (FAILED, errors.MoveUnsettled), (66, errors.MoveRefused)])
def test_a_move_that_fails_closes_its_connection_too(failure: int, kind: type[errors.Error]):
    running = Running().start()
    running.end(failure)
    assert type(running.error) is kind
    assert running.libvirtd.is_closed


def test_progress_is_told_while_the_move_runs_and_not_after():
    running = Running().start()
    running.until(lambda: len(running.progress) >= 3)
    running.end()
    told = len(running.progress)
    time.sleep(0.1)
    assert len(running.progress) == told
    last = running.progress[-1]
    assert (last.memory_total, last.memory_processed, last.memory_remaining) == (100, 40, 60)
    assert (last.rate, last.iteration, last.elapsed, last.mode) == (9, 3, 500, "precopy")
    assert last.downtime_limit == 50  # a tenth of 500 ms at first


def test_the_downtime_is_set_once_a_step_and_again_where_that_failed():
    running = Running()
    running.libvirtd.downtime_failures = 2
    running.start()
    running.until(lambda: len(running.progress) >= 8)
    running.end()
    assert running.libvirtd.count("downtime") == 3


def test_a_listener_that_fails_does_not_end_the_move():
    running = Running()
    running.move._on_progress = lambda progress: 1 / 0
    running.start()
    time.sleep(0.1)
    running.end()
    assert running.result is not None


#: 0.1 s: at least two GiB are counted.
SHORT = {"live_migration_completion_timeout": 0.05}


def test_a_move_that_takes_too_long_is_aborted_once():
    running = Running(**SHORT).start()
    running.join()
    assert running.libvirtd.count("abort") == 1
    assert isinstance(running.error, errors.MoveUnsettled)
    assert "not complete after 0.1 s: abort" in str(running.error)


def test_force_complete_starts_post_copy_where_that_is_permitted_once():
    running = Running(**SHORT, live_migration_timeout_action="force_complete",
                      live_migration_permit_post_copy=True).start()
    running.until(lambda: running.libvirtd.count("post-copy") == 1)
    running.until(lambda: running.progress[-1].mode == "postcopy")
    time.sleep(0.2)
    running.end()
    assert running.libvirtd.count("post-copy") == 1
    assert running.libvirtd.count("suspend") == running.libvirtd.count("abort") == 0


def test_force_complete_pauses_the_guest_otherwise():
    running = Running(**SHORT, live_migration_timeout_action="force_complete").start()
    running.until(lambda: running.libvirtd.count("suspend") == 1)
    time.sleep(0.1)
    running.end()
    assert running.libvirtd.count("suspend") == 1
    assert running.libvirtd.count("post-copy") == running.libvirtd.count("abort") == 0


def test_a_post_copy_that_an_operator_started_is_not_aborted():
    running = Running(**SHORT)
    running.libvirtd.at = PAUSED_POSTCOPY
    running.start()
    time.sleep(0.3)
    running.end()
    assert running.error is None
    assert running.libvirtd.count("abort") == running.libvirtd.count("downtime") == 0


def test_figures_that_come_a_little_after_the_end_are_told_too():
    running = Running()
    running.libvirtd.figures_delay = 0.05
    running.start()
    running.end()
    assert running.result is not None and running.result.downtime_ms == 34


def test_figures_that_never_come_are_not_waited_for():
    running = Running()
    running.libvirtd.figures_delay = 5.0
    running.start()
    running.end()
    assert running.error is None and running.result is None


def test_no_time_limit_is_no_time_limit():
    running = Running(live_migration_completion_timeout=0).start()
    time.sleep(0.3)
    running.end()
    assert running.libvirtd.count("abort") == 0
