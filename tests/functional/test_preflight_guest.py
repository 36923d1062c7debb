# SPDX-License-Identifier: Apache-2.0
"""A guest and its destination, each row broken on real parts and seen to fail."""

import collections.abc
import contextlib
import os
import re
import signal
import subprocess

from devstack import lab as labs
from devstack.lab import processes
from tests.functional.fleet import Fleet
from tests.functional.preflights import OPEN_DOOR, ask, says, with_hook

#: No processor since 2011 has 3DNow!.
PAST_CPU = ("<cpu mode='custom' match='exact' check='full'><model>athlon</model>"
            "<feature policy='require' name='3dnowext'/></cpu>")
HUGE_PAGES = ("<memoryBacking><hugepages><page size='1' unit='GiB'/></hugepages>"
              "</memoryBacking>")
HOST_DEVICE = ("<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0x0' "
               "bus='0xfe' slot='0x1f' function='0x7'/></source></hostdev>")


@contextlib.contextmanager
def bridge(*hosts: labs.Host) -> collections.abc.Iterator[str]:
    """A bridge of the same name on each host."""
    name = "brtest"
    for host in hosts:
        host.run(["ip", "link", "add", name, "type", "bridge"])
        host.run(["ip", "link", "set", name, "up"])
    try:
        yield name
    finally:
        for host in hosts:
            host.run(["ip", "link", "del", name])


def redefined(host: labs.Host, guest: labs.Guest, old: str, new: str) -> None:
    """Another definition of a guest that is shut off; libvirt has to find it sound."""
    xml = host.virsh("dumpxml", guest.uuid)
    assert old in xml
    host.virsh("define", "/dev/stdin", input=xml.replace(old, new, 1))


def test_a_guest_that_is_bound_to_its_host(started: Fleet) -> None:
    one, two = started.one, started.two
    with_hook(started, one, two)
    guest = started.lab.define_guest(one, start=False)
    for name in ("disk.local", "disk.config"):
        (guest.directory(one) / name).write_bytes(bytes(1 << 20))
    inside = f"/var/lib/nova/instances/{guest.uuid}"
    redefined(one, guest, "<serial", (
        "<interface type='bridge'><source bridge='brtest'/><model type='virtio'/></interface>"
        f"<disk type='file' device='disk'><source file='{inside}/disk.local'/>"
        "<target dev='vdb' bus='virtio'/></disk>"
        f"<disk type='file' device='cdrom'><source file='{inside}/disk.config'/>"
        "<target dev='sda' bus='sata'/><readonly/></disk>"
        "<disk type='file' device='cdrom'><source file='/run/lab-medium.iso'/>"
        "<target dev='sdb' bus='sata'/><readonly/></disk><serial"))
    one.write("/run/lab-medium.iso", bytes(1 << 20))
    with bridge(one):
        one.virsh("start", guest.uuid)
        asked = ask(one, "node2", "--instance", guest.uuid)
        told = {row["Found"].split(" ")[0]: row for row in asked.rows["guest.disks"]}
        says(told["vdb"], "failed", "disk.local", "Move it to RBD")
        says(told["sda"], "ok", "takes it along", "")
        says(asked.one("guest.interfaces"), "failed", "brtest is not here",
             "Make the bridge brtest")
        says(asked.one("guest.local-files"), "failed", "/run/lab-medium.iso", "eject the medium")
        with bridge(two):
            two.write("/run/lab-medium.iso", b"")
            asked = ask(one, "node2", "--instance", guest.uuid)
        (two.root / "run/lab-medium.iso").unlink()
        assert asked.not_ok.keys() == {*OPEN_DOOR, "guest.disks"}, asked.not_ok
        one.virsh("destroy", guest.uuid)


def test_a_guest_that_the_destination_cannot_run(started: Fleet) -> None:
    """Shut off, since no host here could start it; its machine type is from a later QEMU."""
    one = started.one
    guest = started.lab.define_guest(one, start=False)
    redefined(one, guest, "<devices>", f"{HUGE_PAGES}<devices>{HOST_DEVICE}")
    libvirt, kept = started.lab.libvirt(one), one.root / f"etc/libvirt/qemu/{guest.name}.xml"
    libvirt.stop()
    text = re.sub(r"<cpu .*?(</cpu>|/>)", PAST_CPU, kept.read_text(), count=1, flags=re.DOTALL)
    assert PAST_CPU in text
    kept.write_text(re.sub(r"(machine='pc-\w+-)[^']*'", r"\g<1>99.0'", text))
    libvirt.start()
    one.virsh("capabilities")
    asked = ask(one, "node2", "--instance", guest.uuid)
    says(asked.one("guest.job"), "failed", "does not run", "migrate it cold")
    says(asked.one("guest.devices"), "failed", "pci", "Detach")
    says(asked.one("guest.cpu"), "failed", "cannot run here", "Choose a host")
    says(asked.one("guest.machine"), "failed", "-99.0", "Upgrade QEMU")
    says(asked.one("guest.memory"), "failed", "hugepages-1048576kB", "nr_hugepages")
    assert asked.one("guest.place")["State"] == "ok"


def test_a_guest_that_is_busy_or_there_already(started: Fleet) -> None:
    one = started.one
    guest = started.lab.define_guest(one)
    started.two.virsh("define", "/dev/stdin", input=one.virsh("dumpxml", "--inactive",
                                                              guest.uuid))
    qemu = one.pids()[guest.qemu_pid(one)]
    os.kill(qemu, signal.SIGSTOP)
    holder = one.popen(["virsh", "-c", "qemu:///system", "qemu-monitor-command", "--hmp",
                        guest.uuid, "info status"], stdout=subprocess.DEVNULL)
    try:
        processes.wait_until(lambda: "occupied" in one.virsh("domcontrol", guest.uuid), 20.0,
                             "the held lock")
        asked = ask(one, "node2", "--instance", guest.uuid)
    finally:
        os.kill(qemu, signal.SIGCONT)
        holder.wait(processes.patience(20))
    says(asked.one("guest.job"), "warning", "holds its state change lock for", "Ask again")
    says(asked.one("guest.place"), "failed", "has the guest already", "virsh undefine")
