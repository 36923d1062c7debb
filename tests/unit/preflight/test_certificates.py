# SPDX-License-Identifier: Apache-2.0
"""A certificate is judged by its CA, its names and its end, over a real TLS connection."""

import collections.abc
import contextlib
import pathlib
import socket
import ssl
import subprocess
import threading

import pytest

from rbd_worker.preflight import certificates
from rbd_worker.preflight.bench import Say
from rpcapi.preflight import Row


class Authority:
    """A CA that signs for one name."""

    def __init__(self, at: pathlib.Path) -> None:
        self.at = at
        at.mkdir(exist_ok=True)
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key",
                      "-out", "ca.pem", "-subj", "/CN=test authority", "-days", "400")

    def certify(self, names: str, days: int) -> tuple[pathlib.Path, pathlib.Path]:
        """:returns: certificate and key."""
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem",
                      "-out", "request.pem", "-subj", "/CN=node2")
        (self.at / "names").write_text(f"subjectAltName={names}\n")
        self._openssl("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key",
                      "-CAcreateserial", "-out", "cert.pem", "-days", str(days),
                      "-extfile", "names")
        return self.at / "cert.pem", self.at / "key.pem"

    def _openssl(self, *argv: str) -> None:
        subprocess.run(["openssl", *argv], cwd=self.at, check=True, capture_output=True)


@contextlib.contextmanager
def server(certificate: pathlib.Path, key: pathlib.Path) -> collections.abc.Iterator[int]:
    """A port that shows the certificate to whoever comes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = listening.accept()
                plain.settimeout(10)
                with contextlib.suppress(OSError), context.wrap_socket(
                        plain, server_side=True) as secured:
                    secured.recv(1)
    threading.Thread(target=serve, daemon=True).start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def row(port: int, authority: pathlib.Path) -> Row:
    (found,) = certificates.rows("127.0.0.1", port, 10.0, Say("route.certificate", "node1"),
                                 str(authority))
    return found


@pytest.mark.parametrize(("names", "days", "state", "found"), [
    ("IP:127.0.0.1", 400, "ok", "names 127.0.0.1 and is valid until"),
    ("IP:127.0.0.1", 3, "warning", "ends in"),
    ("DNS:another.example", 400, "failed", "127.0.0.1"),
    ("IP:127.0.0.1", -1, "failed", "expired"),
])
def test_a_certificate_is_told_with_its_fault(authority: Authority, names: str, days: int,
                                              state: str, found: str) -> None:
    with server(*authority.certify(names, days)) as port:
        told = row(port, authority.at / "ca.pem")
    assert told.state == state and found in told.found
    assert bool(told.remedy) == (state != "ok")


def test_a_certificate_of_another_authority_fails(authority: Authority,
                                                  tmp_path: pathlib.Path) -> None:
    with server(*authority.certify("IP:127.0.0.1", 400)) as port:
        told = row(port, Authority(tmp_path / "other").at / "ca.pem")
    assert told.state == "failed" and "of this host's CA" in told.remedy


def test_a_host_without_the_authoritys_certificate_fails(tmp_path: pathlib.Path) -> None:
    told = row(1, tmp_path / "none.pem")
    assert told.state == "failed" and "none.pem" in told.remedy


def test_a_port_that_speaks_no_tls_is_not_known(authority: Authority) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as plain:
        port = int(plain.getsockname()[1])
        threading.Thread(target=_hang_up, args=(plain,), daemon=True).start()
        assert row(port, authority.at / "ca.pem").state == "unknown"


def _hang_up(listening: socket.socket) -> None:
    listening.accept()[0].close()
