# SPDX-License-Identifier: Apache-2.0
"""The audit on real parts: what an earlier time left is found, proven twice, and moved away."""

import json
import os
import time

import pytest

from devstack import lab as labs
from devstack.lab import processes
from devstack.lab import worker as lab_worker
from tests.functional.fleet import Fleet

pytestmark = pytest.mark.lab

#: So that nothing runs by itself, and nothing has to be waited for.
OWN = {"audit_interval": 0, "audit_min_age": 1, "audit_pause": 1}


def _audit(host: labs.Host, *options: str) -> dict[str, dict[str, str]]:
    done = host.run([lab_worker.program("rbd-workerctl"), *lab_worker.CONFIG_FILES, "audit",
                     "-f", "json", *options])
    return {row["Instance"]: row for row in json.loads(done.stdout)}


def _verdict(host: labs.Host, verdict: str, *options: str) -> dict[str, str]:
    """The only row, once it says so: a peer that is busy may answer too late for one audit."""
    found: list[dict[str, str]] = []

    def says() -> bool:
        found[:] = _audit(host, *options).values()
        return [row["Verdict"] for row in found] == [verdict]

    processes.wait_until(says, 20, f"the verdict {verdict}", seen=lambda: found)
    return found[0]


def _leftover(host: labs.Host, uuid: str) -> None:
    directory = host.nova_instances / uuid
    directory.mkdir()
    (directory / "console.log").write_text("left behind\n")


def test_a_leftover_is_told_first_and_moved_to_the_trash_on_request(fleet: Fleet):
    fleet.start(executor="nova", **OWN)
    guest = fleet.lab.define_guest(fleet.one)
    _leftover(fleet.two, guest.uuid)
    time.sleep(1.1)
    assert _verdict(fleet.two, "leftover")["Holder"] == "node1"
    assert guest.directory(fleet.two).is_dir()
    _verdict(fleet.two, "trashed", "--act")
    assert not guest.directory(fleet.two).exists()
    (item,) = fleet.trash(fleet.two)
    assert (item / "console.log").read_text() == "left behind\n"
    assert guest.directory(fleet.one).is_dir()


def test_the_worker_audits_by_itself_soon_after_the_start(fleet: Fleet):
    guest = fleet.lab.define_guest(fleet.one)
    _leftover(fleet.two, guest.uuid)
    time.sleep(1.1)
    fleet.start(executor="nova", **OWN | {"audit_interval": 3})
    fleet.until(lambda: not guest.directory(fleet.two).exists(), "the removal")
    assert len(fleet.trash(fleet.two)) == 1


def test_what_no_running_guest_explains_is_kept_with_the_reason(fleet: Fleet):
    fleet.start(executor="nova", **OWN)
    off = fleet.lab.define_guest(fleet.one, start=False)
    nobody = "11111111-2222-4333-8444-555555555555"
    for uuid in (off.uuid, nobody):
        _leftover(fleet.two, uuid)
    for name in ("_base", f"{off.uuid}_resize", f"{off.uuid}_del"):
        (fleet.two.nova_instances / name).mkdir()
    time.sleep(1.1)
    names = sorted(os.listdir(fleet.two.nova_instances))
    found = _audit(fleet.two, "--act")
    assert {row["Verdict"] for row in found.values()} == {"kept"}
    assert "shutoff" in found[off.uuid]["Reason"]
    assert "no worker says" in found[nobody]["Reason"]
    assert sorted(os.listdir(fleet.two.nova_instances)) == names
    assert off.directory(fleet.one).is_dir()


def test_a_directory_that_was_changed_lately_is_left_alone(fleet: Fleet):
    fleet.start(executor="nova", **OWN | {"audit_min_age": 600})
    guest = fleet.lab.define_guest(fleet.one)
    _leftover(fleet.two, guest.uuid)
    (row,) = _audit(fleet.two, "--act").values()
    assert row["Verdict"] == "kept" and "s ago" in row["Reason"]
    assert guest.directory(fleet.two).is_dir()


def test_a_holder_that_falls_silent_proves_nothing(fleet: Fleet):
    fleet.start(executor="nova", **OWN)
    guest = fleet.lab.define_guest(fleet.one)
    _leftover(fleet.two, guest.uuid)
    time.sleep(1.1)
    fleet.workers["node1"].stop()
    (row,) = _audit(fleet.two, "--act").values()
    assert row["Verdict"] == "kept"
    assert guest.directory(fleet.two).is_dir()
