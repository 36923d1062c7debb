# SPDX-License-Identifier: Apache-2.0
"""The hook as libvirt calls it: a process with arguments, XML on stdin, and an exit status.

Most tests call the installed shell program; the socket at the other end is a real one.
"""

import os
import pathlib
import resource
import socket
import subprocess
import threading
import time
import typing as ty

import pytest

from devstack.lab import processes
from rbd_worker import hook
from rbd_worker.host import hook_files

XML = b"<domain type='kvm'>\n  <name>instance-00000001</name>\n</domain>\n"
#: Seconds of patience of a hook whose worker is expected to answer, and of one that is not.
PATIENT, HASTY = 10.0, 0.4


class Answerer:
    """Listens where the worker would, and does with each asker what the test says."""

    def __init__(self, path: pathlib.Path, do: ty.Callable[[socket.socket], None]) -> None:
        self.questions: list[bytes] = []
        self._do = do
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        path.chmod(0o600)
        self._socket.listen(1)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self._do(connection)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Rig:
    """The installed hook and the socket's path."""

    def __init__(self, root: pathlib.Path) -> None:
        root.chmod(0o755)
        self.root = root
        self.socket = root / "hook.sock"
        self.asked: list[bytes] = []
        self.wait_at_most(PATIENT)
        self._answerers: list[Answerer] = []

    @property
    def wrapper(self) -> pathlib.Path:
        return self.root / "hooks/qemu.d/50-rbd-worker"

    def wait_at_most(self, seconds: float) -> None:
        question = hook_files.Question(str(self.socket), str(os.geteuid()), seconds)
        hook_files.HookFiles(question, self.root / "hooks").install()

    def answer(self, reply: bytes) -> None:
        """Have every question answered with ``reply``."""
        def do(connection: socket.socket) -> None:
            self.asked.append(question_of(connection))
            connection.sendall(reply)
        self.listen(do)

    def listen(self, do: ty.Callable[[socket.socket], None]) -> None:
        self._answerers.append(Answerer(self.socket, do))

    def call(self, *arguments: str, xml: bytes = XML,
             environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self.wrapper, *(arguments or ("instance-00000001", "migrate", "begin", "-"))],
            input=xml, capture_output=True, timeout=20, env=environment or {"LC_ALL": "C"})

    def close(self) -> None:
        for one in self._answerers:
            one.close()


def question_of(connection: socket.socket) -> bytes:
    """The whole question: a line that ends with a size, and so many bytes."""
    data = b""
    while b"\n" not in data:
        data += connection.recv(65536)
    line, _, rest = data.partition(b"\n")
    while len(rest) < int(line.split()[-1]):
        rest += connection.recv(65536)
    return line + b"\n" + rest


@pytest.fixture
def rig(tmp_path: pathlib.Path) -> ty.Iterator[Rig]:
    one = Rig(tmp_path)
    yield one
    one.close()


def let_in(done: subprocess.CompletedProcess[bytes], reason: str) -> None:
    """The guest comes in unchanged, and one line says why nobody was asked."""
    assert (done.returncode, done.stdout) == (0, b"")
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1 and reason in lines[0], lines


def test_the_domain_is_handed_over_as_it_came(rig: Rig) -> None:
    rig.answer(b"pass\n")
    done = rig.call()
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert rig.asked == [b"rbd-worker-hook/1 arrive %d\n" % len(XML) + XML]


def test_a_changed_domain_is_what_libvirt_gets(rig: Rig) -> None:
    changed = b"<domain>\n  <a b='%s'/> \\n ${x} `y`\n</domain>\n" + b"<!-- -->\n" * 20000
    rig.answer(b"xml %d\n" % len(changed) + changed)
    done = rig.call()
    assert (done.returncode, done.stdout) == (0, changed)


def test_a_refusal_is_one_sentence_and_status_3(rig: Rig) -> None:
    rig.answer(b"refuse the secret is missing\x1b[2J on node2\n")
    done = rig.call()
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr == b"rbd-worker: the secret is missing?[2J on node2\n"


@pytest.mark.parametrize("reply", [
    b"", b"pass", b"refuse half a sen", b"xml 100\n<domain/>", b"xml 3\n<domain/>", b"xml\n",
    b"xml 0\n", b"pass\nmore", b"yes\n", b"\n", b"refuse a\nb\n"])
def test_an_answer_that_is_not_whole_is_none(rig: Rig, reply: bytes) -> None:
    rig.answer(reply)
    let_in(rig.call(), "the answer is not complete")


def test_an_endless_answer_is_none(rig: Rig) -> None:
    def flood(connection: socket.socket) -> None:
        question_of(connection)
        try:
            while True:
                connection.sendall(b"x" * 65536)
        except OSError:
            pass
    rig.listen(flood)
    done = rig.call()
    assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.parametrize("arguments", [
    ("a", "prepare", "begin", "-"), ("a", "reconnect", "begin", "-"), ("a", "stopped", "end", "-"),
    ("a", "migrate", "end", "-"), ("a",), ("a", "migrate"), ("a b", "c"), ("", "", "", "")])
def test_every_other_operation_is_over_at_once(rig: Rig, arguments: tuple[str, ...]) -> None:
    rig.answer(b"refuse never asked\n")
    done = rig.call(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert rig.asked == []


def test_without_a_worker_the_guest_comes_in(rig: Rig) -> None:
    let_in(rig.call(), "does rbd-worker run?")


def test_a_socket_where_nobody_listens_any_more_lets_the_guest_in(rig: Rig) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(rig.socket))
    rig.socket.chmod(0o600)
    left.close()
    let_in(rig.call(), "Connection refused")


@pytest.mark.parametrize("is_read", [True, False])
def test_a_worker_that_hangs_is_waited_for_no_longer_than_the_limit(rig: Rig,
                                                                    is_read: bool) -> None:
    def hang(connection: socket.socket) -> None:
        if is_read:
            question_of(connection)
        time.sleep(9)
    rig.listen(hang)
    rig.wait_at_most(HASTY)
    began = time.monotonic()
    done = rig.call(xml=b"<domain>" + b" " * (3 << 20))
    assert HASTY <= time.monotonic() - began < processes.patience(1.9)
    let_in(done, "time")


def test_a_worker_that_answers_drop_by_drop_is_not_waited_for(rig: Rig) -> None:
    def drip(connection: socket.socket) -> None:
        question_of(connection)
        try:
            for _ in range(180):
                connection.sendall(b"r")
                time.sleep(0.05)
        except OSError:
            pass
    rig.listen(drip)
    rig.wait_at_most(HASTY)
    began = time.monotonic()
    let_in(rig.call(), "no answer in time")
    assert time.monotonic() - began < processes.patience(1.9)


def test_a_libvirt_that_never_ends_the_xml_is_not_waited_for(rig: Rig) -> None:
    rig.answer(b"pass\n")
    rig.wait_at_most(HASTY)
    began = time.monotonic()
    with subprocess.Popen([rig.wrapper, "a", "migrate", "begin", "-"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr and process.stdout
        assert process.wait(10) == 0
        assert b"did not hand over the XML in time" in process.stderr.read()
    assert time.monotonic() - began < processes.patience(1.9)


@pytest.mark.parametrize("xml", [b"", b" \n", b"<domain>" + b" " * (4 << 20)])
def test_no_xml_or_far_too_much_is_nobodys_question(rig: Rig, xml: bytes) -> None:
    rig.answer(b"refuse never asked\n")
    done = rig.call(xml=xml)
    let_in(done, "the XML is")
    assert rig.asked == []


def test_a_socket_that_others_may_write_to_is_not_trusted(rig: Rig) -> None:
    rig.answer(b"refuse never asked\n")
    rig.socket.chmod(0o666)
    let_in(rig.call(), "is not trusted")


def test_a_socket_in_a_directory_that_others_may_write_to_is_not_trusted(rig: Rig) -> None:
    rig.answer(b"refuse never asked\n")
    rig.root.chmod(0o777)
    let_in(rig.call(), "others than the worker may write")


def test_a_file_in_place_of_the_socket_is_not_trusted(rig: Rig) -> None:
    rig.socket.write_text("pass\n")
    let_in(rig.call(), "is not a socket")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
def test_a_socket_of_another_user_is_not_trusted(rig: Rig) -> None:
    rig.answer(b"refuse never asked\n")
    os.chown(rig.socket, 65534, 65534)
    let_in(rig.call(), "belongs to user 65534")


@pytest.mark.skipif(os.geteuid() != 0, reason="listens as another user")
def test_another_user_who_listens_on_the_right_path_is_not_trusted(rig: Rig) -> None:
    code = ("import os, socket; s = socket.socket(socket.AF_UNIX);"
            f"s.bind({str(rig.socket)!r}); os.chmod({str(rig.socket)!r}, 0o600);"
            "os.setuid(65534); s.listen(1); print(flush=True); s.accept()[0].recv(1)")
    with subprocess.Popen(["/usr/bin/python3", "-c", code], stdout=subprocess.PIPE) as stranger:
        assert stranger.stdout and stranger.stdout.readline()
        let_in(rig.call(), "user 65534 listens there")
        stranger.kill()


@pytest.mark.parametrize("program", [b"raise SystemExit(1)\n", b"syntax error\n",
                                     b"import os; os.kill(os.getpid(), 11)\n", None])
def test_a_broken_program_lets_the_guest_in(rig: Rig, program: bytes | None) -> None:
    path = rig.root / "hooks/rbd-worker/hook.py"
    if program is None:
        path.unlink()
    else:
        path.write_bytes(program)
    done = rig.call()
    assert (done.returncode, done.stdout) == (0, b"")


def test_a_program_that_hangs_is_killed(rig: Rig) -> None:
    rig.wait_at_most(HASTY)
    path = rig.root / "hooks/rbd-worker/hook.py"
    path.write_text("import time, sys; sys.stdout.write('<half'); sys.stdout.flush();"
                    "time.sleep(9)")
    began = time.monotonic()
    done = rig.call()
    assert (done.returncode, done.stdout) == (0, b"")
    assert time.monotonic() - began < processes.patience(2)


def test_a_machine_without_python_lets_the_guest_in(rig: Rig) -> None:
    text = rig.wrapper.read_text()
    rig.wrapper.write_text(text.replace("python=/usr/bin/python3", "python=/nonexistent"))
    assert rig.wrapper.read_text() != text
    done = rig.call()
    assert (done.returncode, done.stdout) == (0, b"")


def test_strange_names_do_not_reach_a_shell_or_the_log(rig: Rig) -> None:
    done = rig.call("$(touch x)`id`\n-e", "migrate", "begin", "-")
    let_in(done, "$(touch x)`id`?-e comes in")


@pytest.mark.parametrize("arguments", [[], ["a"], ["a", "b", "c", "d", "e"],
                                       ["/x", "root", "soon", "name"]])
def test_wrong_arguments_of_the_program_itself_let_the_guest_in(
        arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert hook.main(arguments) == 0
    out, err = capsys.readouterr()
    assert out == "" and "without a word from rbd-worker" in err


def test_the_normal_case_takes_less_than_60_ms(rig: Rig) -> None:
    """In time of the processor, which says the same on a machine that does much else."""
    rig.answer(b"pass\n")
    times, before = 10, resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(times):
        assert rig.call().returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert spent / times < processes.patience(0.06)


def test_the_shell_program_in_etc_is_the_one_that_is_installed() -> None:
    root = pathlib.Path(__file__).resolve().parents[2]
    question = hook_files.Question("/var/lib/nova/rbd-worker/hook.sock", "nova", 2.0)
    assert (root / "etc/hooks/50-rbd-worker").read_text() == hook_files.wrapper(
        question, pathlib.Path("/etc/libvirt/hooks/rbd-worker/hook.py"))
