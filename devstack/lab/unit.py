# SPDX-License-Identifier: Apache-2.0
"""rbd-worker as its systemd unit starts it: another user, a few capabilities, no way to more.

There is no systemd in the lab, so setpriv does what the unit's lines say; they
are read from the unit itself.
"""

import collections.abc
import configparser
import pathlib

from devstack.lab import ceph, worker
from devstack.lab.host import Host

UNIT = pathlib.Path(__file__).parents[2] / "etc/rbd-worker.service"
#: Belong to nova-compute's user where its packages installed them.
_NOVAS = ("/var/lib/nova", "/etc/nova/nova.conf", f"/etc/ceph/ceph.client.{ceph.USER}.keyring")
_LIBVIRT_SOCKET = "/run/libvirt/libvirt-sock"


def user() -> str:
    return _service()["User"]


def capabilities() -> tuple[str, ...]:
    """As the unit names them, ``CAP_CHOWN`` and so on."""
    return tuple(_service()["AmbientCapabilities"].split())


def start(host: Host) -> worker.Worker:
    """Start a configured worker like ``worker.start``, with the rights of the unit."""
    _hand_over(host)
    return worker.start(host, [
        "setpriv", f"--reuid={user()}", f"--regid={user()}", "--clear-groups",
        f"--bounding-set={_only(_service()['CapabilityBoundingSet'].split())}",
        f"--inh-caps={_only(capabilities())}", f"--ambient-caps={_only(capabilities())}",
        "--no-new-privs", "--"])


def why_not(host: Host) -> str:
    """Why that user cannot run this checkout's worker; empty if it can."""
    program = worker.program("rbd-worker")
    done = host.run(["setpriv", f"--reuid={user()}", f"--regid={user()}", "--clear-groups",
                     program, "--help"], check=False)
    return "" if done.returncode == 0 else f"user {user()} cannot execute {program}"


def _hand_over(host: Host) -> None:
    """What a worker of this user needs is its own; the files below instances_path stay as is."""
    host.run(["chown", f"{user()}:{user()}", *_NOVAS])
    host.run(["find", "/var/lib/nova/instances", "-maxdepth", "1", "-user", "root", "-exec",
              "chown", f"{user()}:{user()}", "{}", "+"])
    host.run(["chgrp", user(), _LIBVIRT_SOCKET])
    host.run(["chmod", "0770", _LIBVIRT_SOCKET])


def _only(names: collections.abc.Iterable[str]) -> str:
    return ",".join(["-all", *(f"+{name.lower().removeprefix('cap_')}" for name in names)])


def _service() -> configparser.SectionProxy:
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read(UNIT)
    return parsed["Service"]
