# SPDX-License-Identifier: Apache-2.0
"""A worker without capabilities, and the process that has them: what works."""

import os
import pathlib
import signal
import subprocess
import threading
import time

import pytest

from devstack.lab import processes
from rbd_worker import errors
from rbd_worker.host import deputy, privileged, separation, staging, syscalls, trash, walk
from tests.unit.host.deputies import as_worker, become, channel, host, in_child, make
from tests.unit.host.trees import (
    DAY,
    NOBODY,
    OTHER,
    UUID,
    Clock,
    Host,
    in_trash,
    needs_root,
    never,
    snapshot,
    take,
)

__all__ = ["host"]
pytestmark = needs_root


def _content(host: Host) -> dict[str, bytes]:
    with host.pinned() as files:
        return {entry.path: entry.digest.encode() and files.read_chunk(entry.path, 0).data
                for entry in files.entries if entry.kind == "file"}


def test_files_that_are_roots_alone_are_told_to_the_peer(host: Host) -> None:
    directory = make(host, UUID, console_log=b"boot", disk_info=b"{}")
    closed = directory / "closed"
    closed.mkdir()
    (closed / "file").write_bytes(b"below")
    closed.chmod(0o700)
    expected = in_child(lambda: _content(host))  # as root
    assert set(expected) == {"console.log", "disk.info", "closed/file"}
    assert as_worker(host, lambda: _content(host)) == expected


def test_without_the_capabilities_they_are_not(host: Host) -> None:
    make(host, UUID, console_log=b"boot")
    with pytest.raises(RuntimeError, match="AccessDenied"):
        as_worker(host, lambda: _content(host), kept=())


def _staged(files: walk.PinnedFiles, destination: Host) -> None:
    area = staging.Staging(destination.directories, UUID)
    for _ in range(2):  # once more, as after a kill
        area.ensure(files.root, files.entries_inline({}), never)
        area.sync()
    area.promote()


def test_a_copy_has_owners_modes_and_times_of_its_original(host: Host) -> None:
    source = Host(host.path.parent / "source")
    directory = make(source, UUID, disk_config=b"c" * 5000, kernel=b"k")
    (directory / "sub").mkdir()
    (directory / "sub" / "nested").write_bytes(b"n")
    os.chown(directory / "disk.config", 64055, 107)
    os.chown(directory / "sub", 64055, 107)
    os.chown(directory / "sub" / "nested", 3, 4)
    (directory / "sub").chmod(0o2750)
    (directory / "kernel").chmod(0o444)
    for path in (directory / "sub" / "nested", directory / "disk.config", directory / "sub"):
        os.utime(path, ns=(1_400_000_000_123_456_789, 1_400_000_000_123_456_789))
    os.chown(directory, 0, 0)

    with source.pinned() as files:
        as_worker(host, lambda: _staged(files, host))
    copied, original = snapshot(host.path / UUID), snapshot(directory)
    assert copied == original


def test_a_directory_that_root_made_by_hand_goes_to_the_trash_and_comes_back(host: Host) -> None:
    directory = host.make(UUID, console_log=b"from 2014")
    before = snapshot(directory)
    bin_ = trash.Trash(host.directories, 7 * DAY)
    item = as_worker(host, lambda: take(host, bin_))
    assert not directory.exists()
    assert snapshot(host.path / ".rbd-worker/trash" / item.id / "directory") == before
    as_worker(host, lambda: bin_.restore(item.id))
    assert snapshot(directory) == before


def test_what_is_purged_goes_whoever_owns_it(host: Host) -> None:
    deep = host.make(UUID) / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"x")
    (deep.parent / "link").symlink_to("/etc/passwd")
    for path in (deep, deep.parent):
        path.chmod(0o500)
    clock = Clock()
    bin_ = trash.Trash(host.directories, 7 * DAY, clock)
    as_worker(host, lambda: take(host, bin_))
    clock.now += 8 * DAY
    assert as_worker(host, bin_.purge) == 1
    assert in_trash(host) == []


def test_no_thread_of_the_worker_has_a_capability_and_none_comes_back(host: Host) -> None:
    def seen() -> tuple[list[str], str, str]:
        threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
        own = [line for task in pathlib.Path("/proc/self/task").iterdir()
               for line in (task / "status").read_text().splitlines()
               if line.startswith(("CapInh", "CapPrm", "CapEff", "CapAmb"))]
        other = pathlib.Path(f"/proc/{channel().pid}/status").read_text()
        executed = subprocess.run(["grep", "CapEff", "/proc/self/status"], text=True,
                                  capture_output=True).stdout
        return own, other, executed

    own, other, executed = as_worker(host, seen)
    assert len(own) >= 3 * 4  # of the main thread, oslo.privsep's and the new one
    assert {line.split()[1] for line in own} == {"0" * 16}
    assert executed.split()[1] == "0" * 16
    chown_and_dac_override = f"{0b11:016x}"
    sets = dict(line.split(":\t") for line in other.splitlines() if line.startswith("Cap"))
    assert (sets["CapEff"], sets["CapPrm"]) == (chown_and_dac_override,) * 2
    assert (sets["CapInh"], sets["CapAmb"]) == ("0" * 16,) * 2
    assert "Name:\trbd-worker-priv\n" in other


def test_a_stop_that_is_meant_for_both_does_not_end_the_one_that_is_asked(host: Host) -> None:
    make(host, UUID, console_log=b"boot")

    def stopped() -> list[str]:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
            os.kill(channel().pid, number)
        return list(_content(host))

    assert as_worker(host, stopped) == ["console.log"]


def test_after_the_end_of_the_one_that_is_asked_the_refusal_stands(host: Host) -> None:
    make(host, UUID, console_log=b"boot")

    def ended() -> tuple[bool, bool, str]:
        before = deputy.is_lost()
        os.kill(channel().pid, signal.SIGKILL)
        os.waitpid(channel().pid, 0)
        try:
            _content(host)
        except errors.AccessDenied as e:
            deadline = time.monotonic() + processes.patience(5)
            while not deputy.is_lost() and time.monotonic() < deadline:
                time.sleep(0.01)
            return before, deputy.is_lost(), e.sentence
        raise AssertionError("nobody was there to ask")

    before, after, sentence = as_worker(host, ended)
    assert (before, after) == (False, True)
    assert "console.log" in sentence


def test_it_ends_with_the_worker(host: Host) -> None:
    pid = as_worker(host, lambda: channel().pid)
    deadline = time.monotonic() + processes.patience(5)
    while pathlib.Path(f"/proc/{pid}/exe").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    state = pathlib.Path(f"/proc/{pid}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_instances_path_may_be_mounted_after_the_start(host: Host) -> None:
    def moved_away_and_made_again() -> list[str]:
        host.path.rename(host.path.parent / "earlier")
        host.path.mkdir()
        (host.path.parent / "earlier" / UUID).rename(host.path / UUID)
        return list(_content(host))

    os.chown(host.path.parent, NOBODY, NOBODY)
    make(host, UUID, console_log=b"boot")
    assert as_worker(host, moved_away_and_made_again) == ["console.log"]


@pytest.mark.parametrize(("kept", "words"), [
    ((), "no CAP_CHOWN and no CAP_DAC_OVERRIDE"),
    (privileged.CAPABILITIES[:1], "no CAP_DAC_OVERRIDE:"),
])
def test_what_is_missing_is_said_and_nothing_is_kept(host: Host, kept: tuple[int, ...],
                                                     words: str) -> None:
    def separated() -> tuple[separation.Separation, list[int]]:
        become(kept)
        return separation.separate(str(host.path)), privileged.capabilities.get_caps()[1]

    told, left = in_child(separated)
    assert words in told.sentence and not told.is_complete
    assert left == []


def test_where_it_cannot_start_the_worker_says_so_and_goes_on(
        host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    def separated() -> tuple[separation.Separation, list[int]]:
        become(privileged.CAPABILITIES)
        monkeypatch.setattr(os, "fork", without_fork)
        return separation.separate(str(host.path)), privileged.capabilities.get_caps()[1]

    told, left = in_child(separated)
    assert "did not start" in told.sentence and "temporarily unavailable" in told.sentence
    assert not told.is_complete and left == []


def test_a_worker_that_dies_over_there_does_not_become_a_second_worker(host: Host) -> None:
    """What the kernel forbids the new process ends that process."""
    def separated() -> separation.Separation:
        become(privileged.CAPABILITIES)
        os.register_at_fork(after_in_child=lambda: privileged.capabilities.drop_all_caps_except(
            [], [], []))
        return separation.separate(str(host.path))

    began = time.monotonic()
    assert "did not start" in in_child(separated).sentence
    assert time.monotonic() - began < processes.patience(15), "it waited for an answer of the dead"


def test_root_keeps_what_it_has(host: Host) -> None:
    def separated() -> tuple[separation.Separation, bool]:
        told = separation.separate(str(host.path))
        return told, os.access(make(host, OTHER, console_log=b"x") / "console.log", os.R_OK)

    told, can_read = in_child(separated)
    assert "runs as root" in told.sentence and can_read


def test_an_idle_worker_keeps_nothing_and_starts_nothing(host: Host) -> None:
    def idle() -> tuple[list[int], bool]:
        become(privileged.CAPABILITIES)
        separation.separate(None)
        return privileged.capabilities.get_caps()[1], deputy._office.holder is None

    assert in_child(idle) == ([], True)


def test_a_refusal_without_anybody_to_ask_is_the_kernels_own(host: Host) -> None:
    directory = make(host, UUID, console_log=b"x")

    def opened() -> None:
        become(())
        with syscalls.held(os.open(directory, os.O_RDONLY)) as fd:
            syscalls.open_regular("console.log", fd)

    with pytest.raises(RuntimeError, match="PermissionError"):
        in_child(opened)
