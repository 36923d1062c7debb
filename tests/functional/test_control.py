# SPDX-License-Identifier: Apache-2.0
"""An operator moves a guest, watches it, gives a move up or makes it end, on real parts."""

import collections.abc
import json
import re
import subprocess

import pytest

from devstack import lab as labs
from devstack.lab import worker as lab_worker
from rbd_worker.model import Outcome
from tests.functional.fleet import Fleet, states

#: A busy guest of 64 MiB does not arrive at that rate (MiB/s).
SLOW = {"live_migration_bandwidth": 4}


def control(host: labs.Host, *words: str) -> subprocess.CompletedProcess[str]:
    return host.run([lab_worker.program("rbd-workerctl"), *lab_worker.CONFIG_FILES, *words],
                    check=False)


@pytest.fixture
def moving(fleet: Fleet) -> collections.abc.Iterator[tuple[Fleet, labs.Guest, str]]:
    """A guest that is on its way from node1 and will not arrive by itself."""
    fleet.start(libvirt=SLOW)
    guest = fleet.lab.define_guest(fleet.one, busy=True)
    guest.wait_for_console(fleet.one)
    begun = control(fleet.one, "live-migrate", guest.uuid, "node2")
    assert (begun.returncode, begun.stderr) == (0, "")
    migration = begun.stdout.strip()
    fleet.until(lambda: "memory" in control(fleet.one, "migration", "watch",
                                            migration, "--once").stdout, "the move")
    yield fleet, guest, migration


def test_an_operator_moves_a_guest_and_sees_it_arrive(fleet: Fleet):
    fleet.start()
    guest = fleet.lab.define_guest(fleet.one)
    done = control(fleet.two, "live-migrate", guest.uuid, "node2", "--host", "node1", "--wait")
    assert done.returncode == 0, done.stderr
    assert "completed" in done.stderr
    assert guest.running_on() == ["node2"]
    again = control(fleet.one, "migration", "watch", done.stdout.strip())
    assert (again.returncode, "completed" in again.stdout) == (0, True)
    for words in (("list",), ("show", done.stdout.strip())):
        from_afar = control(fleet.two, "migration", *words, "--host", "node1", "-f", "json")
        there = control(fleet.one, "migration", *words, "-f", "json")
        assert json.loads(from_afar.stdout) == json.loads(there.stdout) != []
    assert control(fleet.two, "refusal", "list", "--host", "node1").returncode == 0
    from_afar = control(fleet.two, "trash", "list", "--host", "node1", "-f", "json")
    assert from_afar.stdout == control(fleet.one, "trash", "list", "-f", "json").stdout
    assert [row["Instance"] for row in json.loads(from_afar.stdout)] == [guest.uuid]


def test_a_report_has_both_sides_of_a_migration_and_names_who_is_silent(fleet: Fleet):
    fleet.start()
    guest = fleet.lab.define_guest(fleet.one)
    order = fleet.moved(guest, fleet.one, fleet.two)
    both = ("report", "--host", "node1", "--host", "node2", "--audit", "--html", "-")
    done = control(fleet.two, *both)
    assert (done.returncode, done.stderr) == (0, "")
    for said in (order.uuid, "files handed over", "files placed", "downtime", "no retry",
                 "No directory without its guest was found."):
        assert said in done.stdout
    assert "was not read" not in done.stdout
    fleet.workers["node1"].stop()
    done = control(fleet.two, *both)
    assert done.returncode == 4
    assert "the worker on node1 does not answer" in done.stderr
    assert "the worker on node1 does not answer" in done.stdout and order.uuid in done.stdout


def test_a_watcher_sees_memory_shrink_and_the_abort(moving):
    fleet, guest, migration = moving
    watch = [lab_worker.program("rbd-workerctl"), *lab_worker.CONFIG_FILES, "migration", "watch",
             migration]
    with fleet.one.popen(watch, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout
        seen = next(line for line in watching.stdout if "remaining" in line)
        assert re.search(r"\d+ MiB of \d+ MiB remaining", seen), seen
        aborted = control(fleet.one, "migration", "abort", migration)
        assert (aborted.returncode, aborted.stderr) == (0, "")
        assert "cancelled" in watching.stdout.read()
    assert watching.returncode == 4
    assert guest.running_on() == ["node1"]


def test_a_move_that_does_not_end_is_made_to(moving):
    fleet, guest, migration = moving
    forced = control(fleet.two, "migration", "force-complete", migration, "--host", "node1")
    assert (forced.returncode, forced.stderr) == (0, "")
    done = control(fleet.one, "migration", "watch", migration)
    assert (done.returncode, "completed" in done.stdout) == (0, True), done.stdout
    assert guest.running_on() == ["node2"]


def test_beside_nova_compute_orders_are_refused_with_novas_own_command(fleet: Fleet):
    fleet.start(executor="nova")
    guest = fleet.lab.define_guest(fleet.one)
    refused = control(fleet.one, "live-migrate", guest.uuid, "node2")
    assert refused.returncode == 1
    assert f"openstack server migrate --live-migration {guest.uuid}" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(("words", "said"), [
    (("migration", "watch", "m-none"), "does not have it"),
    (("migration", "abort", "m-none", "--host", "node9"), "no worker was ever started"),
    (("migration", "resolve", "m-none", "--as", "failed"), "--yes"),
    (("migration", "resolve", "m-none", "--as", "failed", "--yes"), "does not have it"),
    (("live-migrate", "not-a-uuid", "node2"), "not-a-uuid"),
])
def test_what_cannot_be_done_is_one_sentence(started: Fleet, words: tuple[str, ...], said: str):
    done = control(started.one, *words)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert said in line


def test_a_guest_that_was_deleted_on_its_way_is_resolved_by_word(moving):
    fleet, guest, migration = moving
    for worker in fleet.workers.values():
        worker.service.pause()  # between the two orders the guest is shut off, which is no doubt
    fleet.one.virsh("destroy", guest.uuid)
    fleet.one.virsh("undefine", guest.uuid)
    fleet.until(lambda: guest.state(fleet.two) is None, "the end at the destination")
    for worker in fleet.workers.values():
        worker.service.resume()

    def unresolved() -> bool:
        return [e.outcome for e in fleet.reader(fleet.two).open_entries()] == [
            Outcome.UNRESOLVED]

    fleet.until(unresolved, "the doubt of node2")
    before = states(guest.directory(fleet.two))
    closed = control(fleet.two, "migration", "resolve", migration, "--as", "failed", "--yes",
                     "--note", "deleted by its user")
    assert (closed.returncode, closed.stderr) == (0, "")
    assert fleet.reader(fleet.two).open_entries() == []
    assert states(guest.directory(fleet.two)) == before
