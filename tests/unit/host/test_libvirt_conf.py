# SPDX-License-Identifier: Apache-2.0
"""libvirt's own files and the kernel's tables, read as libvirt and the kernel write them."""

import contextlib
import pathlib
import socket

import pytest

from rbd_worker.host import libvirt_conf
from rbd_worker.host.libvirt_conf import Listener

#: From a machine with IPv4 and IPv6: two listeners, an established connection, a listener.
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0B4E12C6:407D 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:4082 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 0B4E12C6:C000 0C4E12C6:8B2A 01 00000000:00000000 00:00000000 00000000     0        0 3 1
"""
TCP6 = """\
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 0 0 0 0 0
   1: B80D0120000000000000000001000000:407D 00000000000000000000000000000000:0000 0A 0 0 0 0 0
"""


@pytest.mark.parametrize(("line", "found"), [
    ("listen_tcp = 1", {"listen_tcp": "1"}),
    ('  auth_tcp="none"   # for the lab', {"auth_tcp": "none"}),
    ("tcp_port = '16510'", {"tcp_port": "16510"}),
    ('migration_address = ""', {"migration_address": ""}),
    ("#listen_tls = 0", {}),
    ('cgroup_controllers = [ "cpu", "devices" ]', {}),
    ("listen_tcp = 1\nlisten_tcp = 0", {"listen_tcp": "0"}),
])
def test_plain_settings_are_read_and_the_last_one_counts(line: str,
                                                         found: dict[str, str]) -> None:
    assert libvirt_conf.settings(line) == found


def test_a_file_that_is_missing_is_not_one_that_may_not_be_read(tmp_path: pathlib.Path) -> None:
    assert libvirt_conf.read("qemu.conf", tmp_path) == {}
    (tmp_path / "qemu.conf").mkdir()  # cannot be read as a file, by root neither
    assert libvirt_conf.read("qemu.conf", tmp_path) is None


@pytest.mark.parametrize(("settings", "ports"), [
    ({}, range(49152, 49216)), (None, range(49152, 49216)),
    ({"migration_port_min": "49300"}, range(49300, 49216)),
    ({"migration_port_min": "50000", "migration_port_max": "50009"}, range(50000, 50010)),
    ({"migration_port_max": "many"}, range(49152, 49216)),
])
def test_the_data_ports_are_those_of_qemu_conf(settings: dict[str, str] | None,
                                               ports: range) -> None:
    assert libvirt_conf.data_ports(settings) == ports


def test_only_sockets_that_listen_are_told_with_their_addresses() -> None:
    assert libvirt_conf.listeners(TCP, TCP6) == {
        Listener("198.18.78.11", 16509), Listener("127.0.0.1", 16514), Listener("::", 22),
        Listener("2001:db8::1", 16509)}


def test_a_socket_of_this_process_is_among_those_that_listen_now() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as held:
        assert Listener("127.0.0.1", held.getsockname()[1]) in libvirt_conf.listening_now()


def test_a_daemon_is_found_by_its_program_wherever_it_is(tmp_path: pathlib.Path) -> None:
    for number, argv in (("7", b"/usr/bin/less\0libvirtd\0"),
                         ("8", b"/usr/sbin/libvirtd\0--listen\0"), ("9", b"")):
        (tmp_path / number).mkdir()
        (tmp_path / number / "cmdline").write_bytes(argv)
    assert libvirt_conf.command_line("libvirtd", tmp_path) == ["--listen"]
    assert libvirt_conf.command_line("virtproxyd", tmp_path) is None


@pytest.mark.parametrize(("address", "own"), [
    ("127.0.0.1", True), ("0.0.0.0", True), ("192.0.2.1", False), ("2001:db8::1", False)])
def test_an_address_is_own_if_it_can_be_listened_on(address: str, own: bool) -> None:
    assert libvirt_conf.is_own_address(address) is own
