# SPDX-License-Identifier: Apache-2.0
"""What would keep a guest from moving, each row broken on real parts and seen to fail."""

import json
import os
import signal
import subprocess
import time
import typing as ty

import pytest

from devstack import lab as labs
from devstack.lab import worker as lab_worker
from tests.functional.fleet import Fleet

Row: ty.TypeAlias = dict[str, str]
#: The lab's libvirt lets everybody in, as its rows have to say.
OPEN_DOOR = {"libvirt.auth-tcp"}


class Asked(ty.NamedTuple):
    """One run of ``rbd-workerctl preflight``."""

    status: int
    rows: dict[str, list[Row]]

    def one(self, name: str, host: str | None = None) -> Row:
        """The only row of that name, or of that name and host."""
        (row,) = [r for r in self.rows[name] if host in (None, r["Host"])]
        return row

    @property
    def not_ok(self) -> dict[str, list[Row]]:
        return {name: bad for name, rows in self.rows.items()
                if (bad := [r for r in rows if r["State"] != "ok"])}


def run(host: labs.Host, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the operator's command on ``host``."""
    return host.run([lab_worker.program("rbd-workerctl"), *lab_worker.CONFIG_FILES,
                     "preflight", *words], check=False)


def ask(host: labs.Host, *words: str) -> Asked:
    done = run(host, *words, "-f", "json")
    assert done.stderr == ""
    rows: dict[str, list[Row]] = {}
    for row in json.loads(done.stdout):
        rows.setdefault(row["Check"], []).append(row)
    return Asked(done.returncode, rows)


def with_hook(fleet: Fleet, *hosts: labs.Host) -> None:
    """The hook is there before libvirt starts, as on a host that was set up."""
    for host in hosts:
        host.run([lab_worker.program("rbd-workerctl"), *lab_worker.CONFIG_FILES,
                  "hook", "install"])
        restart_libvirt(fleet, host)


def restart_libvirt(fleet: Fleet, host: labs.Host) -> None:
    """Until it knows its QEMU again, which takes longer than a survey waits."""
    fleet.lab.libvirt(host).restart()
    host.virsh("version")


def failed(row: Row, found: str, remedy: str, state: str = "failed") -> None:
    """The row says what is wrong and what to do."""
    assert row["State"] == state, row
    assert found in row["Found"] and remedy in row["Remedy"], row


def replace(path: str, host: labs.Host, old: str, new: str) -> None:
    text = (host.root / path.lstrip("/")).read_text()
    assert old in text
    host.write(path, text.replace(old, new))


def test_a_sound_pair_is_told_as_such_but_for_its_open_door(started: Fleet) -> None:
    guest = started.lab.define_guest(started.one)
    with_hook(started, started.one, started.two)
    asked = ask(started.one, "node2", "--instance", guest.uuid)
    assert asked.not_ok.keys() == OPEN_DOOR
    for row in asked.rows["libvirt.auth-tcp"]:
        failed(row, "198.18.", "Use TLS", "warning")
    assert asked.status == 3


def test_a_listener_is_diagnosed_where_it_is(started: Fleet) -> None:
    two = started.two
    replace("/etc/libvirt/libvirtd.conf", two, "listen_tcp = 1", "listen_tcp = 0")
    restart_libvirt(started, two)
    asked = ask(started.one, "node2")
    failed(asked.one("libvirt.listener", "node2"), "listen_tcp = 0 in libvirtd.conf; libvirtd "
           "runs with --listen", "Set listen_tcp = 1")
    failed(asked.one("route.libvirt"), "refused", "libvirt.listener")
    assert asked.one("libvirt.auth-tcp", "node2")["State"] == "ok"
    assert asked.status == 4

    replace("/etc/libvirt/libvirtd.conf", two, "listen_tcp = 0", "listen_tcp = 1")
    replace("/etc/libvirt/libvirtd.conf", two, two.address, "127.0.0.1")
    restart_libvirt(started, two)
    asked = ask(started.one, "node2")
    failed(asked.one("libvirt.listener", "node2"), "on 127.0.0.1 only", "listen_addr")


def test_names_and_addresses_that_lead_elsewhere(fleet: Fleet) -> None:
    fleet.start(libvirt={"live_migration_inbound_addr": None})
    one, two = fleet.one, fleet.two
    hosts = (one.root / "etc/hosts").read_text()
    one.write("/etc/hosts", "127.0.1.1 node2\n")
    asked = ask(one, "node2")
    failed(asked.one("route.name"), "which is this host itself", "/etc/hosts")
    failed(asked.one("route.data-name"), "this host itself", "live_migration_inbound_addr")
    failed(asked.one("libvirt.inbound-address", "node2"), "not one that others can reach",
           "Correct the name node2")

    one.write("/etc/hosts", f"{one.address} node2\n")
    failed(ask(one, "node2").one("libvirt.inbound-address", "node2"),
           f"{one.address} is not an address of this host", "Correct the name node2")

    one.write("/etc/hosts", "127.0.0.1 localhost\n")
    asked = ask(one, "node2")
    failed(asked.one("route.name"), "node2 does not resolve", "DNS")
    failed(asked.one("route.libvirt"), "node2", "DNS or /etc/hosts")

    one.write("/etc/hosts", hosts)
    two.run(["hostname", "localhost"])
    restart_libvirt(fleet, two)
    failed(ask(one, "node2").one("libvirt.own-name", "node2"), "localhost", "hostnamectl")
    two.run(["hostname", "node2"])


def test_data_ports_that_are_closed_or_taken(started: Fleet) -> None:
    two = started.two
    replace("/etc/libvirt/qemu.conf", two, "namespaces = []",
            "namespaces = []\nmigration_port_min = 49300\nmigration_port_max = 49301")
    taken = [two.popen(["python3", "-c", "import socket, time\ns = socket.socket()\n"
                        f"s.bind(('', {port}))\ns.listen()\nprint(flush=True)\n"
                        "time.sleep(60)"], stdout=subprocess.PIPE) for port in (49300, 49301)]
    try:
        for one in taken:
            assert one.stdout and one.stdout.readline()
        failed(ask(started.one, "node2").one("route.data-port"), "opened no port of 49300-49301",
               "migration_port_max", "unknown")
    finally:
        for one in taken:
            one.kill()
            one.wait()
    row = ask(started.one, "node2").one("route.data-port")
    assert row["State"] == "ok" and "port 49301" in row["Found"] and "49300-49301" in row["Found"]


def test_a_guest_whose_host_is_bound_to_it(started: Fleet) -> None:
    guest = started.lab.define_guest(started.one, start=False)
    xml = started.one.virsh("dumpxml", guest.uuid)
    local = guest.directory(started.one) / "disk.local"
    local.write_bytes(bytes(1 << 20))
    config = guest.directory(started.one) / "disk.config"
    config.write_bytes(bytes(1 << 20))
    started.one.run(["ip", "link", "add", "brtest", "type", "bridge"])
    started.one.run(["ip", "link", "set", "brtest", "up"])
    inside = f"/var/lib/nova/instances/{guest.uuid}"
    started.one.virsh("define", "/dev/stdin", input=xml.replace(
        "<serial", "<interface type='bridge'><source bridge='brtest'/><model type='virtio'/>"
        f"</interface><disk type='file' device='disk'><source file='{inside}/disk.local'/>"
        "<target dev='vdb' bus='virtio'/></disk><disk type='file' device='cdrom'>"
        f"<source file='{inside}/disk.config'/><target dev='sda' bus='sata'/><readonly/></disk>"
        "<disk type='file' device='cdrom'><source file='/run/lab-medium.iso'/>"
        "<target dev='sdb' bus='sata'/><readonly/></disk><serial", 1))
    started.one.write("/run/lab-medium.iso", bytes(1 << 20))
    started.one.virsh("start", guest.uuid)
    asked = ask(started.one, "node2", "--instance", guest.uuid)
    told = {row["Found"].split(" ")[0]: row for row in asked.rows["guest.disks"]}
    failed(told["vdb"], "disk.local", "Move it to RBD")
    assert told["sda"]["State"] == "ok" and "takes it along" in told["sda"]["Found"]
    failed(asked.one("guest.interfaces"), "brtest is not here", "Make the bridge brtest")
    failed(asked.one("guest.local-files"), "/run/lab-medium.iso", "eject the medium")
    started.two.run(["ip", "link", "add", "brtest", "type", "bridge"])
    started.two.write("/run/lab-medium.iso", b"")
    asked = ask(started.one, "node2", "--instance", guest.uuid)
    assert asked.not_ok.keys() == {*OPEN_DOOR, "guest.disks"}
    for host in (started.one, started.two):
        host.run(["ip", "link", "del", "brtest"])


def test_a_guest_that_is_busy_or_there_already(started: Fleet) -> None:
    guest = started.lab.define_guest(started.one)
    started.two.virsh("define", "/dev/stdin", input=started.one.virsh(
        "dumpxml", "--inactive", guest.uuid))
    numbers = started.one.pids()
    qemu = numbers[guest.qemu_pid(started.one)]
    os.kill(qemu, signal.SIGSTOP)
    holder = started.one.popen(["virsh", "-c", "qemu:///system", "qemu-monitor-command", "--hmp",
                                guest.uuid, "info status"], stdout=subprocess.DEVNULL)
    try:
        time.sleep(1)
        asked = ask(started.one, "node2", "--instance", guest.uuid)
    finally:
        os.kill(qemu, signal.SIGCONT)
        holder.wait(20)
    failed(asked.one("guest.job"), "holds its state change lock for", "Ask again", "warning")
    failed(asked.one("guest.place"), "has the guest already", "virsh undefine")


def test_a_console_address_that_is_not_there(fleet: Fleet) -> None:
    fleet.start()
    conf = (fleet.two.root / "etc/nova/nova.conf").read_text()
    fleet.two.write("/etc/nova/nova.conf", f"{conf}\n[vnc]\nserver_listen = 192.0.2.7\n")
    fleet.workers["node2"].stop()
    fleet.restart(fleet.two)
    failed(ask(fleet.one, "node2").one("graphics.listen", "node2"),
           "192.0.2.7 is not an address of this host", "[vnc] server_listen")


@pytest.mark.parametrize(("words", "status", "sentence"), [
    (("node1",), 1, "source and destination are the same host"),
    (("node2", "--source", "node9"), 1, "no worker was ever started there"),
    (("no/host",), 1, "no/host"),
    (("node2", "--instance", "11111111-1111-1111-1111-111111111111"), 1,
     "libvirt on node1 has no such guest: ask the host that has it, with --source"),
])
def test_what_cannot_be_asked_is_one_sentence(started: Fleet, words: tuple[str, ...],
                                              status: int, sentence: str) -> None:
    done = run(started.one, *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert sentence in done.stderr and done.stderr.count("\n") == 1


def test_a_destination_without_a_worker_is_a_row(started: Fleet) -> None:
    asked = ask(started.one, "node9")
    failed(asked.one("worker.peer"), "node9", "Start rbd-worker on node9")
    assert asked.status == 4


def test_all_hosts_are_asked_at_once_and_each_tries_the_next(started: Fleet) -> None:
    done = run(started.one, "--all", "-f", "json")
    assert (done.returncode, done.stderr) == (3, "")
    found = {(r["Source"], r["Destination"]): r for r in json.loads(done.stdout)}
    assert found.keys() == {("node1", "node2"), ("node2", "node1")}
    assert {(r["State"], r["Tried"], r["Checks"]) for r in found.values()} == {
        ("warning", "true", "libvirt.auth-tcp")}
    (started.one.root / "etc/hosts").write_text("")
    shown = run(started.two, "--all").stdout
    assert "node1" in shown and "libvirt.auth-tcp" in shown
