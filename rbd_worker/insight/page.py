# SPDX-License-Identifier: Apache-2.0
"""The small HTTP server: ``/metrics`` for Prometheus and ``/healthz`` for whoever asks.

Threads of its own; whoever holds a connection open is cut off after some
seconds, and only so many are heard at a time.  It reads and never changes
anything, and tells nothing of instances, users or secrets.
"""

import http.server
import json
import logging
import socket
import socketserver
import threading
import typing as ty

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

LOG = logging.getLogger(__name__)

#: Seconds for one line of a request, and for whoever keeps a connection open.
_PATIENCE = 5.0
MAX_ASKERS = 8


class Health(ty.NamedTuple):
    """:ivar ailment: what only a new start can cure, as systemd's watchdog sees it; or None."""

    ailment: str | None
    hearing: str


class Page:
    """Answers from ``start`` to ``stop``.

    :param listen: address and port; port 0 takes a free one.
    """

    def __init__(self, listen: tuple[str, int], registry: CollectorRegistry,
                 health: ty.Callable[[], Health]) -> None:
        self._listen = listen
        self._registry = registry
        self._health = health
        self._server: http.server.ThreadingHTTPServer | None = None

    @property
    def port(self) -> int | None:
        """Where it answers; None where it does not."""
        return self._server.server_port if self._server is not None else None

    def start(self) -> None:
        """Listen; where that cannot be, the worker goes on without metrics."""
        try:
            self._server = self._made()
        except OSError as e:
            LOG.warning("%s port %d: %s; there are no metrics and no /healthz. Give another "
                        "address in [rbd_worker] metrics_listen and restart",
                        *self._listen, e.strerror or e)
            return
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def stop(self) -> None:
        """Safe to repeat and without a start."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def _made(self) -> http.server.ThreadingHTTPServer:
        family = socket.getaddrinfo(*self._listen, type=socket.SOCK_STREAM)[0][0]
        own = type("Server", (_Server,), {"address_family": family})
        handler = type("Handler", (_Handler,), {
            "registry": self._registry, "health": staticmethod(self._health)})
        return ty.cast(http.server.ThreadingHTTPServer, own(self._listen, handler))


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    #: server_close would wait for whoever still holds a connection
    block_on_close = False

    def __init__(self, *arguments: ty.Any) -> None:
        self._askers = threading.BoundedSemaphore(MAX_ASKERS)
        super().__init__(*arguments)

    def server_bind(self) -> None:
        """Without HTTPServer's look-up of this host's name, which may take a resolver's time."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: ty.Any, client_address: ty.Any) -> None:
        if not self._askers.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: ty.Any, client_address: ty.Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._askers.release()

    def handle_error(self, request: ty.Any, client_address: ty.Any) -> None:
        LOG.debug("a request for metrics was not answered", exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = _PATIENCE
    server_version, sys_version = "rbd-worker", ""
    registry: CollectorRegistry
    health: ty.Callable[[], Health]

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/metrics":
                encode, kind = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, kind, encode(self.registry))
            case "/healthz":
                self._answer_health()
            case _:
                self._answer(404, "text/plain", b"there are /metrics and /healthz\n")

    def _answer_health(self) -> None:
        found = self.health()
        told = {"state": "ailing" if found.ailment else "well", "hearing": found.hearing}
        if found.ailment:
            told["ailment"] = found.ailment
        self._answer(503 if found.ailment else 200, "application/json",
                     json.dumps(told).encode() + b"\n")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: ty.Any) -> None:
        LOG.debug("metrics: %s", format % arguments)
