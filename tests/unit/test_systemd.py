# SPDX-License-Identifier: Apache-2.0
"""What systemd hears from the worker, on a real datagram socket."""

import collections.abc
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from rbd_worker import systemd, vitals


class Systemd:
    """The receiving end of sd_notify(3)."""

    def __init__(self, path: pathlib.Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(10)
        self.environment = {"NOTIFY_SOCKET": str(path)}

    def watching(self, seconds: float) -> dict[str, str]:
        return {**self.environment, "WATCHDOG_USEC": str(int(seconds * 1e6))}

    def next(self) -> list[str]:
        return self.socket.recv(4096).decode().split("\n")

    def until(self, wanted: str) -> list[str]:
        """Everything said up to a word."""
        said: list[str] = []
        while wanted not in said:
            said += self.next()
        return said

    def silence(self, seconds: float) -> list[str]:
        """What is said within a time."""
        said: list[str] = []
        end = time.monotonic() + seconds
        with contextlib.suppress(TimeoutError):
            while (left := end - time.monotonic()) > 0:
                self.socket.settimeout(left)
                said += self.next()
        return said


@pytest.fixture
def init(tmp_path: pathlib.Path) -> collections.abc.Iterator[Systemd]:
    one = Systemd(tmp_path / "notify")
    yield one
    one.socket.close()


def _well() -> None:
    return None


# -- the notifier -----------------------------------------------------------------


def test_ready_and_the_status_come_in_one_message(init: Systemd) -> None:
    systemd.Notifier(init.environment).ready("hearing")
    assert init.next() == ["READY=1", "STATUS=hearing"]


def test_a_status_of_several_lines_cannot_say_another_word(init: Systemd) -> None:
    systemd.Notifier(init.environment).status("waiting\nREADY=1")
    assert init.next() == ["STATUS=waiting READY=1"]


def test_a_name_in_the_abstract_namespace_is_reached() -> None:
    name = f"rbd-worker-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind("\0" + name)
        receiving.settimeout(10)
        systemd.Notifier({"NOTIFY_SOCKET": "@" + name}).stopping()
        assert receiving.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""},
                                         {"NOTIFY_SOCKET": "relative/path"},
                                         {"NOTIFY_SOCKET": "/nobody/listens/here"}])
def test_where_nobody_listens_nothing_happens(environment: dict[str, str]) -> None:
    systemd.Notifier(environment).ready("hearing")


@pytest.mark.parametrize("usec, pid, seconds", [
    ("60000000", "", 60.0), ("60000000", str(os.getpid()), 60.0), ("60000000", "1", None),
    ("", "", None), ("0", "", None), ("soon", "", None)],
    ids=("no process named", "this process", "another", "none", "zero", "no number"))
def test_the_watchdog_is_for_this_process_only(init: Systemd, usec: str, pid: str,
                                               seconds: float | None) -> None:
    names = {**init.environment, "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid}
    assert systemd.Notifier(names).watchdog_seconds == seconds


# -- the watchdog -------------------------------------------------------------------


def test_a_healthy_worker_says_so_again_and_again(init: Systemd) -> None:
    watchdog = systemd.Watchdog(systemd.Notifier(init.watching(0.3)), _well, lambda: "hearing")
    watchdog.start()
    said = init.until("STATUS=hearing") + init.until("WATCHDOG=1") + init.until("WATCHDOG=1")
    watchdog.stop()
    assert said.count("WATCHDOG=1") >= 2
    assert said.count("STATUS=hearing") == 1, "an unchanged status is not repeated"


def test_two_looks_fit_into_the_patience_of_systemd(init: Systemd) -> None:
    watchdog = systemd.Watchdog(systemd.Notifier(init.watching(60)), _well, lambda: "")
    assert watchdog.pause * 2 < 60


def test_an_ailing_worker_is_silent_and_its_status_says_why(init: Systemd) -> None:
    ill = threading.Event()
    watchdog = systemd.Watchdog(systemd.Notifier(init.watching(0.3)),
                                lambda: "the thread tap has ended" if ill.is_set() else None,
                                lambda: "hearing")
    watchdog.start()
    ill.set()
    init.until("STATUS=the thread tap has ended")
    assert init.silence(0.6) == []
    watchdog.stop()


def test_a_look_that_hangs_or_raises_is_no_sign_of_life(init: Systemd) -> None:
    release = threading.Event()
    looks = iter([None])

    def hangs() -> str | None:
        for answer in looks:
            return answer
        release.wait(10)
        raise RuntimeError("woken up too late")

    watchdog = systemd.Watchdog(systemd.Notifier(init.watching(0.3)), hangs, lambda: "hearing")
    watchdog.start()
    assert init.silence(0.8).count("WATCHDOG=1") == 1
    release.set()
    assert init.silence(0.5) == []
    watchdog.stop()


def test_without_systemd_no_thread_is_started() -> None:
    watchdog = systemd.Watchdog(systemd.Notifier({}), _well, lambda: "")
    watchdog.start()
    assert "watchdog" not in {thread.name for thread in threading.enumerate()}
    watchdog.stop()


# -- what it asks ---------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_pool_is_stuck_only_while_work_waits_and_none_ends() -> None:
    clock, release, started = Clock(), threading.Event(), threading.Event()
    pool = vitals.WatchedPool(1, "test", clock)
    clock.now += 50
    assert pool.stuck_for() == 0, "an idle pool is well"

    first = pool.submit(lambda: started.set() or release.wait(10))
    assert started.wait(10)
    clock.now += 50
    assert pool.stuck_for() == 0, "a long step with nobody waiting is well"

    second = pool.submit(lambda: None)
    assert pool.stuck_for() == 0, "the wait begins now"
    clock.now += 70
    assert pool.stuck_for() == 70

    release.set()
    first.result(10)
    second.result(10)
    assert pool.stuck_for() == 0
    pool.shutdown()


def test_a_step_that_raises_leaves_its_thread_to_others() -> None:
    pool = vitals.WatchedPool(1, "test")
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 // 0).result(10)
    assert pool.submit(lambda: 7).result(10) == 7
    assert pool.stuck_for() == 0
    pool.shutdown()


def test_a_pool_that_was_shut_down_has_nothing_waiting() -> None:
    pool = vitals.WatchedPool(1, "test")
    pool.shutdown()
    with pytest.raises(RuntimeError):
        pool.submit(lambda: None)
    assert pool.stuck_for() == 0


def test_a_pool_that_could_not_start_a_thread_once_is_not_stuck_for_ever(
        monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")
    pool = vitals.WatchedPool(1, "test")
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError):
            pool.submit(_well)  # it waits all the same, and is done with the next one
    pool.submit(_well).result(5)
    assert pool.stuck_for() == 0
    pool.shutdown()


def test_a_thread_that_has_ended_is_missed_by_name() -> None:
    release = threading.Event()
    living = threading.Thread(target=release.wait, args=(10,), name="living")
    ended = threading.Thread(target=lambda: None, name="ended")
    living.start()
    ended.start()
    ended.join()
    assert vitals.missing_threads(["living", "ended"]) == ["ended"]
    release.set()
    living.join()


# -- the process ------------------------------------------------------------------------


def test_an_idle_worker_is_ready_alive_and_stops_in_order(init: Systemd,
                                                          tmp_path: pathlib.Path) -> None:
    nova_conf = tmp_path / "nova.conf"
    nova_conf.write_text("[DEFAULT]\nhost = node1\n[libvirt]\nimages_type = qcow2\n")
    init.socket.settimeout(60)
    worker = subprocess.Popen(
        [sys.executable, "-m", "rbd_worker.service", "--config-file", str(nova_conf)],
        env={**os.environ, **init.watching(3)}, stderr=subprocess.DEVNULL)
    try:
        assert init.next() == ["READY=1", "STATUS=idle: images_type is not rbd"]
        init.until("WATCHDOG=1")
        worker.send_signal(signal.SIGTERM)
        init.until("STOPPING=1")
        assert worker.wait(20) == 0
    finally:
        worker.kill()


def test_a_worker_whose_broker_is_away_is_ready_and_alive(init: Systemd,
                                                          tmp_path: pathlib.Path) -> None:
    pytest.importorskip("libvirt")
    nova_conf = tmp_path / "nova.conf"
    (tmp_path / "instances").mkdir()
    nova_conf.write_text(
        f"[DEFAULT]\nhost = node1\nstate_path = {tmp_path}\n"
        "transport_url = rabbit://nova:wrong@127.0.0.1:9/\n"
        "[libvirt]\nimages_type = rbd\nrbd_user = nova\nconnection_uri = test:///default\n")
    init.socket.settimeout(60)
    worker = subprocess.Popen(
        [sys.executable, "-m", "rbd_worker.service", "--config-file", str(nova_conf)],
        env={**os.environ, **init.watching(3)}, stderr=subprocess.DEVNULL)
    try:
        said = init.until("READY=1") + init.until("WATCHDOG=1") + init.until("WATCHDOG=1")
        assert any(line.startswith("STATUS=connecting") for line in said), said
        worker.send_signal(signal.SIGTERM)
        init.until("STOPPING=1")
        assert worker.wait(30) == 0
    finally:
        worker.kill()
