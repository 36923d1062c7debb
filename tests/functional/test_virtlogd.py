# SPDX-License-Identifier: Apache-2.0
"""The console's history where virtlogd writes and rotates the logs, as on most hosts."""

import collections.abc
import pathlib

import pytest

from devstack import lab as labs
from devstack.lab import compute, processes
from devstack.lab.service import Service
from tests.functional.fleet import Fleet

#: Bytes after which virtlogd begins a new file: about a dozen of the guest's lines.
MAX_SIZE = 140
#: As many rotated logs as virtlogd keeps at most: more than the guest fills meanwhile.
BACKUPS = 32


def _logd(host: labs.Host) -> Service:
    return Service(host, "virtlogd", ("virtlogd",))


def _compute(fleet: Fleet, host: labs.Host) -> compute.Compute:
    return next(each for each in fleet.lab.computes if each.host.name == host.name)


@pytest.fixture
def rotating(fleet: Fleet) -> collections.abc.Iterator[Fleet]:
    """Both hosts with virtlogd between QEMU and its log."""
    hosts = (fleet.one, fleet.two)
    before = {host.name: (host.root / "etc/libvirt/qemu.conf").read_text() for host in hosts}
    for host in hosts:
        host.write("/etc/libvirt/virtlogd.conf",
                   f"max_size = {MAX_SIZE}\nmax_backups = {BACKUPS}\n")
        host.write("/etc/libvirt/qemu.conf",
                   before[host.name].replace('"file"', '"logd"'))
        _logd(host).start()
        _compute(fleet, host).restart()
    yield fleet
    for host in hosts:
        _compute(fleet, host).destroy_all()
        host.write("/etc/libvirt/qemu.conf", before[host.name])
        _compute(fleet, host).restart()
        _logd(host).stop()


def _history(directory: pathlib.Path) -> list[str]:
    """As Nova's get_console_output reads it: console.log last, before it .0, .1 and so on."""
    text = (directory / "console.log").read_text(errors="replace")
    number = 0
    while (rotated := directory / f"console.log.{number}").exists():
        text = rotated.read_text(errors="replace") + text
        number += 1
    return [line for line in text.split() if line != "tick"]


def _rotations(directory: pathlib.Path) -> int:
    return len(list(directory.glob("console.log.*")))


def test_what_virtlogd_rotates_moves_along_without_a_gap(rotating: Fleet):
    rotating.start(console_history_files=BACKUPS)
    guest = rotating.lab.define_guest(rotating.one, talkative=True)
    here, there = rotating.one, rotating.two
    for _ in range(3):
        directory = guest.directory(here)
        known = _rotations(directory)
        processes.wait_until(lambda d=directory, k=known: _rotations(d) > k, 40,
                             f"another rotation on {here.name}")
        rotating.moved(guest, here, there)
        assert guest.running_on() == [there.name]
        here, there = there, here
    guest.wait_for_console(here)
    numbers = [int(line, 16) for line in _history(guest.directory(here))[:-1]]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert numbers[0] <= 1, "the first lines are still there"
    assert 3 <= _rotations(guest.directory(here)) <= BACKUPS
