# SPDX-License-Identifier: Apache-2.0
"""What must not harm: each bad thing is told once, is gone, and changes nothing."""

import json
import os
import socket
import time
import uuid

import pytest

from devstack import conductor
from devstack import lab as labs
from devstack.conductor import SECRET_TOKEN, LiveMigration
from rbd_worker.model import Outcome
from tests.functional.fleet import Fleet, furnish, states

pytestmark = pytest.mark.lab

UUID = "a05482ec-d71a-48c7-bf99-94d829b20aef"


def _cast(instance: object = UUID, **changes: object) -> bytes:
    order = LiveMigration(UUID, "node1", "node2")
    message = conductor.live_migration(order, **changes)
    message["args"]["instance"]["nova_object.data"]["uuid"] = instance
    message["args"]["migration"]["nova_object.data"]["instance_uuid"] = instance
    return conductor.envelope(message)


BODIES = {
    "malformed JSON": b'{"oslo.version": "2.0", "oslo.message": "{\\"method\\": \\"live_migrat',
    "an inner message that is no JSON": json.dumps(
        {"oslo.version": "2.0", "oslo.message": "{live_migration"}).encode(),
    "another envelope": json.dumps(
        {"oslo.version": "3.0", "oslo.message": "live_migration"}).encode(),
    "no UUID": _cast(None),
    "an upper case UUID": _cast(UUID.upper()),
    "a UUID with a path in it": _cast(f"../../{UUID}"),
    "a UUID with a line break": _cast(f"{UUID}\n"),
    "the destination is the source": _cast(dest="node1"),
    "a destination with strange characters": _cast(dest="node2;rm -rf /"),
    "a destination of another type": _cast(dest={"host": "node2"}),
    "50 MiB": _cast(padding="x" * (50 << 20)),
}


def test_bad_messages_are_refused_once_and_leave_no_trace(fleet: Fleet):
    fleet.start()
    before = {host.name: _everything(host) for host in (fleet.one, fleet.two)}
    for number, (what, body) in enumerate(BODIES.items(), 1):
        fleet.conductor.publish("compute-alt.node1", body)
        fleet.until(lambda number=number: len(fleet.refusals(fleet.one)) == number,
                    f"the refusal of {what}")
    fleet.workers["node1"].stop()
    fleet.restart(fleet.one)  # what was not acknowledged would come again
    assert len(fleet.refusals(fleet.one)) == len(BODIES)
    assert {host.name: _everything(host) for host in (fleet.one, fleet.two)} == before
    said = "\n".join(fleet.refusals(fleet.one)) + fleet.workers["node1"].service.log.read_text()
    assert SECRET_TOKEN not in said and "rm -rf" not in said


def _everything(host: labs.Host) -> set[str]:
    return {str(path) for path in host.nova_instances.rglob("*")
            if ".rbd-worker" not in path.parts}


def test_a_cast_for_an_instance_that_is_not_here_ends_at_once(fleet: Fleet):
    fleet.start()
    order = LiveMigration(str(uuid.uuid4()), "node1", "node2")
    fleet.conductor.live_migrate(order)
    fleet.until(lambda: not getattr(fleet.entry(fleet.one, order), "is_open", True), "the end")
    entry = fleet.entry(fleet.one, order)
    assert entry.outcome is Outcome.FAILED and "no guest" in entry.reason
    assert not (fleet.two.nova_instances / order.instance).exists()


def _link(directory):
    (directory / "disk.config").symlink_to("/etc/passwd")


def _device(directory):
    os.mknod(directory / "null", 0o020666, os.makedev(1, 3))


def _socket(directory):
    here = os.open(directory, os.O_RDONLY)
    one = socket.socket(socket.AF_UNIX)
    one.bind(f"/proc/self/fd/{here}/monitor")
    one.close()
    os.close(here)


def _many(directory):
    for number in range(2000):
        (directory / str(number)).touch()


def _huge(directory):
    with (directory / "huge").open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize(("spoil", "word"), [
    (_link, "symbolic link"), (_device, "device"), (_socket, "socket"),
    (_many, "max_files"), (_huge, "max_file_gib")])
def test_a_directory_that_is_not_carried_ends_before_the_guest_moves(fleet: Fleet, spoil, word):
    fleet.start()
    guest = fleet.lab.define_guest(fleet.one, console=False)
    spoil(guest.directory(fleet.one))
    names = sorted(os.listdir(guest.directory(fleet.one)))
    order = fleet.move(guest, fleet.one, fleet.two)
    fleet.until(lambda: not getattr(fleet.entry(fleet.one, order), "is_open", True), "the end")
    entry = fleet.entry(fleet.one, order)
    assert entry.outcome is Outcome.FAILED and word in entry.reason, entry.reason
    assert guest.running_on() == ["node1"]
    assert sorted(os.listdir(guest.directory(fleet.one))) == names
    assert not guest.directory(fleet.two).exists() and fleet.staging(fleet.two) == []


def test_an_instance_directory_that_is_a_link_is_left_alone(fleet: Fleet, tmp_path):
    fleet.start()
    guest = fleet.lab.define_guest(fleet.one, console=False)
    directory = guest.directory(fleet.one)
    elsewhere = directory.with_name("elsewhere")
    directory.rename(elsewhere)
    directory.symlink_to("elsewhere")
    order = fleet.move(guest, fleet.one, fleet.two)
    fleet.until(lambda: not getattr(fleet.entry(fleet.one, order), "is_open", True), "the end")
    entry = fleet.entry(fleet.one, order)
    assert entry.outcome is Outcome.FAILED, entry
    assert directory.is_symlink() and (elsewhere / "disk.info").exists()
    assert guest.running_on() == ["node1"]


@pytest.mark.parametrize(("mount", "word"), [
    (["mount", "-t", "tmpfs", "-o", "size=2m", "none"], "no space"),
    (["mount", "-t", "tmpfs", "-o", "ro", "none"], "ead-only")])
def test_a_destination_that_cannot_be_written_fails_and_the_guest_stays(
        fleet: Fleet, mount, word):
    path = "/var/lib/nova/instances"
    fleet.start(nova={"live_migration_retry_count": 1})
    guest = fleet.lab.define_guest(fleet.one, console=False)
    furnish(guest.directory(fleet.one))
    before = states(guest.directory(fleet.one))
    fleet.two.run([*mount, path])
    try:
        order = fleet.move(guest, fleet.one, fleet.two)
        fleet.until(lambda: not getattr(fleet.entry(fleet.one, order), "is_open", True),
                    "the end")
        entry = fleet.entry(fleet.one, order)
        assert entry.outcome is Outcome.FAILED and word in entry.reason, entry.reason
        assert guest.running_on() == ["node1"]
        assert states(guest.directory(fleet.one)) == before
        left = fleet.two.run(["sh", "-c", f"find {path} -type f | grep -v '[.]json$' || true"])
        assert left.stdout.split() == []
    finally:
        fleet.two.run(["umount", "-l", path])


def test_an_idle_worker_is_small_and_asleep(fleet: Fleet):
    fleet.start()
    worker = fleet.workers["node1"]
    assert worker.resident_mib() < 90

    def is_asleep() -> bool:
        """1 % of a core at most: no busy polling."""
        before = _cpu_ticks(worker.service.pid)
        time.sleep(5)
        return _cpu_ticks(worker.service.pid) - before <= 5

    fleet.until(is_asleep, "five seconds of sleep")  # what its start has begun may still end


def _cpu_ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
