# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for keystone, glance and neutron: just enough for an unmodified Nova.

``standins.py SETTINGS`` runs in Nova's environment, inside the controller.
Everybody is the same administrator, there are two images (and those that Nova
makes when a server is shelved) and no networks.
While the settings' fault file holds a regular expression, requests whose
``ADDRESS METHOD PATH`` it matches are answered with 503.
"""

import collections.abc
import dataclasses
import hashlib
import json
import pathlib
import re
import sys
import typing as ty
import uuid

PROJECT, USER = "a" * 32, "b" * 32
REGION = "one"
INTERFACES = ("public", "internal", "admin")
ROLES = ("admin", "service", "manager", "member", "reader")
TIME = "2026-01-01T00:00:00Z"

Json: ty.TypeAlias = dict[str, ty.Any]
Answer: ty.TypeAlias = tuple[str, Json]
OK, CREATED, CHOICES, NOT_FOUND = "200 OK", "201 Created", "300 Multiple Choices", "404 Not Found"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the gate tells this process, as JSON.

    :ivar services: type of service to its URL, for the catalogue.
    :ivar images: UUID to name, size, and the location of its snapshot in Ceph.
    """

    address: str
    port: int
    fault_file: str
    services: dict[str, str]
    images: dict[str, Json]


def catalogue(services: dict[str, str]) -> list[Json]:
    return [{"type": kind, "name": kind, "id": _identity(kind), "endpoints": [
        {"id": _identity(kind + face), "interface": face, "region": REGION,
         "region_id": REGION, "url": url} for face in INTERFACES]}
        for kind, url in services.items()]


def _identity(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def token(services: dict[str, str]) -> Json:
    domain = {"id": "default", "name": "Default"}
    return {"token": {
        "methods": ["password"], "audit_ids": ["gate"], "is_domain": False,
        "issued_at": "2026-01-01T00:00:00.000000Z", "expires_at": "2099-01-01T00:00:00.000000Z",
        "roles": [{"id": f"role-{name}", "name": name} for name in ROLES],
        "user": {"id": USER, "name": "admin", "domain": domain, "password_expires_at": None},
        "project": {"id": PROJECT, "name": "admin", "domain": domain},
        "catalog": catalogue(services)}}


def image(number: str, known: Json) -> Json:
    """An image whose data is a snapshot in the same Ceph: Nova clones it."""
    return {
        "id": number, "name": known["name"], "status": "active", "visibility": "public",
        "container_format": "bare", "disk_format": "raw", "size": known["size"],
        "virtual_size": known["size"], "min_disk": 0, "min_ram": 0, "owner": PROJECT,
        "protected": False, "tags": [], "checksum": _identity(number), "created_at": TIME,
        "updated_at": TIME, "os_hidden": False, "self": f"/v2/images/{number}",
        "file": f"/v2/images/{number}/file", "schema": "/v2/schemas/image",
        "direct_url": known["location"],
        "locations": [{"url": known["location"], "metadata": {}}]}


def image_schema() -> Json:
    texts = ("id", "name", "status", "visibility", "container_format", "disk_format",
             "checksum", "owner", "created_at", "updated_at", "file", "self", "schema",
             "direct_url", "os_hash_algo", "os_hash_value")
    return {"name": "image", "additionalProperties": {"type": "string"}, "properties": {
        "locations": {"type": "array"}, "tags": {"type": "array"},
        "size": {"type": ["null", "integer"]}, "virtual_size": {"type": ["null", "integer"]},
        "min_disk": {"type": "integer"}, "min_ram": {"type": "integer"},
        "protected": {"type": "boolean"}, "os_hidden": {"type": "boolean"},
        **{name: {"type": ["null", "string"]} for name in texts}}}


class StandIns:
    """A WSGI application: ``/identity``, ``/image`` and ``/network``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: dict[str, Json] = {}
        self._base = f"http://{settings.address}:{settings.port}"

    def __call__(self, environ: Json, start: ty.Callable[..., object],
                 ) -> collections.abc.Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        length = int(environ.get("CONTENT_LENGTH") or 0)
        sent = environ["wsgi.input"].read(length) if length else b""
        status, body = self._answer(environ["REMOTE_ADDR"], method, path, sent)
        print(method, path, environ.get("QUERY_STRING", ""), status, flush=True)
        data = json.dumps(body).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
        if path.endswith("/auth/tokens"):
            headers.append(("X-Subject-Token", "gate-token"))
        start(status, headers)
        return [data]

    def _answer(self, address: str, method: str, path: str, sent: bytes) -> Answer:
        if self._is_faulty(f"{address} {method} {path}"):
            return "503 Service Unavailable", {"NeutronError": {
                "type": "ServiceUnavailable", "message": "asked for by the gate", "detail": ""}}
        service, _, rest = path.lstrip("/").partition("/")
        rest = rest.rstrip("/")
        match service:
            case "identity":
                return self._identity(method, rest)
            case "image":
                return self._image(method, rest, sent)
            case "network":
                return self._network(method, rest)
        return NOT_FOUND, {}

    def _is_faulty(self, request: str) -> bool:
        try:
            pattern = pathlib.Path(self._settings.fault_file).read_text().strip()
        except OSError:
            return False
        return bool(pattern and re.search(pattern, request))

    def _identity(self, method: str, rest: str) -> Answer:
        version = {"id": "v3.14", "status": "stable", "updated": TIME,
                   "links": [{"rel": "self", "href": f"{self._base}/identity/v3/"}],
                   "media-types": [{
                       "base": "application/json",
                       "type": "application/vnd.openstack.identity-v3+json"}]}
        valid = token(self._settings.services)
        if rest == "":
            return CHOICES, {"versions": {"values": [version]}}
        if rest == "v3":
            return OK, {"version": version}
        if rest == "v3/auth/tokens":
            return (CREATED if method == "POST" else OK), valid
        if rest.startswith("v3/projects/"):
            return OK, {"project": valid["token"]["project"]}
        return OK, {"links": {}, rest.rpartition("/")[2]: []}

    def _image(self, method: str, rest: str, sent: bytes) -> Answer:
        if rest in ("", "versions", "v2"):
            versions = {"versions": [self._version("v2.9", "image/v2")]}
            return (OK if rest == "versions" else CHOICES), versions
        if rest == "v2/schemas/image":
            return OK, image_schema()
        if (method, rest) == ("POST", "v2/images"):
            return CREATED, self._make_image(json.loads(sent))
        number, _, part = rest.removeprefix("v2/images/").partition("/")
        if number in self._settings.images:
            return OK, image(number, self._settings.images[number])
        if number not in self._made:
            return NOT_FOUND, {"message": "no such image"}
        if method == "DELETE":
            return OK, self._made.pop(number)
        if method == "PATCH" or part:  # its data, or where in Ceph they are
            self._made[number]["status"] = "active"
        return OK, self._made[number]

    def _make_image(self, wanted: Json) -> Json:
        number = str(uuid.uuid4())
        self._made[number] = (image(number, {"name": "", "size": 0, "location": ""}) | wanted
                              | {"id": number, "status": "queued", "locations": []})
        return self._made[number]

    def _network(self, method: str, rest: str) -> Answer:
        rest = rest.removesuffix(".json")
        if rest == "":
            return OK, {"versions": [self._version("v2.0", "network/v2.0")]}
        if rest == "v2.0/extensions":
            return OK, {"extensions": [
                {"alias": alias, "name": alias, "description": alias, "links": [],
                 "updated": "2020-01-01T00:00:00-00:00"}
                for alias in ("binding", "binding-extended")]}
        listed = re.fullmatch(r"v2\.0/([\w-]+)", rest)
        if method == "GET" and listed:
            return OK, {listed[1].replace("-", "_"): []}
        return NOT_FOUND, {"NeutronError": {"type": "NotFound", "message": rest, "detail": ""}}

    def _version(self, name: str, path: str) -> Json:
        return {"id": name, "status": "CURRENT",
                "links": [{"rel": "self", "href": f"{self._base}/{path}/"}]}


def main() -> None:
    settings = Settings(**json.loads(pathlib.Path(sys.argv[1]).read_text()))
    import waitress  # type: ignore[import-untyped]
    waitress.serve(StandIns(settings), host=settings.address, port=settings.port, threads=8)


if __name__ == "__main__":
    main()
