# SPDX-License-Identifier: Apache-2.0
"""The lab itself: that it comes up, goes without a trace, and survives being killed."""

import collections.abc
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import kombu
import pytest

from devstack import lab as labs
from devstack.lab import errors, processes
from devstack.lab.lab import Lab

CHECKOUT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def root(lab_parts: None, tmp_path: pathlib.Path) -> collections.abc.Iterator[pathlib.Path]:
    """A directory for a lab of the test's own, beside the session's."""
    yield tmp_path / "own"
    labs.down(tmp_path / "own")


class Traces:
    """Everything by which a lab could be noticed after it has gone."""

    def __init__(self, lab: Lab) -> None:
        self._lay = lab.lay
        self._namespaces = {
            os.readlink(f"/proc/{host.pid}/ns/{kind}")
            for host in lab.hosts.values() for kind in ("mnt", "net", "pid", "uts")}

    def left(self) -> list[str]:
        found = []
        for pid in processes.all_pids():
            for kind in ("mnt", "net", "pid", "uts"):
                try:
                    if os.readlink(f"/proc/{pid}/ns/{kind}") in self._namespaces:
                        found.append(f"process {pid} {processes.command_line(pid)}")
                except OSError:
                    pass
        names = [self._lay.bridge, *(self._lay.link(name) for name in (
            "rbdw-ctl", "node1", "node2"))]
        found += [name for name in names if pathlib.Path("/sys/class/net", name).exists()]
        found += [line for line in pathlib.Path("/proc/mounts").read_text().splitlines()
                  if str(self._lay.root) in line]
        found += [str(self._lay.root)] if self._lay.root.exists() else []
        return found


def command_line_up(root: pathlib.Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "devstack.lab", "up"], cwd=CHECKOUT, text=True,
        stdout=subprocess.PIPE, env={**os.environ, "RBD_WORKER_LAB": str(root)})


def test_a_lab_goes_without_a_trace_twice_in_a_row(root: pathlib.Path) -> None:
    for _ in range(2):
        lab = labs.up(root=root)
        guest = lab.define_guest(lab.host("node1"))
        assert guest.running_on() == ["node1"]
        traces = Traces(lab)
        assert len(traces.left()) > 10
        lab.down()
        assert traces.left() == []
    assert labs.down(root) is False


@pytest.mark.parametrize("moment", ["bridge", "first part"])
def test_a_lab_that_was_killed_while_it_came_up_is_replaced(
        root: pathlib.Path, moment: str) -> None:
    while True:
        process = command_line_up(root)
        assert process.stdout
        if moment == "bridge":
            processes.wait_until((root / "lab.json").exists, 20, "the first file")
        else:
            process.stdout.readline()  # hosts and network
            assert re.search("RabbitMQ|Ceph|libvirtd", process.stdout.readline())
        process.kill()
        process.wait()
        process.stdout.close()
        if not (root / "ready").exists():
            break
        labs.down(root)  # it was up before the kill came
    with pytest.raises(labs.NotUp):
        labs.attach(root)
    lab = labs.up(root=root)
    assert labs.faults(lab) == []
    traces = Traces(lab)
    lab.down()
    assert traces.left() == []


def test_down_cleans_up_after_a_lab_that_was_killed_while_it_came_up(
        root: pathlib.Path) -> None:
    process = command_line_up(root)
    assert process.stdout
    assert "hosts and network" in process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    assert labs.down(root) is True
    assert not root.exists()
    assert labs.down(root) is False


def test_a_broken_lab_is_noticed_and_replaced(root: pathlib.Path) -> None:
    lab = labs.up(root=root)
    lab.libvirt(lab.host("node2")).kill9()
    assert labs.faults(lab) == ["libvirtd on node2 does not answer"]
    os.kill(lab.host("node1").pid, signal.SIGKILL)
    processes.wait_until(lambda: not lab.host("node1").is_up(), 10, "the end of node1")
    with pytest.raises(labs.NotUp, match="node1"):
        labs.attach(root)
    said: list[str] = []
    again = labs.up(on_progress=said.append, root=root)
    assert "removing the old lab" in said[0]
    assert labs.faults(again) == []
    said.clear()
    assert labs.up(on_progress=said.append, root=root).state == again.state
    assert said == [f"the lab in {root} is up already"]


def test_a_directory_that_is_no_lab_is_not_removed(root: pathlib.Path) -> None:
    root.mkdir()
    (root / "precious").write_text("kept")
    with pytest.raises(labs.LabError, match="does not look like a lab"):
        labs.up(root=root)
    with pytest.raises(labs.LabError, match="does not look like a lab"):
        labs.down(root)
    assert (root / "precious").read_text() == "kept"
    (root / "precious").unlink()


def test_without_root_one_sentence_says_what_is_missing(lab_parts: None) -> None:
    done = subprocess.run(
        ["setpriv", "--reuid", "65534", "--clear-groups", "/usr/bin/python3", "-m",
         "devstack.lab", "up"], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("lab: the lab needs root")
    assert len(done.stderr.splitlines()) == 1


def test_a_process_that_only_took_over_a_number_is_not_killed() -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        processes.kill([bystander.pid], lambda argv: "init.py" in argv)
        assert bystander.poll() is None
        bystander.kill()


@pytest.mark.parametrize("is_ours", [True, False])
def test_hosts_are_known_by_their_lab_whichever_checkout_started_them(
        tmp_path: pathlib.Path, is_ours: bool) -> None:
    root = tmp_path / "lab"
    argv = [sys.executable, "-c", "import time; time.sleep(600)",
            "/elsewhere/devstack/lab/init.py",
            str((root if is_ours else tmp_path / "another") / "node1")]
    with subprocess.Popen(argv) as started:
        assert labs.down(root) is is_ours
        if is_ours:
            assert started.wait(processes.patience(10)) == -signal.SIGKILL
        else:
            assert started.poll() is None
            started.kill()


def test_waiting_in_vain_ends_in_time_and_shows_the_log(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "log"
    log.write_text("first\n" * 50 + "no space left\n")
    began = time.monotonic()
    with pytest.raises(errors.TookTooLong, match="no space left") as caught:
        processes.wait_until(lambda: False, 0.3, "a miracle", log)
    assert 0.3 <= time.monotonic() - began < processes.patience(20)
    assert "s in vain for a miracle" in str(caught.value)
    assert str(caught.value).count("first") < 20


def test_a_part_that_cannot_start_is_reported_at_once_with_its_log(lab: Lab) -> None:
    compute = lab.libvirt(lab.host("node1"))
    compute.stop()
    good = (compute.host.root / "etc/libvirt/libvirtd.conf").read_text()
    compute.host.write("/etc/libvirt/libvirtd.conf", "listen_tcp = [\n")
    try:
        began = time.monotonic()
        with pytest.raises(errors.TookTooLong, match=r"libvirtd\.conf"):
            compute.start()
        assert time.monotonic() - began < processes.patience(10)
    finally:
        compute.host.write("/etc/libvirt/libvirtd.conf", good)
        compute.start()


def test_a_guest_moves_there_and_back_with_its_disk(
        lab: Lab, node1: labs.Host, node2: labs.Host) -> None:
    guest = lab.define_guest(node1, talkative=True)
    guest.wait_for_console(node1)
    assert guest.watchers() == [node1.address]
    with pytest.raises(labs.CommandFailed, match=r"console\.log': No such file"):
        guest.migrate(node1, node2)
    guest.directory(node2).mkdir()
    guest.migrate(node1, node2)
    assert guest.running_on() == ["node2"]
    assert guest.state(node1) is None
    assert guest.watchers() == [node2.address]
    guest.wait_for_console(node2)
    guest.migrate(node2, node1)
    assert guest.running_on() == ["node1"]
    assert guest.watchers() == [node1.address]
    guest.destroy()
    assert guest.image not in lab.images()
    assert not guest.directory(node1).exists()


def test_a_busy_guest_does_not_converge_over_a_narrow_link(
        lab: Lab, node1: labs.Host, node2: labs.Host) -> None:
    guest = lab.define_guest(node1, busy=True)
    guest.wait_for_console(node1)
    guest.directory(node2).mkdir()
    move = node1.popen(["virsh", "-q", "migrate", "--live", "--p2p", "--bandwidth", "16",
                        guest.uuid, node2.libvirt_uri],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # what changes all the time is sent again and again
    processes.wait_until(lambda: int(_job(node1, guest).get("Iteration", 0)) > 3, 40,
                         "another round", seen=lambda: _job(node1, guest))
    assert move.poll() is None
    assert guest.running_on() == ["node1"]
    node1.virsh("domjobabort", guest.uuid)
    assert move.wait(processes.patience(20)) != 0
    assert guest.running_on() == ["node1"]


def _job(host: labs.Host, guest: labs.Guest) -> dict[str, str]:
    lines = host.virsh("domjobinfo", guest.uuid).splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_hosts_are_apart_but_share_what_is_not_private(
        lab: Lab, node1: labs.Host, node2: labs.Host, tmp_path: pathlib.Path) -> None:
    node1.write("/etc/nova/nova.conf", "one")
    assert node1.run(["cat", "/etc/nova/nova.conf"]).stdout == "one"
    assert node2.run(["test", "-e", "/etc/nova/nova.conf"], check=False).returncode == 1
    assert node1.run(["hostname"]).stdout == "node1\n"
    assert node1.run(["id", "-un", "nova"]).stdout == "nova\n"
    assert str(node1.pid) not in node1.run(["ls", "/proc"]).stdout.split()
    (tmp_path / "shared").write_text("seen")
    assert node1.run(["cat", str(tmp_path / "shared")]).stdout == "seen"
    first, second = (host.run(["virsh", "capabilities"]).stdout.split("<uuid>")[1][:36]
                     for host in (node1, node2))
    assert first != second


def test_a_restart_of_libvirtd_leaves_guests_running(lab: Lab, node1: labs.Host) -> None:
    guest = lab.define_guest(node1)
    qemu = guest.qemu_pid(node1)
    lab.libvirt(node1).restart()
    assert guest.running_on() == ["node1"]
    lab.libvirt(node1).kill9()
    lab.libvirt(node1).start()
    assert guest.qemu_pid(node1) == qemu


def test_a_cut_loses_everything_between_two_hosts_and_nothing_else(
        lab: Lab, node1: labs.Host, node2: labs.Host) -> None:
    def connects(host: labs.Host, address: str, port: int) -> bool:
        return host.run(["timeout", "1", "bash", "-c", f"</dev/tcp/{address}/{port}"],
                        check=False).returncode == 0

    def reaches(host: labs.Host, address: str, port: int) -> None:
        processes.wait_until(lambda: connects(host, address, port), 15,
                             f"a connection from {host.name} to {address} port {port}")

    reaches(node1, node2.address, 16509)
    lab.cut(node1, node2)
    assert not connects(node1, node2.address, 16509)
    assert not connects(node2, node1.address, 16509)
    reaches(node1, lab.controller.address, 5672)
    lab.heal()
    reaches(node1, node2.address, 16509)
    node1.plug(connected=False)
    assert not connects(node1, lab.controller.address, 5672)
    lab.heal()
    reaches(node1, lab.controller.address, 5672)


def test_a_paused_ceph_answers_nobody_until_it_is_resumed(lab: Lab) -> None:
    lab.ceph.pause()
    with pytest.raises(errors.TookTooLong):
        lab.ceph.rbd("ls", "vms", timeout=1.5)
    lab.ceph.resume()
    assert lab.images() == []


def test_durable_queues_survive_a_restart_of_the_broker_and_a_reset_drops_them(
        lab: Lab) -> None:
    url = lab.broker_url.replace("rabbit:", "amqp:")

    def queue_stands() -> bool:
        with kombu.Connection(url, connect_timeout=5) as connection:
            try:
                connection.default_channel.queue_declare("kept", passive=True)
            except connection.channel_errors:
                return False
            return True

    with kombu.Connection(url) as connection:
        exchange = kombu.Exchange("nova", "topic", durable=True)
        kombu.Queue("kept", exchange, "#", durable=True)(connection).declare()
    lab.broker.restart()
    assert queue_stands()
    lab.broker.kill9()
    lab.broker.start()
    assert queue_stands()
    lab.broker.reset()
    assert not queue_stands()
    assert '"nova"' not in lab.broker.evaluate('rabbit_exchange:list(<<"rbdw">>)')


def test_a_command_that_takes_too_long_is_ended_inside_too(lab: Lab, node1: labs.Host) -> None:
    with pytest.raises(errors.TookTooLong):
        node1.run(["sleep", "77"], timeout=0.5)
    processes.wait_until(
        lambda: ["sleep", "77"] not in map(processes.command_line, node1.pids().values()),
        5, "the end of the command inside the host")


@pytest.mark.skipif(not (os.environ.get("CI") or pathlib.Path("/usr/sbin/sshd").exists()),
                    reason="openssh-server is not installed")
def test_hosts_reach_each_other_by_ssh(lab: Lab, node1: labs.Host) -> None:
    lab.enable_ssh()
    assert node1.run(["ssh", "node2", "hostname"]).stdout == "node2\n"
