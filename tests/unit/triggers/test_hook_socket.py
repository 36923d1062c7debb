# SPDX-License-Identifier: Apache-2.0
"""The socket's two ends together: who may ask, what is asked, and how long it may take."""

import os
import pathlib
import socket
import stat
import subprocess
import threading
import time
import typing as ty

import pytest

from devstack.lab import processes
from rbd_worker import hook, version
from rbd_worker.migration.arrival import Answer
from rbd_worker.triggers import hook_socket

HASTY = 0.3
OWNER = str(os.geteuid())


class Decider:
    """Stands for the decision; remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.answer = Answer()
        self.waits_for = threading.Event()
        self.waits_for.set()
        self.error: Exception | None = None
        self.was_awaited: list[bool] = []

    def __call__(self, xml: bytes, is_awaited: ty.Callable[[], bool]) -> Answer:
        self.seen.append(xml)
        self.waits_for.wait(10)
        self.was_awaited.append(is_awaited())
        if self.error is not None:
            raise self.error
        return self.answer


@pytest.fixture
def decider() -> Decider:
    return Decider()


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    tmp_path.chmod(0o755)
    return tmp_path / "own" / "hook.sock"


@pytest.fixture
def server(path: pathlib.Path, decider: Decider) -> ty.Iterator[hook_socket.HookSocket]:
    one = hook_socket.HookSocket(str(path), 5.0, decider)
    one.start()
    yield one
    one.stop()


def ask(path: pathlib.Path, xml: bytes = b"<domain/>", question: bytes = b"arrive",
        seconds: float = 5.0) -> hook.Answer:
    return hook.ask(str(path), OWNER, question, xml, time.monotonic() + seconds)


def raw(path: pathlib.Path, data: bytes, seconds: float = 5.0) -> bytes:
    """What comes back for bytes that no hook would send."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(str(path))
        try:
            connection.sendall(data)
            return connection.recv(4096)
        except (ConnectionResetError, BrokenPipeError):
            return b""


@pytest.mark.usefixtures("server")
class TestAnswering:
    def test_a_guest_may_come_in(self, path: pathlib.Path, decider: Decider) -> None:
        answer = ask(path, b"<domain>\xc3\xa4\n</domain>\n")
        assert (answer.verdict, answer.text) == ("pass", b"")
        assert decider.seen == [b"<domain>\xc3\xa4\n</domain>\n"]

    def test_a_changed_xml_comes_back_byte_for_byte(self, path: pathlib.Path,
                                                    decider: Decider) -> None:
        decider.answer = Answer(xml=os.urandom(3 << 20))
        answer = ask(path, b"x" * (3 << 20))
        assert (answer.verdict, answer.text) == ("xml", decider.answer.xml)

    def test_a_refusal_is_one_line(self, path: pathlib.Path, decider: Decider) -> None:
        decider.answer = Answer(refusal="no secret\nxml 3\nof disk")
        assert ask(path).text == b"no secret?xml 3?of disk"

    def test_a_ping_tells_the_version_and_when_a_guest_was_last_asked_for(
            self, path: pathlib.Path, decider: Decider) -> None:
        before = ask(path, b"", b"ping").text.decode().split()
        assert before == [version.VERSION, "0.000"]
        began = time.time()
        ask(path)
        asked = float(ask(path, b"", b"ping").text.split()[1])
        assert began - 0.01 <= asked <= time.time() + 0.01
        assert decider.seen == [b"<domain/>"]

    def test_an_error_in_the_decision_lets_the_guest_in(self, path: pathlib.Path,
                                                        decider: Decider) -> None:
        decider.error = RuntimeError("a defect")
        with pytest.raises(hook.Unanswered):
            ask(path)
        decider.error = None
        assert ask(path).verdict == "pass"

    @pytest.mark.parametrize("data", [
        b"GET / HTTP/1.1\r\n\r\n", b"\n", b"x" * 100_000, b"rbd-worker-hook/2 arrive 1\nx",
        b"rbd-worker-hook/1 leave 1\nx", b"rbd-worker-hook/1 arrive -1\n",
        b"rbd-worker-hook/1 arrive 99999999999\n", b"rbd-worker-hook/1 arrive 1\nxyz",
        b"rbd-worker-hook/1 arrive 1 2\nx", "rbd-worker-hook/1 arrive ²\nx".encode()])
    def test_what_is_no_question_is_closed_without_a_word(
            self, path: pathlib.Path, decider: Decider, data: bytes) -> None:
        assert raw(path, data) == b""
        assert decider.seen == []
        assert ask(path).verdict == "pass"

    def test_a_slow_decision_holds_up_nobody_else(self, path: pathlib.Path,
                                                  decider: Decider) -> None:
        decider.waits_for.clear()
        slow = threading.Thread(target=lambda: ask(path))
        slow.start()
        while not decider.seen:
            time.sleep(0.01)
        assert ask(path, b"", b"ping").verdict == "pass"
        decider.waits_for.set()
        slow.join(10)

    def test_the_decision_can_tell_that_the_hook_has_left(self, path: pathlib.Path,
                                                          decider: Decider) -> None:
        ask(path)
        decider.waits_for.clear()
        with pytest.raises(hook.Unanswered):
            ask(path, seconds=HASTY)
        decider.waits_for.set()
        while len(decider.was_awaited) < 2:
            time.sleep(0.01)
        assert decider.was_awaited == [True, False]

    def test_only_its_owner_can_open_it(self, path: pathlib.Path) -> None:
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        assert os.listdir(path.parent) == ["hook.sock"]

    @pytest.mark.skipif(os.geteuid() != 0, reason="asks as another user")
    def test_another_user_may_not_ask_even_where_the_mode_lets_him(
            self, path: pathlib.Path, decider: Decider) -> None:
        path.chmod(0o666)
        code = ("import socket\ns = socket.socket(socket.AF_UNIX)\n"
                f"s.connect({path.name!r})\nprint('connected', flush=True)\n"
                "s.sendall(b'rbd-worker-hook/1 arrive 1\\nx')\nprint(s.recv(100))")
        done = subprocess.run(  # the way there is closed to others, so it begins inside
            ["setpriv", "--reuid", "65534", "--clear-groups", "/usr/bin/python3", "-c", code],
            cwd=path.parent, capture_output=True, text=True, timeout=30)
        assert done.stdout in ("connected\n", "connected\nb''\n"), done.stderr
        assert decider.seen == []


def test_a_question_that_never_ends_is_given_up(path: pathlib.Path, decider: Decider) -> None:
    server = hook_socket.HookSocket(str(path), HASTY, decider)
    server.start()
    try:
        began = time.monotonic()
        assert raw(path, b"rbd-worker-hook/1 arrive 10\nxyz") == b""
        assert HASTY <= time.monotonic() - began < processes.patience(HASTY + 1)
    finally:
        server.stop()


def test_a_crowd_of_silent_askers_keeps_nobody_out_for_longer_than_the_limit(
        path: pathlib.Path, decider: Decider) -> None:
    server = hook_socket.HookSocket(str(path), HASTY, decider)
    server.start()
    crowd = []
    try:
        for _ in range(hook_socket.MAX_ASKERS + 4):
            one = socket.socket(socket.AF_UNIX)
            one.connect(str(path))
            crowd.append(one)
        assert ask(path, seconds=10).verdict == "pass"
    finally:
        for one in crowd:
            one.close()
        server.stop()


def test_where_no_thread_is_left_a_guest_comes_in_at_once_and_the_next_is_answered(
        path: pathlib.Path, decider: Decider, server: hook_socket.HookSocket,
        monkeypatch: pytest.MonkeyPatch) -> None:
    decider.answer = Answer(refusal="no")
    with monkeypatch.context() as shortage:
        shortage.setattr(hook_socket.threading.Thread, "start", _no_thread)
        for _ in range(hook_socket.MAX_ASKERS + 1):  # none of them keeps its turn
            assert raw(path, b"rbd-worker-hook/1 arrive 9\n<domain/>") == b""
    assert decider.seen == []
    assert ask(path).verdict == "refuse"


def _no_thread(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_what_an_earlier_worker_left_is_replaced(path: pathlib.Path, decider: Decider) -> None:
    path.parent.mkdir()
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    server = hook_socket.HookSocket(str(path), 5.0, decider)
    server.start()
    assert ask(path).verdict == "pass"
    server.stop()
    assert not path.exists()


def test_a_stopping_worker_leaves_the_socket_of_its_successor(path: pathlib.Path,
                                                              decider: Decider) -> None:
    old = hook_socket.HookSocket(str(path), 5.0, decider)
    old.start()
    new = hook_socket.HookSocket(str(path), 5.0, decider)
    new.start()
    old.stop()
    assert ask(path).verdict == "pass"
    new.stop()


def test_a_worker_that_cannot_listen_starts_all_the_same(tmp_path: pathlib.Path,
                                                         decider: Decider) -> None:
    (tmp_path / "file").touch()
    server = hook_socket.HookSocket(str(tmp_path / "file" / "hook.sock"), 5.0, decider)
    server.start()
    server.stop()
