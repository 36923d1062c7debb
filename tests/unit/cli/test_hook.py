# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl hook``: what stands in libvirt's hooks directory, and what is said of it."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import typing as ty

import pytest
from oslo_config import cfg

from rbd_worker import errors
from rbd_worker.cli import app
from rbd_worker.cli import hook as hook_commands
from rbd_worker.host import hook_files
from rbd_worker.migration.arrival import Answer
from rbd_worker.triggers import hook_socket

MODERN, OLD = (9, 0, 0), (6, 4, 0)


class Machine:
    """A hooks directory, a configuration, and libvirt as the test has it."""

    def __init__(self, root: pathlib.Path) -> None:
        root.chmod(0o755)
        self.root = root
        self.hooks = root / "hooks"
        self.socket = root / "state/hook.sock"
        self.conf = root / "nova.conf"
        self.version: tuple[int, ...] | None = MODERN
        self.daemon: hook_files.Daemon | None = None
        self.configure()

    def configure(self, timeout: float = 2.0) -> None:
        self.conf.write_text(
            f"[DEFAULT]\nhost = node01\nstate_path = {self.root}\n[libvirt]\nimages_type = rbd\n"
            f"rbd_user = nova\n[rbd_worker]\nhook_timeout = {timeout}\n"
            f"state_directory = {self.root}/state\n")

    def files(self, seconds: float = 2.0) -> hook_files.HookFiles:
        return hook_files.HookFiles(
            hook_files.Question(str(self.socket), "nova", seconds), self.hooks, self.version)

    @property
    def place(self) -> pathlib.Path:
        return self.hooks / "qemu.d/50-rbd-worker"

    def executables(self) -> list[str]:
        return sorted(str(p.relative_to(self.hooks)) for p in self.hooks.rglob("*")
                      if p.is_file() and os.access(p, os.X_OK))


@pytest.fixture
def machine(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    one = Machine(tmp_path)
    # the process's edge: what is installed on this machine is none of the tests' business
    monkeypatch.setattr(hook_files, "libvirt_version", lambda: one.version)
    monkeypatch.setattr(hook_files, "daemon", lambda: one.daemon)
    monkeypatch.setattr(hook_commands.hook_files.HookFiles.__init__, "__defaults__",
                        (one.hooks, None))
    return one


@pytest.fixture
def control(machine: Machine, capsys: pytest.CaptureFixture[str],
            ) -> ty.Iterator[ty.Callable[..., tuple[int, str]]]:
    def run(*words: str) -> tuple[int, str]:
        cfg.CONF.clear()  # as in a process of its own
        status = app.main(["--config-file", str(machine.conf), "hook", *words])
        out, err = capsys.readouterr()
        return status, out + err
    yield run
    cfg.CONF.clear()


Control = ty.Callable[..., tuple[int, str]]


def test_a_recent_libvirt_gets_an_executable_of_its_own_name(machine: Machine) -> None:
    assert machine.files().install() is True
    assert machine.executables() == ["qemu.d/50-rbd-worker"]
    assert os.listdir(machine.hooks / "qemu.d") == ["50-rbd-worker"]
    found = machine.files().installed()
    assert (found.is_there, found.is_executable, found.is_current) == (True, True, True)


def test_an_old_libvirt_gets_the_one_hook_that_it_calls(machine: Machine) -> None:
    machine.version = OLD
    machine.files().install()
    assert machine.executables() == ["qemu"]


def test_an_unknown_libvirt_counts_as_a_recent_one(machine: Machine) -> None:
    machine.version = None
    machine.files().install()
    assert machine.executables() == ["qemu.d/50-rbd-worker"]


def test_installing_twice_changes_nothing(machine: Machine) -> None:
    machine.files().install()
    before = machine.place.stat()
    assert machine.files().install() is False
    assert machine.place.stat().st_ino == before.st_ino


def test_another_limit_is_written_into_the_installed_hook(machine: Machine) -> None:
    machine.files().install()
    assert machine.files(seconds=0.5).installed().is_current is False
    assert machine.files(seconds=0.5).install() is True
    assert "\nseconds=0.5\n" in machine.place.read_text()


def test_a_changed_program_or_a_lost_mode_is_mended(machine: Machine) -> None:
    machine.files().install()
    machine.place.chmod(0o644)
    assert machine.files().installed().is_executable is False
    (machine.hooks / "rbd-worker/hook.py").write_text("")
    assert machine.files().installed().is_current is False
    machine.files().install()
    found = machine.files().installed()
    assert found.is_executable and found.is_current


@pytest.mark.parametrize("version", [MODERN, OLD])
@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 0\n", "",
                                  "x" * 600 + "# The libvirt hook of rbd-worker"])
def test_a_foreign_file_is_neither_overwritten_nor_removed(
        machine: Machine, version: tuple[int, ...], text: str) -> None:
    machine.version = version
    place = machine.place if version == MODERN else machine.hooks / "qemu"
    place.parent.mkdir(parents=True)
    place.write_text(text)
    place.chmod(0o755)
    for act in (machine.files().install, machine.files().remove):
        with pytest.raises(errors.HookInTheWay):
            act()
    assert place.read_text() == text
    assert sorted(p for p in machine.hooks.rglob("*") if p.is_file()) == [place]


def test_a_link_in_its_place_is_foreign(machine: Machine) -> None:
    machine.place.parent.mkdir(parents=True)
    machine.place.symlink_to(machine.root / "nothing")
    with pytest.raises(errors.HookInTheWay):
        machine.files().install()


def test_other_hooks_beside_it_stay(machine: Machine) -> None:
    other = machine.hooks / "qemu.d/10-other"
    other.parent.mkdir(parents=True)
    other.write_text("#!/bin/sh\n")
    machine.files().install()
    assert machine.files().remove() is True
    assert machine.files().remove() is False
    assert [p for p in machine.hooks.rglob("*") if p.is_file()] == [other]


@pytest.mark.skipif(os.geteuid() != 0, reason="root gives it to nobody")
def test_without_permission_one_sentence_says_so(machine: Machine) -> None:
    code = ("import os, pathlib, sys; os.setuid(65534)\n"
            "from rbd_worker import errors\nfrom rbd_worker.host import hook_files as h\n"
            "try: h.HookFiles(h.Question('/s', 'nova', 2), pathlib.Path('/usr/x')).install()\n"
            "except errors.Error as e: print(e.sentence)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          timeout=60)
    assert "/usr/x. Run rbd-workerctl as root" in done.stdout, done.stderr


# -- whether libvirt sees it ------------------------------------------------------


def started(seconds_from_now: float) -> hook_files.Daemon:
    return hook_files.Daemon("libvirtd", 4711, time.time() + seconds_from_now)


def test_a_first_hook_is_seen_after_a_restart_only(machine: Machine, control: Control) -> None:
    machine.daemon = started(-60)
    _, told = control("install")
    assert f"{machine.place} is installed" in told
    assert "restart libvirtd" in told
    machine.daemon = started(+60)
    assert machine.files().is_seen_by(machine.daemon)
    assert "restart" not in control("install")[1]


def test_beside_an_older_hook_no_restart_is_needed(machine: Machine, control: Control) -> None:
    other = machine.hooks / "qemu.d/10-other"
    other.parent.mkdir(parents=True)
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    machine.daemon = started(+60)
    assert "restart" not in control("install")[1]


def test_an_older_file_that_is_no_executable_does_not_count(machine: Machine) -> None:
    other = machine.hooks / "qemu.d/10-other"
    other.parent.mkdir(parents=True)
    other.write_text("#!/bin/sh\n")
    assert not machine.files().is_seen_by(started(+60))


def test_a_running_daemon_is_found_with_its_start(tmp_path: pathlib.Path) -> None:
    """/proc as the kernel shows it: ticks since the boot in field 22, after a name in brackets.

    The first one is in a container.
    """
    ticks = os.sysconf("SC_CLK_TCK")
    for pid, name, numbers in ((76, "virtqemud", "76\t12"), (77, "libvirtd", "77"),
                               (78, "virtlogd", "78")):
        process = tmp_path / str(pid)
        process.mkdir()
        (process / "comm").write_text(f"{name}\n")
        (process / "status").write_text(f"Name:\t{name}\nPid:\t{pid}\nNSpid:\t{numbers}\n")
        fields = ["S", *["0"] * 18, str(ticks * 50), "9"]
        (process / "stat").write_text(f"{pid} (li) vi) {' '.join(fields)}\n")
    found = hook_files.daemon(tmp_path, lambda: 1000000.0)
    assert found == hook_files.Daemon("libvirtd", 77, 1000050.0)


# -- the command -------------------------------------------------------------------


def rows(told: str) -> dict[str, str]:
    return ty.cast(dict[str, str], json.loads(told))


def test_status_before_the_installation_says_what_to_do(control: Control) -> None:
    status, told = control("status", "-f", "json")
    found = rows(told)
    assert status == 0
    assert "hook install" in found["installed"]
    assert found["executable"] == "no"
    assert "does rbd-worker run?" in found["worker"]


def test_status_shows_that_the_worker_answers_and_how_fast(machine: Machine,
                                                           control: Control) -> None:
    server = hook_socket.HookSocket(str(machine.socket), 5.0, lambda xml, is_awaited: Answer())
    server.start()
    try:
        control("install")
        found = rows(control("status", "-f", "json")[1])
    finally:
        server.stop()
    assert found["installed"] == "yes"
    assert found["worker"].startswith("answers in ") and " ms" in found["worker"]


def test_status_says_when_the_configuration_has_changed_since(machine: Machine,
                                                             control: Control) -> None:
    control("install")
    machine.configure(timeout=3.5)
    found = rows(control("status", "-f", "json")[1])
    assert "another version or configuration" in found["installed"]


def test_status_of_a_foreign_file(machine: Machine, control: Control) -> None:
    machine.place.parent.mkdir(parents=True)
    machine.place.write_text("#!/bin/sh\n")
    assert "another program" in rows(control("status", "-f", "json")[1])["installed"]
    status, told = control("install")
    assert status == 1 and "is not rbd-worker's" in told and "Nothing was changed" in told


def test_a_guest_that_asked_proves_that_libvirt_calls_the_hook(machine: Machine,
                                                               control: Control) -> None:
    machine.daemon = started(-60)
    server = hook_socket.HookSocket(str(machine.socket), 5.0, lambda xml, is_awaited: Answer())
    server.start()
    try:
        control("install")
        assert "restart libvirtd" in rows(control("status", "-f", "json")[1])["libvirt"]
        done = subprocess.run([machine.place, "a", "migrate", "begin", "-"], input=b"<domain/>",
                              capture_output=True, timeout=20)
        assert (done.returncode, done.stderr) == (0, b"")
        assert "calls it" in rows(control("status", "-f", "json")[1])["libvirt"]
    finally:
        server.stop()


def test_remove_says_what_it_did(machine: Machine, control: Control) -> None:
    control("install")
    assert "is removed" in control("remove")[1]
    assert "was not there" in control("remove")[1]
    assert not machine.place.exists()


def test_a_socket_that_nobody_reads_is_no_answer(machine: Machine, control: Control) -> None:
    machine.configure(timeout=0.3)
    machine.socket.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(machine.socket))
        machine.socket.chmod(0o600)
        silent.listen(1)
        assert "no answer in time" in rows(control("status", "-f", "json")[1])["worker"]
