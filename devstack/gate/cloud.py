# SPDX-License-Identifier: Apache-2.0
"""The running gate as one object: everything that a scenario asks of it."""

import contextlib
import dataclasses
import pathlib
import re
import time
import typing as ty

from devstack.gate import database, services, settings
from devstack.gate.compute_api import ApiError, ComputeApi, Json, Migration, Server
from devstack.gate.images import IMAGES
from devstack.lab import Guest, Host, Lab, Service, TookTooLong, processes
from devstack.lab import worker as workers

SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Cloud:
    """Nova over one lab; a server is named by its UUID."""

    lab: Lab

    @property
    def api(self) -> ComputeApi:
        return ComputeApi(f"http://{self.lab.controller.address}:{settings.API_PORT}")

    # -- servers ---------------------------------------------------------------

    def boot(self, name: str, host: str, image: str = "talkative", wait: bool = True) -> str:
        """A new server on that host; returns its UUID."""
        flavor = self.api.flavor("small", 64)
        uuid = str(self.api.call("POST", "/servers", {"server": {
            "name": name, "imageRef": IMAGES[image].uuid, "flavorRef": flavor,
            "networks": "none", "host": host}})["server"]["id"])
        if wait:
            self.wait_status(uuid, "ACTIVE")
        return uuid

    def show(self, uuid: str) -> Server:
        return self.api.server(uuid)

    def migrations(self, uuid: str) -> list[Migration]:
        return self.api.migrations(uuid)

    def console_output(self, uuid: str) -> str:
        return self.api.console_output(uuid)

    def live_migrate(self, uuid: str, destination: str, wait: bool = True,
                     seconds: float = SECONDS) -> Migration | None:
        """Order a live migration; with ``wait`` returns its row once it has ended."""
        before = len(self.migrations(uuid))
        self.api.action(uuid, {"os-migrateLive": {
            "host": destination, "block_migration": "auto"}})
        return self.ended_migration(uuid, before, seconds) if wait else None

    def ended_migration(self, uuid: str, before: int, seconds: float = SECONDS) -> Migration:
        """The migration after the first ``before`` ones, once it and its server are at rest."""
        deadline = time.monotonic() + processes.patience(seconds)
        while True:
            rows = self.migrations(uuid)
            if len(rows) > before and rows[-1].has_ended and self.show(uuid).is_at_rest:
                return rows[-1]
            if time.monotonic() > deadline:
                raise TookTooLong(f"the end of a migration of {uuid}: {rows[-1:]}, "
                                  f"{self.show(uuid)}", seconds)
            time.sleep(0.1)

    def wait_migrating(self, uuid: str, seconds: float = SECONDS) -> Migration:
        """Return once the guest's memory is on its way."""
        processes.wait_until(
            lambda: any(m.status == "running" for m in self.migrations(uuid)), seconds,
            f"a running migration of {uuid}")
        return self.migrations(uuid)[-1]

    def abort(self, uuid: str) -> None:
        """Abort the migration that runs.

        :raises ApiError: none does.
        """
        for migration in self.migrations(uuid)[-1:]:
            self.api.call("DELETE", f"/servers/{uuid}/migrations/{migration.number}")

    def force_complete(self, uuid: str) -> None:
        number = self.migrations(uuid)[-1].number
        self.api.call("POST", f"/servers/{uuid}/migrations/{number}/action",
                      {"force_complete": None})

    def evacuate(self, uuid: str, destination: str) -> None:
        """Rebuild the server elsewhere; its host's nova-compute must be known as down."""
        # from 2.95 on the server would stay off until somebody starts it
        self.api.action(uuid, {"evacuate": {"host": destination}}, microversion="2.94")
        self._wait(lambda: self._rests_on(uuid, destination), f"the evacuation of {uuid}")

    def migrate_cold(self, uuid: str, destination: str) -> None:
        """Up to VERIFY_RESIZE; then :meth:`confirm` or :meth:`revert`."""
        self.api.action(uuid, {"migrate": {"host": destination}})
        self.wait_status(uuid, "VERIFY_RESIZE")

    def resize(self, uuid: str) -> None:
        """To a larger flavor, up to VERIFY_RESIZE."""
        flavor = self.api.flavor("larger", 96)
        self.api.action(uuid, {"resize": {"flavorRef": flavor}})
        self.wait_status(uuid, "VERIFY_RESIZE")

    def confirm(self, uuid: str) -> None:
        self.api.action(uuid, {"confirmResize": None})
        self.wait_status(uuid, "ACTIVE")

    def revert(self, uuid: str) -> None:
        self.api.action(uuid, {"revertResize": None})
        self.wait_status(uuid, "ACTIVE")

    def stop(self, uuid: str) -> None:
        self._do(uuid, "os-stop", "SHUTOFF")

    def start(self, uuid: str) -> None:
        self._do(uuid, "os-start", "ACTIVE")

    def pause(self, uuid: str) -> None:
        self._do(uuid, "pause", "PAUSED")

    def unpause(self, uuid: str) -> None:
        self._do(uuid, "unpause", "ACTIVE")

    def reboot_hard(self, uuid: str) -> None:
        """Start it again from its disk, where Nova takes it to be."""
        self.api.action(uuid, {"reboot": {"type": "HARD"}})
        self.wait_status(uuid, "ACTIVE")

    def shelve(self, uuid: str) -> None:
        self._do(uuid, "shelve", "SHELVED")

    def reset_state(self, uuid: str) -> None:
        """What an operator does after Nova has put a server into ERROR."""
        self.api.action(uuid, {"os-resetState": {"state": "active"}})

    def delete(self, uuid: str) -> None:
        """Delete it, and wait until it is gone."""
        self.api.action(uuid, {"forceDelete": None})
        self._wait(lambda: uuid not in self.api.servers(), f"the end of {uuid}")

    def _do(self, uuid: str, action: str, status: str) -> None:
        self.api.action(uuid, {action: None})
        self.wait_status(uuid, status)

    def wait_status(self, uuid: str, status: str, seconds: float = SECONDS) -> None:
        deadline = time.monotonic() + processes.patience(seconds)
        while True:
            server = self.show(uuid)
            if server.status == status and server.task is None:
                return
            failed = server.status == "ERROR" and server.task is None
            if failed or time.monotonic() > deadline:
                raise TookTooLong(f"{status} of {server}", seconds)
            time.sleep(0.1)

    def _rests_on(self, uuid: str, host: str) -> bool:
        server = self.show(uuid)
        return server.is_at_rest and server.host == host

    def _wait(self, check: ty.Callable[[], bool], what: str) -> None:
        processes.wait_until(check, SECONDS, what)

    def allocations(self, uuid: str) -> set[str]:
        """The hosts on which placement has a server, or a migration, booked."""
        placement = ComputeApi(f"http://{self.lab.controller.address}:{settings.PLACEMENT_PORT}",
                               version="")
        names = {each["uuid"]: each["name"]
                 for each in placement.call("GET", "/resource_providers")["resource_providers"]}
        return {names[each] for each in placement.call(
            "GET", f"/allocations/{uuid}")["allocations"]}

    def nova_manage(self, *argv: str) -> str:
        """What ``nova-manage ARGV`` prints."""
        return database.manage(self.lab, *argv, seconds=180)

    # -- what is true, whatever Nova says -----------------------------------------

    def guest(self, uuid: str) -> Guest:
        """The server as libvirt and Ceph see it."""
        return Guest(self.lab, uuid, uuid, f"vms/{uuid}_disk")

    def directories(self, uuid: str) -> list[str]:
        """Names of the hosts that have an instance directory of it."""
        return [each.host.name for each in self.lab.computes
                if (each.host.nova_instances / uuid).exists()]

    # -- processes ------------------------------------------------------------------

    def compute(self, host: str) -> Service:
        """nova-compute of a host: kill9, start."""
        return services.compute(self.lab.host(host))

    def start_compute(self, host: str, seconds: float = SECONDS) -> None:
        """Start it and wait until it answers Nova again."""
        one = self.compute(host)
        before = self.api.compute_services().get(host, {}).get("updated_at")
        one.start()
        processes.wait_until(
            lambda: self._reported_since(host, before), seconds,
            f"nova-compute on {host}", one.log, failed=lambda: not one.is_running())

    def _reported_since(self, host: str, before: str | None) -> bool:
        known: Json = self.api.compute_services().get(host, {})
        return known.get("state") == "up" and known.get("updated_at") != before

    def compute_log(self, host: str) -> pathlib.Path:
        return self.compute(host).log

    def start_worker(self, host: Host, transport_url: str | None = None,
                     **own: object) -> workers.Worker:
        """rbd-worker beside nova-compute, with that host's nova.conf; not waited for.

        :param transport_url: another broker than nova-compute's.
        """
        default = {"transport_url": transport_url} if transport_url else {}
        host.write(workers.WORKER_CONF, settings.ini({
            "DEFAULT": default, "rbd_worker": {"executor": "nova", **own}}))
        return workers.start(host)

    # -- faults -----------------------------------------------------------------------

    def inject(self, host: Host, request: str) -> None:
        """Have the stand-ins answer 503 to that host.

        :param request: a regular expression for ``METHOD PATH``.
        """
        self.lab.controller.write(services.FAULT_FILE, f"^{re.escape(host.address)} {request}")

    def end_fault(self) -> None:
        (self.lab.controller.root / services.FAULT_FILE.lstrip("/")).unlink(missing_ok=True)

    def remove_all(self) -> None:
        """Delete every server, whatever state it is in."""
        self.end_fault()
        servers = self.api.servers()
        for uuid in servers:
            with contextlib.suppress(ApiError):  # none is under way
                self.abort(uuid)
            self.api.action(uuid, {"os-resetState": {"state": "error"}})
            self.api.call("DELETE", f"/servers/{uuid}")
        self._wait(lambda: not self.api.servers(), "the end of all servers")
        for uuid in servers:
            self.guest(uuid).destroy()


__all__ = ["Cloud"]
