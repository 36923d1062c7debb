# SPDX-License-Identifier: Apache-2.0
"""Workers with the rights of their systemd unit move a guest whose files are root's alone."""

import contextlib
import os
import pathlib

import pytest

from devstack import lab as labs
from devstack.lab import processes, unit
from tests.functional.fleet import Fleet, furnish, states

pytestmark = pytest.mark.lab

_NUMBERS = {"CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1}
_NOBODYS = "0" * 16


def _start(fleet: Fleet) -> None:
    for host in (fleet.one, fleet.two):
        fleet.lab.write_config(host)
        reason = unit.why_not(host)
        if reason:
            pytest.skip(reason)
        fleet.workers[host.name] = unit.start(host)
    for worker in fleet.workers.values():
        worker.wait_ready()


def _status(pid: int) -> dict[str, str]:
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def _of_threads(pid: int) -> list[dict[str, str]]:
    """Of all that last; some end while they are looked at."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append(_status(int(task.name)))
    assert found
    return found


def _both(worker: labs.Worker) -> tuple[int, int]:
    """The process that hears the network, and the one with privileges."""
    main = worker.service.pid
    assert main is not None
    processes.wait_until(lambda: len(worker.service.family()) == 2, 20,  # its start asks others
                         "the two processes", seen=worker.service.family)
    (other,) = set(worker.service.family()) - {main}
    return main, other


def _furnish(guest: labs.Guest, host: labs.Host) -> pathlib.Path:
    """As nova-compute and libvirt leave it, and some things more."""
    directory = guest.directory(host)
    furnish(directory)
    nova = host.nova_instances.stat()
    for path in (directory, directory / "disk.info"):
        os.chown(path, nova.st_uid, nova.st_gid)
    (directory / "disk.config").chmod(0o600)
    (directory / "sub").chmod(0o700)
    return directory


def _without_console(directory: pathlib.Path):
    return {name: state for name, state in states(directory).items()
            if not name.startswith("console.log")}


def test_only_the_process_beside_the_worker_has_the_units_capabilities(fleet: Fleet):
    _start(fleet)
    expected = sum(1 << _NUMBERS[name] for name in unit.capabilities())
    for worker in fleet.workers.values():
        main, other = _both(worker)
        for status in _of_threads(main):
            assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {
                _NOBODYS}, status["Name"]
        status = _status(other)
        assert (int(status["CapEff"], 16), int(status["CapPrm"], 16)) == (expected, expected)
        assert (status["CapInh"], status["CapAmb"]) == (_NOBODYS, _NOBODYS)
        assert status["Name"] == "rbd-worker-priv"
        for pid in (main, other):
            assert _status(pid)["Uid"].split() == ["64060"] * 4
            assert _status(pid)["NoNewPrivs"] == "1"
        assert "this process has no capabilities" in worker.log_text


def test_a_guest_with_files_of_root_moves_there_and_back(fleet: Fleet):
    guest = fleet.lab.define_guest(fleet.one, talkative=True)
    directory = _furnish(guest, fleet.one)
    guest.wait_for_console(fleet.one)
    console = (directory / "console.log").stat()
    assert (console.st_uid, console.st_mode & 0o777) == (0, 0o600)
    _start(fleet)
    before = _without_console(directory)

    here, there = fleet.one, fleet.two
    for _ in range(2):
        said = guest.console(here)
        fleet.moved(guest, here, there)
        assert guest.running_on() == [there.name]
        assert not guest.directory(here).exists()
        assert _without_console(guest.directory(there)) == before
        history = guest.directory(there) / "console.log.0"
        assert history.read_text().startswith(said)
        assert (history.stat().st_uid, history.stat().st_mode & 0o777) == (0, 0o600)
        here, there = there, here
    for host in (fleet.one, fleet.two):
        assert _without_console(fleet.trash(host)[0]) == before
        assert fleet.staging(host) == []
        assert "refused" not in fleet.workers[host.name].log_text


def test_a_leftover_that_root_made_by_hand_goes_to_the_trash(fleet: Fleet):
    guest = fleet.lab.define_guest(fleet.one)
    _start(fleet)
    leftover = guest.directory(fleet.two)
    leftover.mkdir(mode=0o700)
    (leftover / "console.log").write_text("from an earlier life\n")
    fleet.moved(guest, fleet.one, fleet.two)
    (item,) = fleet.trash(fleet.two)
    assert (item / "console.log").read_text() == "from an earlier life\n"
    assert item.stat().st_uid == 0
    assert guest.running_on() == ["node2"]


def test_both_processes_end_together(fleet: Fleet):
    _start(fleet)
    for worker, end in zip(fleet.workers.values(), ("stop", "kill"), strict=True):
        main, other = _both(worker)
        if end == "stop":
            os.kill(main, 15)
        else:
            os.kill(main, 9)
        fleet.until(lambda both=(main, other): not any(
            pathlib.Path(f"/proc/{pid}/exe").exists() for pid in both), f"the end after {end}", 10)
