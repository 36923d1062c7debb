# SPDX-License-Identifier: Apache-2.0
"""rbd-worker on a compute host of the lab: its configuration and its process."""

import collections.abc
import dataclasses
import pathlib
import sys
import typing as ty

from devstack.lab import ceph, processes
from devstack.lab.host import Host
from devstack.lab.service import Service

if ty.TYPE_CHECKING:
    from devstack.lab.lab import Lab

NOVA_CONF = "/etc/nova/nova.conf"
WORKER_CONF = "/etc/rbd-worker/rbd-worker.conf"
CONFIG_FILES = ("--config-file", NOVA_CONF, "--config-file", WORKER_CONF)
READY = "rbd-worker is ready"

Values: ty.TypeAlias = collections.abc.Mapping[str, object]


def program(name: str) -> str:
    """A console script of the virtual environment in use, or else of the checkout."""
    own = pathlib.Path(sys.prefix) / "bin" / name
    checkout = pathlib.Path(__file__).parents[2] / ".venv/bin" / name
    return str(own if own.exists() else checkout)


@dataclasses.dataclass(frozen=True)
class Worker:
    """One run of the worker.

    :param began: how long the log was before this run.
    """

    service: Service
    began: int

    @property
    def log_text(self) -> str:
        """What this run has logged so far."""
        with self.service.log.open("rb") as log:
            log.seek(self.began)
            return log.read().decode(errors="replace")

    def wait_ready(self, timeout: float = 20.0) -> "Worker":
        """Return once it says that it is ready.

        :raises errors.TookTooLong: it did not say so, or has ended.
        """
        processes.wait_until(lambda: READY in self.log_text, timeout,
                             f"rbd-worker on {self.service.host.name}", self.service.log,
                             failed=lambda: not self.service.is_running())
        return self

    def wait_log(self, text: str, timeout: float = 20.0) -> None:
        processes.wait_until(lambda: text in self.log_text, timeout,
                             f"{text!r} in the worker's log", self.service.log)

    def is_running(self) -> bool:
        return self.service.is_running()

    def stop(self, seconds: float = 20.0) -> int:
        """SIGTERM; returns the exit status."""
        self.service.stop(seconds)
        return self.service.exit_status()

    def kill9(self) -> None:
        self.service.kill9()

    def exit_status(self, seconds: float = 10.0) -> int:
        """Wait for it to end by itself."""
        return self.service.exit_status(seconds)

    def resident_mib(self) -> float:
        """Memory in use now."""
        status = pathlib.Path(f"/proc/{self.service.pid}/status").read_text()
        line = next(each for each in status.splitlines() if each.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024


def service(host: Host, prefix: collections.abc.Sequence[str] = ()) -> Service:
    return Service(host, "rbd-worker", (*prefix, program("rbd-worker"), *CONFIG_FILES))


def start(host: Host, prefix: collections.abc.Sequence[str] = ()) -> Worker:
    """Start the worker as an init system would; it is not waited for.

    :param prefix: a command that executes it: with other rights, or as ``env`` does.
    """
    one = service(host, prefix)
    began = one.log.stat().st_size if one.log.exists() else 0
    one.start()
    return Worker(one, began)


def write_config(lab: "Lab", host: Host, executor: str = "libvirt", nova: Values | None = None,
                 libvirt: Values | None = None, rabbit: Values | None = None,
                 notifications: Values | None = None, **own: object) -> None:
    """Write both configuration files of a worker.

    :param nova: more options for [DEFAULT] of nova.conf.
    :param libvirt: more options for [libvirt] of nova.conf; None removes a usual one.
    :param rabbit: options for [oslo_messaging_rabbit] of nova.conf.
    :param notifications: options for [oslo_messaging_notifications] of nova.conf.
    :param own: options for [rbd_worker] of the worker's own file.
    """
    default: dict[str, object] = {
        "host": host.name, "my_ip": host.address, "state_path": "/var/lib/nova",
        "transport_url": lab.broker_url, **(nova or {})}
    usual: dict[str, object] = {
        "connection_uri": "qemu:///system", "virt_type": lab.virt_type, "images_type": "rbd",
        "images_rbd_pool": "vms", "images_rbd_ceph_conf": "/etc/ceph/ceph.conf",
        "rbd_user": ceph.USER, "rbd_secret_uuid": lab.secret_uuid,
        "live_migration_inbound_addr": host.address, "live_migration_scheme": "tcp",
        **(libvirt or {})}
    host.write(NOVA_CONF, _ini({"DEFAULT": default, "libvirt": usual,
                                "oslo_messaging_rabbit": rabbit or {},
                                "oslo_messaging_notifications": notifications or {}}), 0o640)
    host.write(WORKER_CONF, _ini({"rbd_worker": {"executor": executor, **own}}))


def _ini(sections: collections.abc.Mapping[str, Values]) -> str:
    lines = []
    for name, values in sections.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {value}" for key, value in values.items() if value is not None]
        lines.append("")
    return "\n".join(lines)
