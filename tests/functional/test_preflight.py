# SPDX-License-Identifier: Apache-2.0
"""The way between two hosts, each row broken on real parts and seen to fail."""

import collections.abc
import contextlib
import json
import subprocess

import oslo_messaging
import pytest

import rpcapi
from tests.functional.fleet import Fleet
from tests.functional.preflights import (
    OPEN_DOOR,
    ask,
    changed,
    edited,
    reconfigured,
    run,
    says,
    with_hook,
)
from tests.functional.test_rpcapi import transport_to

HOSTS = "/etc/hosts"
#: Holds a port until it is killed.
HOLD = """
import socket, sys, time
held = socket.socket()
held.bind(("", int(sys.argv[1])))
held.listen()
print(flush=True)
time.sleep(300)
"""


def test_a_sound_pair_is_told_as_such_but_for_its_open_door(started: Fleet) -> None:
    guest = started.lab.define_guest(started.one)
    with_hook(started, started.one, started.two)
    asked = ask(started.one, "node2", "--instance", guest.uuid)
    assert asked.not_ok.keys() == OPEN_DOOR, asked.not_ok
    for row in asked.rows["libvirt.auth-tcp"]:
        says(row, "warning", "198.18.", "Use TLS")
    assert asked.status == 3


def test_a_listener_is_diagnosed_where_it_is(started: Fleet) -> None:
    two = started.two
    with reconfigured(started, two, "listen_tcp = 1", "listen_tcp = 0"):
        asked = ask(started.one, "node2")
    says(asked.one("libvirt.listener", "node2"), "failed", "listen_tcp = 0 in libvirtd.conf; "
         "libvirtd runs with --listen", "Set listen_tcp = 1")
    says(asked.one("route.libvirt"), "failed", "refused", "libvirt.listener")
    assert asked.one("libvirt.auth-tcp", "node2")["State"] == "ok"
    assert asked.status == 4
    with reconfigured(started, two, two.address, "127.0.0.1"):
        asked = ask(started.one, "node2")
    says(asked.one("libvirt.listener", "node2"), "failed", "on 127.0.0.1 only", "listen_addr")


def test_names_and_addresses_that_lead_elsewhere(fleet: Fleet) -> None:
    fleet.start(libvirt={"live_migration_inbound_addr": None})
    one, two = fleet.one, fleet.two
    known = (one.root / "etc/hosts").read_text()
    assert f"{two.address} node2" in known
    with changed(one, HOSTS, known.replace(f"{two.address} node2", "127.0.1.1 node2")):
        asked = ask(one, "node2")
    says(asked.one("route.name"), "failed", "which is this host itself", "/etc/hosts")
    says(asked.one("route.data-name"), "failed", "this host itself",
         "live_migration_inbound_addr")
    says(asked.one("libvirt.inbound-address", "node2"), "failed", "not one that others can reach",
         "Correct the name node2")

    with changed(one, HOSTS, known.replace(f"{two.address} node2", f"{one.address} node2")):
        asked = ask(one, "node2")
    says(asked.one("libvirt.inbound-address", "node2"), "failed",
         f"{one.address} is not an address of this host", "Correct the name node2")

    with changed(one, HOSTS, known.replace(f"{two.address} node2", "")):
        asked = ask(one, "node2")
    says(asked.one("route.name"), "failed", "node2 does not resolve", "DNS")
    says(asked.one("route.libvirt"), "unknown", "not tried", "route.name")

    two.run(["hostname", "localhost"])
    try:
        asked = ask(one, "node2")
    finally:
        two.run(["hostname", "node2"])
    says(asked.one("libvirt.own-name", "node2"), "failed", "localhost", "hostnamectl")


def test_data_ports_that_are_taken(started: Fleet) -> None:
    two = started.two
    with (contextlib.ExitStack() as stack,
          edited(two, "/etc/libvirt/qemu.conf", "namespaces = []",
                 "namespaces = []\nmigration_port_min = 49300\nmigration_port_max = 49301")):
        for port in (49300, 49301):
            holding = stack.enter_context(two.popen(["python3", "-c", HOLD, str(port)],
                                                    stdout=subprocess.PIPE))
            stack.callback(holding.kill)
            assert holding.stdout and holding.stdout.readline()
        asked = ask(started.one, "node2")
        stack.close()
        freed = ask(started.one, "node2").one("route.data-port")
    says(asked.one("route.data-port"), "unknown", "opened no port of 49300-49301",
         "migration_port_max")
    assert freed["State"] == "ok" and "port 49301" in freed["Found"], freed


def test_data_ports_that_are_closed(started: Fleet) -> None:
    """libvirt's own port is open, those of the data are not, as with a forgotten firewall rule."""
    two = started.two
    with edited(two, "/etc/libvirt/qemu.conf", two.address, "127.0.0.1"):
        row = ask(started.one, "node2").one("route.data-port")
    says(row, "failed", f"{two.address} port 49215 cannot be reached", "49152-49215")


def test_a_console_address_that_is_not_there(fleet: Fleet) -> None:
    fleet.start()
    conf = (fleet.two.root / "etc/nova/nova.conf").read_text()
    fleet.two.write("/etc/nova/nova.conf", f"{conf}\n[vnc]\nserver_listen = 192.0.2.7\n")
    fleet.workers["node2"].stop()
    fleet.restart(fleet.two)
    says(ask(fleet.one, "node2").one("graphics.listen", "node2"), "failed",
         "192.0.2.7 is not an address of this host", "[vnc] server_listen")


def test_tunnelled_on_one_host_only_fails(fleet: Fleet) -> None:
    fleet.lab.write_config(fleet.one, libvirt={"live_migration_tunnelled": True})
    fleet.lab.write_config(fleet.two)
    for host in (fleet.one, fleet.two):
        fleet.restart(host)
    asked = ask(fleet.one, "node2")
    (row,) = asked.not_ok["libvirt.encryption"]
    says(row, "failed", "live_migration_tunnelled is True here, False on node2", "alike")
    assert "route.data-port" not in asked.rows


def test_what_cannot_be_asked_is_one_sentence(started: Fleet) -> None:
    nobody = "11111111-1111-1111-1111-111111111111"
    for words, sentence in (
            (("node1",), "source and destination are the same host"),
            (("node2", "--source", "node9"), "no worker was ever started there"),
            (("node2", "--instance", nobody),
             "libvirt on node1 has no such guest: ask the host that has it, with --source")):
        done = run(started.one, *words)
        assert (done.returncode, done.stdout) == (1, ""), words
        assert sentence in done.stderr and done.stderr.count("\n") == 1
    for words, sentence in ((("no/host",), "no/host"), ((), "it needs either DEST, or --all"),
                            (("node2", "--all"), "it needs either DEST, or --all")):
        done = run(started.one, *words)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert "usage: " in done.stderr and sentence in done.stderr.splitlines()[-1]


def test_a_destination_without_a_worker_is_a_row(started: Fleet) -> None:
    asked = ask(started.one, "node9")
    says(asked.one("worker.peer"), "failed", "node9", "Start rbd-worker on node9")
    assert asked.status == 4


class Older:
    """A worker from before preflight."""

    target = oslo_messaging.Target(version="1.0")


@pytest.fixture
def older(fleet: Fleet) -> collections.abc.Iterator[str]:
    """The name of a host whose worker speaks RPC 1.0 only."""
    transport = transport_to(fleet.lab.broker_url)
    target = oslo_messaging.Target(exchange=rpcapi.EXCHANGE, topic=rpcapi.TOPIC, server="node9")
    server = oslo_messaging.get_rpc_server(transport, target, [Older()])
    server.start()
    yield "node9"
    server.stop()
    server.wait()
    transport.cleanup()


def test_a_worker_of_an_older_version_is_told_as_such(started: Fleet, older: str) -> None:
    asked = ask(started.one, older)
    says(asked.one("worker.peer"), "failed", "node9 does not speak version 1.", "Upgrade")
    done = run(started.one, "node2", "--source", older)
    assert done.returncode == 1 and "node9 does not speak version 1." in done.stderr
    assert done.stderr.count("\n") == 1


def test_all_hosts_are_asked_at_once_and_each_tries_the_next(started: Fleet) -> None:
    with_hook(started, started.one, started.two)
    done = run(started.one, "--all", "-f", "json")
    assert (done.returncode, done.stderr) == (3, "")
    found = {(r["Source"], r["Destination"]): r for r in json.loads(done.stdout)}
    assert found.keys() == {("node1", "node2"), ("node2", "node1")}
    assert {(r["State"], r["Tried"], r["Checks"]) for r in found.values()} == {
        ("warning", "true", "libvirt.auth-tcp")}
    shown = run(started.two, "--all").stdout
    assert "From / to" in shown and "libvirt.auth-tcp" in shown
