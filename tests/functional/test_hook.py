# SPDX-License-Identifier: Apache-2.0
"""The libvirt hook on real hosts: libvirt calls it, the worker answers, guests arrive."""

import re
import shutil
import time
import uuid

import pytest

from devstack import lab as labs
from devstack.lab import ceph, processes, worker
from rbd_worker.migration import arrival
from rbd_worker.model import Outcome
from tests.functional.fleet import Fleet
from tests.functional.nova_standin import Nova

pytestmark = pytest.mark.lab

#: As long as a guest may wait for the worker.
LIMIT = processes.patience(1.5)
WRAPPER = "etc/libvirt/hooks/qemu.d/50-rbd-worker"


def control(host: labs.Host, *argv: str, check: bool = True) -> str:
    done = host.run([worker.program("rbd-workerctl"), *worker.CONFIG_FILES, *argv], check=check)
    return done.stdout + done.stderr


@pytest.fixture
def hooked(fleet: Fleet) -> Fleet:
    """Both workers run as beside Nova, and the destination's libvirt calls the hook."""
    fleet.start(executor="nova", hook_timeout=LIMIT)
    control(fleet.two, "hook", "install")
    fleet.lab.libvirt(fleet.two).restart()
    return fleet


def guest_without_directory_there(fleet: Fleet) -> labs.Guest:
    guest = fleet.lab.define_guest(fleet.one)
    assert not guest.directory(fleet.two).exists()
    return guest


def hook_log(fleet: Fleet) -> str:
    return fleet.workers["node2"].log_text


def test_a_guest_whose_directory_nova_did_not_make_arrives(hooked: Fleet):
    sibling = hooked.two.nova_instances / str(uuid.uuid4())
    sibling.mkdir()
    shutil.chown(sibling, 64055, 107)
    guest = guest_without_directory_there(hooked)
    guest.migrate(hooked.one, hooked.two)
    assert guest.running_on() == ["node2"]
    status = guest.directory(hooked.two).stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (64055, 107, 0o755)
    assert (guest.directory(hooked.two) / "console.log").exists()


def test_a_move_by_the_worker_itself_passes_the_hook_there_and_back(fleet: Fleet):
    fleet.start(executor="libvirt")
    for host in (fleet.one, fleet.two):
        control(host, "hook", "install")
        fleet.lab.libvirt(host).restart()
    guest = fleet.lab.define_guest(fleet.one)
    fleet.moved(guest, fleet.one, fleet.two)
    fleet.moved(guest, fleet.two, fleet.one)
    assert guest.running_on() == ["node1"]
    for worker_there in fleet.workers.values():
        worker_there.wait_log(f"[instance: {guest.uuid}] arrives")


def test_novas_migration_passes_the_hook(hooked: Fleet):
    guest = guest_without_directory_there(hooked)
    order = hooked.order(guest, hooked.one, hooked.two)
    Nova(hooked.lab, hooked.conductor).live_migrate(guest, order)
    entries = hooked.closed(order)
    assert {e.outcome for e in entries.values()} == {Outcome.COMPLETED}
    assert arrival.MADE not in hooked.notes(hooked.two, order)  # Nova's own stood there


def test_the_directory_of_an_expected_guest_is_noted_in_its_migration(hooked: Fleet):
    guest = guest_without_directory_there(hooked)
    order = hooked.move(guest, hooked.one, hooked.two)  # a Nova that makes no directory
    hooked.until(lambda: "ensure_files_staged" in hooked.notes(hooked.two, order)
                 if hooked.entry(hooked.two, order) else False, "the prepared destination")
    guest.migrate(hooked.one, hooked.two)
    made = guest.directory(hooked.two).stat()
    noted = hooked.notes(hooked.two, order)[arrival.MADE]["identity"]
    assert noted[:2] == [made.st_dev, made.st_ino]


def test_without_the_hook_the_same_guest_does_not_arrive(fleet: Fleet):
    guest = guest_without_directory_there(fleet)
    with pytest.raises(labs.CommandFailed, match=r"console\.log"):
        guest.migrate(fleet.one, fleet.two)


def test_a_guest_whose_secret_is_unknown_is_refused_with_a_sentence_at_the_source(hooked: Fleet):
    guest = guest_without_directory_there(hooked)
    hooked.two.virsh("secret-undefine", hooked.lab.secret_uuid)
    try:
        hooked.workers["node2"].stop()  # it remembers that the secret was there
        hooked.restart(hooked.two)
        with pytest.raises(labs.CommandFailed) as failure:
            guest.migrate(hooked.one, hooked.two)
    finally:
        hooked.lab.libvirt(hooked.two).stop()
        labs.Compute(hooked.two).configure(hooked.lab.ceph, hooked.lab.secret_uuid)
        hooked.lab.libvirt(hooked.two).start()
    assert re.search(rf"exit status 3: rbd-worker: the Ceph secret {hooked.lab.secret_uuid} of "
                     rf"disk {guest.image} is not defined in libvirt on node2", str(failure.value))
    assert guest.running_on() == ["node1"]
    assert not guest.directory(hooked.two).exists()
    assert any(hooked.lab.secret_uuid in reason for reason in hooked.refusals(hooked.two))


def test_a_guest_with_an_outdated_monitor_gets_those_of_the_hosts_ceph_conf(hooked: Fleet):
    guest = hooked.lab.define_guest(hooked.one, start=False)
    hooked.one.virsh("define", "/dev/stdin", input=with_second_monitor(hooked, guest))
    hooked.one.virsh("start", guest.uuid)
    guest.migrate(hooked.one, hooked.two)
    assert guest.running_on() == ["node2"]
    live = hooked.two.virsh("dumpxml", guest.uuid)
    assert re.findall("<host name='(.*?)' port='(.*?)'/>", live) == [
        (hooked.lab.ceph.monitor_address, str(ceph.PORT))]


def with_second_monitor(fleet: Fleet, guest: labs.Guest) -> str:
    """The guest's XML with a monitor that is no more, besides the one that is."""
    text = fleet.one.virsh("dumpxml", "--inactive", guest.uuid)
    gone = f"<host name='{fleet.lab.controller.address.rpartition('.')[0]}.99' port='6789'/>"
    changed, count = re.subn(r"(<host name='[^']+' port='\d+'/>)", rf"\1{gone}", text)
    assert count == 1
    return changed


def test_a_guest_with_the_right_monitors_is_not_touched(hooked: Fleet):
    guest = guest_without_directory_there(hooked)
    guest.migrate(hooked.one, hooked.two)
    log = hook_log(hooked)
    assert f"[instance: {guest.uuid}] arrives" in log
    assert "gets the monitors" not in log


def test_a_guest_arrives_beside_a_stopped_worker(hooked: Fleet):
    guest = guest_without_directory_there(hooked)
    guest.directory(hooked.two).mkdir()
    hooked.workers["node2"].stop()
    guest.migrate(hooked.one, hooked.two)
    assert guest.running_on() == ["node2"]


def test_a_guest_waits_for_a_frozen_worker_no_longer_than_the_limit(hooked: Fleet):
    guest = guest_without_directory_there(hooked)
    guest.directory(hooked.two).mkdir()
    began = time.monotonic()
    guest.migrate(hooked.one, hooked.two)
    usual = time.monotonic() - began
    guest.directory(hooked.one).mkdir(exist_ok=True)
    guest.migrate(hooked.two, hooked.one)
    service = worker.service(hooked.two)
    service.pause()
    try:
        began = time.monotonic()
        guest.migrate(hooked.one, hooked.two)
        took = time.monotonic() - began
    finally:
        service.resume()
    assert guest.running_on() == ["node2"]
    assert LIMIT - 0.5 < took < processes.patience(usual + 2) + LIMIT


def test_a_worker_that_wakes_up_too_late_makes_no_directory_any_more(hooked: Fleet):
    guest = guest_without_directory_there(hooked)
    service = worker.service(hooked.two)
    service.pause()
    try:
        with pytest.raises(labs.CommandFailed, match=r"console\.log"):
            guest.migrate(hooked.one, hooked.two)
    finally:
        service.resume()
    hooked.workers["node2"].wait_log("before this worker could answer")
    assert not guest.directory(hooked.two).exists()
    guest.migrate(hooked.one, hooked.two)
    assert guest.running_on() == ["node2"]


def test_other_operations_are_over_at_once(hooked: Fleet):
    script = "/" + WRAPPER
    began = time.monotonic()
    hooked.two.run(["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do for operation in prepare start "
                    "started stopped release reconnect restore attach; do "
                    f'{script} guest $operation begin - </dev/null || exit 1; done; done'])
    assert time.monotonic() - began < processes.patience(80 * 0.05)
    hooked.workers["node2"].stop()
    guest = hooked.lab.define_guest(hooked.two)
    assert guest.running_on() == ["node2"]


def test_the_command_says_when_libvirt_does_not_see_the_hook_yet(fleet: Fleet):
    fleet.start(executor="nova")
    fleet.lab.libvirt(fleet.two).restart()  # whatever hook there was before
    told = control(fleet.two, "hook", "install")
    assert "is installed" in told and "restart libvirtd" in told
    status = control(fleet.two, "hook", "status", "-f", "json")
    assert "restart libvirtd" in status and "answers in" in status
    fleet.lab.libvirt(fleet.two).restart()
    assert "calls it" in control(fleet.two, "hook", "status", "-f", "json")
    assert "restart" not in control(fleet.two, "hook", "install")
    assert "is removed" in control(fleet.two, "hook", "remove")
    assert not (fleet.two.root / WRAPPER).exists()
