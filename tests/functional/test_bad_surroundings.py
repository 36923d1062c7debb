# SPDX-License-Identifier: Apache-2.0
"""A worker whose journal, disk, name or clock is not as it should be.

It refuses to start, or goes on with less, with one sentence that says why;
and whatever happens, no directory leaves.
"""

import contextlib
import json
import os
import sqlite3
import time
import typing as ty

import pytest

from devstack import lab as labs
from devstack.lab import worker as lab_worker
from rbd_worker.model import Outcome
from tests.functional.fleet import Fleet, furnish, states

pytestmark = pytest.mark.lab

INSTANCES = "/var/lib/nova/instances"
STATE = "/var/lib/nova/rbd-worker"
#: So that nothing runs by itself.
OWN = {"audit_interval": 0, "audit_min_age": 1, "audit_pause": 1}


def _control(host: labs.Host, *words: str) -> str:
    return host.run([lab_worker.program("rbd-workerctl"), *lab_worker.CONFIG_FILES, *words],
                    check=False).stdout


def _troubles(host: labs.Host) -> str:
    return str(json.loads(_control(host, "status", "-f", "json"))["troubles"])


@contextlib.contextmanager
def _mounted(host: labs.Host, path: str, *options: str) -> ty.Iterator[None]:
    host.run(["mount", *options, path])
    try:
        yield
    finally:
        host.run(["umount", "-l", path])


def _guest_with_leftover(fleet: Fleet) -> labs.Guest:
    """A guest that runs on node1, and a directory on node2 that would be proven a leftover."""
    guest = fleet.lab.define_guest(fleet.one, console=False)
    directory = guest.directory(fleet.two)
    directory.mkdir()
    (directory / "console.log").write_text("left behind\n")
    return guest


def _refused(fleet: Fleet, host: labs.Host) -> str:
    """A start of the worker that ends by itself; the one sentence it says."""
    worker = fleet.lab.start_worker(host)
    assert worker.exit_status() == 1
    (line,) = [line for line in worker.log_text.splitlines() if " ERROR " in line]
    return line.partition("rbd-worker does not start: ")[2]


# -- the journal ---------------------------------------------------------------


def _torn(content: bytes) -> bytes:
    return content[:4096] + b"\xff" * 4096 + content[8192:]


@pytest.mark.parametrize("damage", [_torn, lambda content: content[:-3000], lambda _: b""])
def test_a_damaged_journal_is_refused_and_left_as_it_is(fleet: Fleet, damage) -> None:
    fleet.start(executor="nova", **OWN)
    guest = _guest_with_leftover(fleet)
    fleet.workers["node2"].stop()
    path = fleet.two.root / STATE.lstrip("/") / "journal.sqlite"
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    sentence = _refused(fleet, fleet.two)
    assert f"{STATE}/journal.sqlite cannot be used" in sentence
    assert "Nothing was removed. Move the file away" in sentence
    assert path.read_bytes() == before
    assert guest.directory(fleet.two).is_dir()
    path.rename(path.with_name("damaged"))
    fleet.restart(fleet.two)


def test_a_journal_of_a_newer_worker_is_refused_and_left_as_it_is(fleet: Fleet) -> None:
    fleet.start(executor="nova", **OWN)
    fleet.workers["node2"].stop()
    path = fleet.two.root / STATE.lstrip("/") / "journal.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=99")
    assert "Start the newer rbd-worker" in _refused(fleet, fleet.two)


def test_a_journal_on_a_read_only_disk_is_refused(fleet: Fleet) -> None:
    fleet.start(executor="nova", **OWN)
    guest = _guest_with_leftover(fleet)
    fleet.workers["node2"].stop()
    with _mounted(fleet.two, STATE, "--bind", STATE):
        fleet.two.run(["mount", "-o", "remount,bind,ro", STATE])
        assert "state_directory writable" in _refused(fleet, fleet.two)
    assert guest.directory(fleet.two).is_dir()
    fleet.restart(fleet.two)


def test_a_full_disk_holds_the_work_and_space_lets_it_go_on(fleet: Fleet) -> None:
    fleet.two.run(["mkdir", "-p", STATE])
    fleet.one.run(["mkdir", "-p", STATE])
    with _mounted(fleet.one, STATE, "-t", "tmpfs", "-o", "size=1m", "none"):
        fleet.start(settle_interval=1)
        guest = fleet.lab.define_guest(fleet.one, console=False)
        furnish(guest.directory(fleet.one))
        before = states(guest.directory(fleet.one))
        fleet.one.run(["sh", "-c", f"cat /dev/zero > {STATE}/ballast || true"])
        order = fleet.move(guest, fleet.one, fleet.two)
        fleet.until(lambda: "Free space" in _troubles(fleet.one), "the trouble in status")
        assert guest.running_on() == ["node1"]
        assert states(guest.directory(fleet.one)) == before
        said = fleet.workers["node1"].log_text
        assert said.count("ERROR") == 1 and "nothing is removed" in said
        fleet.one.run(["rm", f"{STATE}/ballast"])
        entries = _both_closed_on_a_mount(fleet, order)
        assert set(entries) == {"completed"}, entries
        assert guest.running_on() == ["node2"]
        assert states(guest.directory(fleet.two)) == before
        assert _troubles(fleet.one) == "none"
        fleet.workers["node1"].stop()


def _both_closed_on_a_mount(fleet: Fleet, order) -> list[str]:
    """As ``Fleet.closed``, by the operator's command: a mount is seen from inside only."""
    outcomes: list[str] = []

    def closed() -> bool:
        outcomes[:] = [row["Outcome"] for host in (fleet.one, fleet.two)
                       for row in json.loads(_control(host, "migration", "list", "-f", "json"))
                       if row["Migration"] == order.uuid and row["Outcome"] != "open"]
        return len(outcomes) == 2

    fleet.until(closed, "the end on both hosts", shown=outcomes)
    return outcomes


# -- whose it is ---------------------------------------------------------------


def test_a_second_worker_on_the_host_is_refused_and_the_first_goes_on(fleet: Fleet) -> None:
    fleet.start()
    guest = fleet.lab.define_guest(fleet.one, console=False)
    second = fleet.one.run([lab_worker.program("rbd-worker"), *lab_worker.CONFIG_FILES],
                           check=False, timeout=20)
    assert second.returncode == 1
    assert "another rbd-worker already runs on this host" in second.stdout + second.stderr
    fleet.moved(guest, fleet.one, fleet.two)


def test_a_second_worker_with_another_journal_is_refused(fleet: Fleet) -> None:
    fleet.start()
    guest = fleet.lab.define_guest(fleet.one, console=False)
    fleet.one.write("/etc/rbd-worker/other.conf",
                    "[rbd_worker]\nstate_directory = /var/lib/nova/other\nmetrics_listen =\n")
    second = fleet.one.run(
        [lab_worker.program("rbd-worker"), *lab_worker.CONFIG_FILES,
         "--config-file", "/etc/rbd-worker/other.conf"], check=False, timeout=20)
    assert second.returncode == 1
    told = second.stdout + second.stderr
    assert "another rbd-worker, started" in told and "answers for host node1 already" in told
    fleet.workers["node1"].kill9()
    fleet.restart(fleet.one)
    fleet.moved(guest, fleet.one, fleet.two)


def test_a_renamed_host_is_refused_until_it_has_its_name_again(fleet: Fleet) -> None:
    fleet.start(executor="nova", **OWN)
    guest = _guest_with_leftover(fleet)
    fleet.workers["node2"].stop()
    fleet.lab.write_config(fleet.two, executor="nova", nova={"host": "node2.example.org"}, **OWN)
    sentence = _refused(fleet, fleet.two)
    assert "that of host node2, and [DEFAULT] host is node2.example.org" in sentence
    assert guest.directory(fleet.two).is_dir()
    fleet.lab.write_config(fleet.two, executor="nova", **OWN)
    fleet.restart(fleet.two)


# -- instances_path ------------------------------------------------------------


def test_a_path_that_is_not_mounted_is_told_from_one_without_guests(fleet: Fleet) -> None:
    """Under a running worker: nothing begins there, and a mount cures it."""
    fleet.start(**OWN)
    guest = _guest_with_leftover(fleet)
    time.sleep(1.1)
    fleet.until(lambda: [row["Verdict"] for row in json.loads(
        _control(fleet.two, "audit", "-f", "json"))] == ["leftover"], "the verdict")
    # the path is known from now on
    assert _troubles(fleet.two) == "none"
    (guest.directory(fleet.two) / "console.log").unlink()
    guest.directory(fleet.two).rmdir()
    with _mounted(fleet.two, INSTANCES, "-t", "tmpfs", "none"):
        assert "looks not mounted" in _troubles(fleet.two)
        audit = fleet.two.run([lab_worker.program("rbd-workerctl"), *lab_worker.CONFIG_FILES,
                               "audit", "--act"], check=False)
        assert audit.returncode == 1 and "looks not mounted" in audit.stderr
        fleet.lab.write_config(fleet.one, nova={"live_migration_retry_count": 1}, **OWN)
        fleet.workers["node1"].stop()
        fleet.restart(fleet.one)
        order = fleet.move(guest, fleet.one, fleet.two)
        fleet.until(lambda: not getattr(fleet.entry(fleet.one, order), "is_open", True),
                    "the end")
        entry = fleet.entry(fleet.one, order)
        assert entry is not None and entry.outcome is Outcome.FAILED
        assert "looks not mounted" in entry.reason
        assert guest.running_on() == ["node1"]
        assert fleet.two.run(["ls", "-A", INSTANCES]).stdout == ""
    assert _troubles(fleet.two) == "none"
    fleet.moved(guest, fleet.one, fleet.two)


def test_a_source_whose_path_went_away_keeps_everything_until_it_is_back(fleet: Fleet) -> None:
    fleet.start(settle_interval=1, unresolved_retry_max=2, **OWN)
    guest = fleet.lab.define_guest(fleet.one, console=False)
    directory = guest.directory(fleet.one)
    assert _control(fleet.one, "audit") is not None  # the path is known from now on
    with _mounted(fleet.one, INSTANCES, "-t", "tmpfs", "none"):
        order = fleet.move(guest, fleet.one, fleet.two)
        fleet.until(lambda: not getattr(fleet.entry(fleet.one, order), "is_open", True),
                    "the end")
        entry = fleet.entry(fleet.one, order)
        assert entry is not None and entry.outcome is Outcome.FAILED
        assert "looks not mounted" in entry.reason
        assert guest.running_on() == ["node1"]
    assert (directory / "disk.info").exists()
    fleet.moved(guest, fleet.one, fleet.two)


# -- the clock -----------------------------------------------------------------


def test_a_clock_that_was_set_ahead_purges_nothing(fleet: Fleet) -> None:
    """As a worker finds it at its start: by the uptime, the clock should be a month behind."""
    fleet.start(trash_retention=0, **OWN)
    guest = fleet.lab.define_guest(fleet.one, console=False)
    fleet.moved(guest, fleet.one, fleet.two)
    (item,) = fleet.trash(fleet.one)
    fleet.workers["node1"].stop()
    state = fleet.one.root / STATE.lstrip("/") / "clock.json"
    look = json.loads(state.read_bytes())
    state.write_text(json.dumps(look | {"wall": look["wall"] - 30 * 86400}))
    fleet.restart(fleet.one).wait_log("the clock was set ahead by 30.0 d")
    fleet.until(lambda: "check the host's time service" in _troubles(fleet.one), "the trouble")
    assert item.is_dir()
    fleet.workers["node1"].stop()
    state.unlink()  # as if it had been believed
    fleet.restart(fleet.one)
    fleet.until(lambda: not item.exists(), "the purge")


def test_a_full_disk_does_not_keep_a_proven_directory(fleet: Fleet) -> None:
    """The move to the trash is a rename, and its record goes into what was kept ready."""
    with _mounted(fleet.one, INSTANCES, "-t", "tmpfs", "-o", "size=8m", "none"):
        fleet.start(**OWN)
        guest = fleet.lab.define_guest(fleet.one, console=False, start=False)
        fleet.one.run(["mkdir", "-p", f"{INSTANCES}/{guest.uuid}"])
        fleet.one.virsh("start", guest.name)
        fleet.one.run(["sh", "-c", f"cat /dev/zero > {INSTANCES}/ballast || true"])
        order = fleet.move(guest, fleet.one, fleet.two)
        fleet.until(lambda: not getattr(fleet.entry(fleet.one, order), "is_open", True),
                    "the end")
        entry = fleet.entry(fleet.one, order)
        assert entry is not None and entry.outcome is Outcome.COMPLETED, entry
        (row,) = json.loads(_control(fleet.one, "trash", "list", "-f", "json"))
        assert row["Migration"] == order.uuid and "node2 says running" in row["Why"]
        assert guest.uuid not in fleet.one.run(["ls", INSTANCES]).stdout.split()
        fleet.workers["node1"].stop()
    assert os.path.isdir(guest.directory(fleet.two))
