# SPDX-License-Identifier: Apache-2.0
"""keystone and nova-api over HTTP on this machine, as much as Nova's record is read with."""

import http.server
import json
import threading
import typing as ty
import urllib.parse

from rbd_worker import conf

PASSWORD, TOKEN = "very-secret-password", "very-secret-token"
Json = dict[str, ty.Any]


class Api:
    """Both services on one port; its attributes say what it answers."""

    def __init__(self) -> None:
        self.servers: list[Json] = []
        self.migrations: list[Json] = []
        #: Servers in one page.
        self.page = 1000
        #: Status of every answer of nova-api's, 200 for what is right.
        self.status = 200
        #: What keystone answers.
        self.login_status = 201
        self.delay = 0.0
        self.asked: list[str] = []
        handler = type("Handler", (_Handler,), {"api": self})
        self._closing = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = False  # those are not waited for at the end
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """No thread and no connection is left for a later test."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def settings(self, timeout: float = 10.0, **changes: ty.Any) -> conf.NovaApiSettings:
        return conf.NovaApiSettings(
            timeout=timeout, origin="section [test] of nova.conf", region="one",
            interfaces=("internal", "public"), auth={
                "auth_url": f"{self.url}/identity/v3", "username": "nova", "password": PASSWORD,
                "user_domain_name": "Default", "project_name": "service",
                "project_domain_name": "Default", **changes})

    def add(self, uuid: str, host: str | None, vm_state: str = "active",
            task: str | None = None) -> None:
        self.servers.append({"id": uuid, "OS-EXT-SRV-ATTR:host": host,
                             "OS-EXT-STS:vm_state": vm_state, "OS-EXT-STS:task_state": task})

    def answer(self, method: str, path: str, query: dict[str, str]) -> tuple[int, Json]:
        if path.startswith("/identity"):
            return self._identity(path)
        self.asked.append(f"{path.removeprefix('/compute/v2.1')} {query.get('host', '')}".strip())
        self._closing.wait(self.delay)
        if path in ("/compute/v2.1", "/compute/v2.1/"):
            return 200, {"version": {"id": "v2.1", "status": "CURRENT", "version": "2.96",
                                     "min_version": "2.1", "links": [
                                         {"rel": "self", "href": f"{self.url}/compute/v2.1/"}]}}
        if self.status != 200:
            return self.status, {"error": {"message": "as the test wants it"}}
        return self._compute(path.removeprefix("/compute/v2.1"), query)

    def _identity(self, path: str) -> tuple[int, Json]:
        if not path.endswith("/auth/tokens"):
            return 200, {"version": {"id": "v3.14", "status": "stable", "links": [
                {"rel": "self", "href": f"{self.url}/identity/v3/"}]}}
        if self.login_status != 201:
            return self.login_status, {"error": {"message": "no", "code": self.login_status}}
        return 201, {"token": {
            "methods": ["password"], "expires_at": "2099-01-01T00:00:00.000000Z",
            "issued_at": "2026-01-01T00:00:00.000000Z", "user": {"id": "u", "name": "nova"},
            "catalog": [{"type": "compute", "name": "nova", "endpoints": [
                {"id": "e", "interface": "internal", "region": "one", "region_id": "one",
                 "url": f"{self.url}/compute/v2.1"}]}]}}

    def _compute(self, path: str, query: dict[str, str]) -> tuple[int, Json]:
        if path == "/os-migrations":
            return 200, {"migrations": [m for m in self.migrations
                                        if m["instance_uuid"] == query["instance_uuid"]]}
        if path != "/servers/detail":
            found = [s for s in self.servers if s["id"] == path.rpartition("/")[2]]
            return (200, {"server": found[0]}) if found else (404, {"itemNotFound": {}})
        assert query["all_tenants"] == "1"
        wanted = [s for s in self.servers if s.get("OS-EXT-SRV-ATTR:host") == query["host"]]
        ids = [s["id"] for s in wanted]
        begin = ids.index(query["marker"]) + 1 if "marker" in query else 0
        body: Json = {"servers": wanted[begin:begin + self.page]}
        if begin + self.page < len(wanted):
            body["servers_links"] = [{"rel": "next", "href": "..."}]
        return 200, body


class _Handler(http.server.BaseHTTPRequestHandler):
    api: Api

    def do_GET(self) -> None:
        self._reply("GET")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._reply("POST")

    def _reply(self, method: str) -> None:
        parts = urllib.parse.urlsplit(self.path)
        status, body = self.api.answer(method, parts.path, dict(
            urllib.parse.parse_qsl(parts.query)))
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Subject-Token", TOKEN)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: ty.Any) -> None:
        pass
