# SPDX-License-Identifier: Apache-2.0
"""A port in front of the broker that can speak TLS, fall silent and come back."""

import dataclasses
import pathlib
import select
import socket
import ssl
import subprocess
import threading

from rbd_worker.triggers import broker


@dataclasses.dataclass(frozen=True)
class Authority:
    """A CA and a certificate of it for ``localhost``."""

    ca: pathlib.Path
    certificate: pathlib.Path
    key: pathlib.Path


def make_authority(at_path: pathlib.Path) -> Authority:
    def openssl(*argv: str) -> None:
        subprocess.run(["openssl", *argv], cwd=at_path, check=True, capture_output=True)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
            "-subj", "/CN=test authority", "-days", "2")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "request.pem",
            "-subj", "/CN=localhost")
    (at_path / "names").write_text("subjectAltName=DNS:localhost")
    openssl("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", "certificate.pem", "-days", "2", "-extfile", "names")
    return Authority(at_path / "ca.pem", at_path / "certificate.pem", at_path / "key.pem")


class Relay:
    """A port in front of the broker, with TLS where an authority is given.

    :param held: bound to the port, where that has to be a certain one.
    """

    def __init__(self, to: broker.BrokerHost, authority: Authority | None = None,
                 held: socket.socket | None = None) -> None:
        self._to = (to.hostname, to.port)
        self._context = None
        if authority:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(authority.certificate, authority.key)
        self._listener = held or socket.create_server(("127.0.0.1", 0))
        self._listener.listen()
        self.port = int(self._listener.getsockname()[1])
        self._flows = threading.Event()
        self._flows.set()

    def freeze(self) -> None:
        """Connections stay open, and nothing passes."""
        self._flows.clear()

    def thaw(self) -> None:
        self._flows.set()

    def __enter__(self) -> "Relay":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                if self._context:
                    client = self._context.wrap_socket(client, server_side=True)
            except ssl.SSLError:
                continue
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._to) as server:
            other = {client: server, server: client}
            while True:
                ready = ([client] if isinstance(client, ssl.SSLSocket) and client.pending()
                         else select.select([client, server], [], [])[0])
                self._flows.wait()
                for side in ready:
                    try:
                        data = side.recv(65536)
                        other[side].sendall(data)
                    except OSError:
                        return
                    if not data:
                        return
