# SPDX-License-Identifier: Apache-2.0
"""Real kills (SIGKILL) at arbitrary moments; a repeat reaches the state without a kill."""

import os
import pathlib
import random
import signal
import time
import typing as ty

from rbd_worker.host import console, staging, trash
from rpcapi.payloads import FileEntry
from tests.unit.host.entries import ROOT, directory_of, entry_of
from tests.unit.host.trees import UUID, Clock, Host, evidence, in_trash, never, snapshot

ROUNDS = 40


def killed_after(seconds: float, action: ty.Callable[[], object]) -> bool:
    """Run ``action`` in a child, kill it after a while; whether the kill came before its end."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def entries() -> tuple[FileEntry, ...]:
    noise = random.Random(7)
    return (entry_of("console.log", b"C" * 5000), entry_of("console.log.0", b"B" * 5000),
            entry_of("console.log.1", b"A" * 5000), entry_of("disk.info", b"{}"),
            directory_of("sub"), entry_of("sub/kernel", noise.randbytes(300_000), mode=0o600))


def test_a_directory_that_a_guest_uses_is_completed_once(tmp_path: pathlib.Path) -> None:
    sent = entries()

    def complete(host: Host) -> tuple[staging.Placed, dict[str, str]]:
        area = staging.Staging(host.directories, UUID)
        with host.pin() as directory:
            area.ensure(ROOT, sent, never, standing=directory)
            area.sync()
            placed = area.place(directory, sent, {})
            history = console.place_history(directory, area, keep=3, max_bytes=1 << 20)
            return placed, history.placed

    undisturbed = Host(tmp_path / "undisturbed")
    undisturbed.make(console_log=b"own")
    began = time.perf_counter()
    expected = complete(undisturbed)
    whole = time.perf_counter() - began
    kills = 0
    for turn in range(ROUNDS):
        host = Host(tmp_path / f"host{turn}")
        host.make(console_log=b"own")
        kills += killed_after(random.uniform(0, 1.2 * whole), lambda host=host: complete(host))
        assert complete(host) == expected
        seen, wanted = snapshot(host.path / UUID), snapshot(undisturbed.path / UUID)
        for each in (seen, wanted):  # their times are not the source's
            each.pop(".")
            each.pop("console.log")
        assert seen == wanted
    assert kills > ROUNDS // 10  # most kills come too late on a busy machine


def test_a_promotion_is_done_once_or_not_at_all(tmp_path: pathlib.Path) -> None:
    sent = entries()

    def promote(host: Host) -> None:
        area = staging.Staging(host.directories, UUID)
        if not (host.path / UUID).exists():
            area.ensure(ROOT, sent, never)
        area.promote()

    kills = 0
    for turn in range(ROUNDS):
        host = Host(tmp_path / f"host{turn}")
        kills += killed_after(random.uniform(0, 0.006), lambda host=host: promote(host))
        is_complete = (host.path / UUID).exists()
        if is_complete:
            assert (host.path / UUID / "sub" / "kernel").stat().st_size == 300_000
        promote(host)
        assert sorted(p.name for p in (host.path / UUID).iterdir()) == ["disk.info", "sub"]
    assert kills > ROUNDS // 10  # most kills come too late on a busy machine


def test_a_directory_on_its_way_to_the_trash_is_in_one_place(tmp_path: pathlib.Path) -> None:
    kills = 0
    for turn in range(ROUNDS):
        host = Host(tmp_path / f"host{turn}")
        host.make(console_log=b"log")
        bin_ = trash.Trash(host.directories, 60, Clock())

        def take(host: Host = host, bin_: trash.Trash = bin_) -> None:
            with host.pin() as directory:
                bin_.take(directory, evidence(), "m")

        kills += killed_after(random.uniform(0, 0.006), take)
        is_here = (host.path / UUID).exists()
        assert [item.instance for item in bin_.list()] == ([] if is_here else [UUID])
        if is_here:
            take()
        (item,) = bin_.list()
        assert item.migration == "m" and item.reason
        bin_.restore(item.id)
        assert (host.path / UUID / "console.log").read_bytes() == b"log"
        assert all(not (host.path / ".rbd-worker" / "trash" / name / "directory").exists()
                   for name in in_trash(host))
    assert kills > ROUNDS // 10  # most kills come too late on a busy machine


def test_a_purge_is_continued_until_nothing_is_left(tmp_path: pathlib.Path) -> None:
    clock = Clock()
    for turn in range(10):
        host = Host(tmp_path / f"host{turn}")
        directory = host.make()
        for number in range(300):
            (directory / f"{number}").mkdir()
            (directory / f"{number}" / "file").write_bytes(b"")
        bin_ = trash.Trash(host.directories, 0, clock)
        with host.pin() as pinned:
            bin_.take(pinned, evidence(), "m")
        clock.now += 1
        killed_after(random.uniform(0, 0.01), bin_.purge)
        bin_.purge()
        assert in_trash(host) == []
