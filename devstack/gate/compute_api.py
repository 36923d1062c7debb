# SPDX-License-Identifier: Apache-2.0
"""A client of nova-api, as small as the gate's scenarios allow.

Standard library only.  It knows Nova's words; waiting is :mod:`cloud`'s.
"""

import dataclasses
import json
import typing as ty
import urllib.error
import urllib.request

Json: ty.TypeAlias = dict[str, ty.Any]

#: Newest version of the API that the scenarios need: os-getConsoleOutput, evacuate with a
#: host, abort and force-complete are all in it.
MICROVERSION = "2.95"


class ApiError(Exception):
    """nova-api refused, or failed."""

    def __init__(self, request: str, status: int, text: str) -> None:
        super().__init__(f"{request}: {status} {text[:500]}")
        self.status = status


@dataclasses.dataclass(frozen=True)
class Server:
    """What Nova's record says of one server."""

    uuid: str
    name: str
    status: str
    host: str | None
    task: str | None
    power: int
    fault: str | None

    @property
    def is_at_rest(self) -> bool:
        return self.task is None and self.status not in ("MIGRATING", "BUILD")


@dataclasses.dataclass(frozen=True)
class Migration:
    """One row of Nova's migrations."""

    number: int
    uuid: str
    kind: str
    status: str
    source: str
    destination: str

    @property
    def has_ended(self) -> bool:
        return self.status in ("completed", "done", "error", "failed", "cancelled", "confirmed",
                               "reverted", "finished")


class ComputeApi:
    """Thread-safe: it holds no connection.

    :param base: nova-api's address without the version.
    :param version: what stands before every path; placement has none.
    """

    def __init__(self, base: str, version: str = "/v2.1") -> None:
        self._base = f"{base}{version}"

    def call(self, method: str, path: str, body: Json | None = None,
             microversion: str = MICROVERSION) -> Json:
        """One request.

        :raises ApiError: the status was 300 or above.
        """
        request = urllib.request.Request(
            self._base + path, method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Auth-Token": "gate-token", "Content-Type": "application/json",
                     "OpenStack-API-Version": f"compute {microversion}"})
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                text = answer.read()
        except urllib.error.HTTPError as e:
            raise ApiError(f"{method} {path}", e.code, e.read().decode(errors="replace")) from e
        return dict(json.loads(text)) if text else {}

    def action(self, uuid: str, action: Json, microversion: str = MICROVERSION) -> Json:
        return self.call("POST", f"/servers/{uuid}/action", action, microversion)

    def server(self, uuid: str) -> Server:
        found = self.call("GET", f"/servers/{uuid}")["server"]
        return Server(
            uuid=found["id"], name=found["name"], status=found["status"],
            host=found.get("OS-EXT-SRV-ATTR:host"), task=found.get("OS-EXT-STS:task_state"),
            power=found.get("OS-EXT-STS:power_state", 0),
            fault=(found.get("fault") or {}).get("message"))

    def servers(self) -> list[str]:
        found = self.call("GET", "/servers?all_tenants=1")["servers"]
        return [str(each["id"]) for each in found]

    def migrations(self, uuid: str) -> list[Migration]:
        """All migrations of a server, oldest first."""
        found = self.call("GET", f"/os-migrations?instance_uuid={uuid}")["migrations"]
        return sorted((Migration(
            number=each["id"], uuid=each["uuid"], kind=each["migration_type"],
            status=each["status"], source=each["source_compute"] or "",
            destination=each["dest_compute"] or "") for each in found),
            key=lambda migration: migration.number)

    def console_output(self, uuid: str) -> str:
        """All of the console's history, by Nova's own reader."""
        return str(self.action(uuid, {"os-getConsoleOutput": {}})["output"])

    def compute_services(self) -> dict[str, Json]:
        """The nova-computes that Nova knows, by host."""
        found = self.call("GET", "/os-services?binary=nova-compute")["services"]
        return {each["host"]: each for each in found}

    def force_down(self, host: str, forced: bool) -> None:
        """Have Nova take a nova-compute for dead, which evacuation asks for."""
        number = self.compute_services()[host]["id"]
        self.call("PUT", f"/os-services/{number}", {"forced_down": forced})

    def flavor(self, name: str, memory_mib: int) -> str:
        """The flavor of that name; made where it is not there.

        A disk of 0 is as large as its image: the lab's Ceph holds 2 GiB.
        """
        for each in self.call("GET", "/flavors?is_public=None")["flavors"]:
            if each["name"] == name:
                return str(each["id"])
        made = self.call("POST", "/flavors", {"flavor": {
            "name": name, "ram": memory_mib, "vcpus": 1, "disk": 0}})
        return str(made["flavor"]["id"])

    def answers(self) -> bool:
        try:
            urllib.request.urlopen(self._base + "/", timeout=5).close()
        except urllib.error.HTTPError as e:
            return e.code < 500
        except OSError:
            return False
        return True
