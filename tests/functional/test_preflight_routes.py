# SPDX-License-Identifier: Apache-2.0
"""The encrypted ways between two hosts, each broken on real parts and seen to fail."""

import collections.abc
import pathlib
import subprocess

import pytest

from devstack import lab as labs
from devstack.lab import processes
from tests.functional.fleet import Fleet
from tests.functional.preflights import ask, reconfigured, says

SSH = "/root/.ssh"


class Authority:
    """A CA whose certificates libvirt's ends show each other."""

    def __init__(self, at: pathlib.Path) -> None:
        self._at = at
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key",
                      "-out", "ca.pem", "-subj", "/CN=test authority", "-days", "400")

    def certify(self, host: labs.Host, name: str) -> None:
        """Give the host a certificate for ``name``, good as server's and as client's."""
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem",
                      "-out", "request.pem", "-subj", f"/CN={host.name}")
        (self._at / "names").write_text(f"subjectAltName={name}\n")
        self._openssl("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key",
                      "-CAcreateserial", "-out", "cert.pem", "-days", "400", "-extfile", "names")
        host.write("/etc/pki/CA/cacert.pem", (self._at / "ca.pem").read_bytes())
        for end in ("server", "client"):
            host.write(f"/etc/pki/libvirt/{end}cert.pem", (self._at / "cert.pem").read_bytes())
            host.write(f"/etc/pki/libvirt/private/{end}key.pem",
                       (self._at / "key.pem").read_bytes(), 0o600)

    def _openssl(self, *argv: str) -> None:
        subprocess.run(["openssl", *argv], cwd=self._at, check=True, capture_output=True)


def test_tls_needs_a_listener_and_a_certificate_with_the_name(fleet: Fleet,
                                                              tmp_path: pathlib.Path) -> None:
    one, two = fleet.one, fleet.two
    fleet.start(libvirt={"live_migration_scheme": "tls"})
    authority = Authority(tmp_path)
    for host in (one, two):
        authority.certify(host, f"DNS:{host.name},IP:{host.address}")
    closed = ask(one, "node2")
    says(closed.one("libvirt.listener", "node2"), "failed",
         "nothing listens on TCP port 16514 (tls): listen_tls = 0", "Set listen_tls = 1")
    says(closed.one("route.libvirt"), "failed", "refused", "libvirt.listener")
    assert closed.one("route.certificate")["State"] == "unknown"

    with reconfigured(fleet, two, "listen_tls = 0", "listen_tls = 1"):
        asked = ask(one, "node2")
        assert asked.one("libvirt.listener", "node2")["State"] == "ok"
        assert asked.one("route.libvirt")["State"] == "ok", asked.one("route.libvirt")
        says(asked.one("route.certificate"), "ok", f"names {two.address} and is valid until", "")
        authority.certify(two, "DNS:another.example")
        fleet.lab.libvirt(two).restart()
        asked = ask(one, "node2")
        says(asked.one("route.certificate"), "failed", two.address, "subjectAltName")
        says(asked.one("route.libvirt"), "failed", "certificate", "route.certificate")
        # a CA that this host does not know
        other = tmp_path / "other"
        other.mkdir()
        Authority(other).certify(one, f"IP:{one.address}")
        says(ask(one, "node2").one("route.certificate"), "failed", "issuer", "this host's CA")


@pytest.fixture
def reachable(fleet: Fleet) -> collections.abc.Iterator[Fleet]:
    """The lab without sshd at first; where a test starts one it is ended afterwards."""
    _end_sshd(fleet)
    yield fleet
    _end_sshd(fleet)


def _end_sshd(fleet: Fleet) -> None:
    """Found by its title, which it writes over the mark of the lab's services."""
    for host in (fleet.one, fleet.two):
        host.kill9(*(inner for inner, outer in host.pids().items()
                     if "/run/lab/sshd_config" in " ".join(processes.command_line(outer))))


def test_ssh_needs_a_server_its_key_and_ours(reachable: Fleet) -> None:
    fleet, one, two = reachable, reachable.one, reachable.two
    fleet.start(libvirt={"live_migration_scheme": "ssh"})
    closed = ask(one, "node2")
    says(closed.one("libvirt.listener", "node2"), "failed",
         "nothing listens on TCP port 22 (ssh): sshd does not run", "Start sshd")
    assert closed.one("route.libvirt")["State"] == "failed"

    fleet.lab.enable_ssh()
    row = ask(one, "node2").one("route.libvirt")
    assert row["State"] == "ok", row
    authorized = (two.root / "root/.ssh/authorized_keys").read_text()
    two.write(f"{SSH}/authorized_keys", "", 0o600)
    says(ask(one, "node2").one("route.libvirt"), "failed", "ermission denied", "authorized_keys")
    two.write(f"{SSH}/authorized_keys", authorized, 0o600)
    one.write(f"{SSH}/config", "Host *\n  StrictHostKeyChecking yes\n"
              f"  UserKnownHostsFile {SSH}/known_hosts\n", 0o600)
    says(ask(one, "node2").one("route.libvirt"), "failed", "Host key verification failed",
         "known_hosts")
