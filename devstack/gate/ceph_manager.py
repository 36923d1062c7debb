# SPDX-License-Identifier: Apache-2.0
"""Ceph's manager, which the lab does without: Nova asks it how full its pool is.

``ceph df`` lists no pool before a manager has reported one, and nova-compute
then reports no inventory to placement and gets no server.
"""

import json

from devstack.lab import Host, Lab, LabError, Service
from devstack.lab.ceph import USER
from devstack.lab.processes import wait_until

_CONF = "/var/lib/ceph/mgr/ceph.conf"
_KEYRING = "/var/lib/ceph/mgr/keyring"


def service(lab: Lab) -> Service:
    return Service(lab.controller, "ceph-mgr", ("ceph-mgr", "-f", "-i", "gate", "-c", _CONF))


def start(lab: Lab, seconds: float = 60.0) -> None:
    """Start it and wait until it has reported every pool."""
    host, one = lab.controller, service(lab)
    shared = (host.root / "etc/ceph/ceph.conf").read_text()
    # no module of its own: none is needed, and each costs seconds
    host.write(_CONF, f"{shared}[mgr]\nmgr initial modules =\nkeyring = {_KEYRING}\n"
                      "mgr data = /var/lib/ceph/mgr\nmgr module path = /var/lib/ceph/mgr\n"
                      "mgr stats period = 1\nmgr tick period = 1\n")
    _ceph(host, "auth", "get-or-create", "mgr.gate", "mon", "allow profile mgr",
          "osd", "allow *", "-o", _KEYRING)
    _ceph(host, "auth", "caps", f"client.{USER}", "mon", "profile rbd", "mgr", "profile rbd",
          "osd", "profile rbd pool=vms, profile rbd pool=volumes")
    one.start()
    wait_until(lambda: _reports_pools(host), seconds, "Ceph's manager", one.log,
               failed=lambda: not one.is_running())


def _reports_pools(host: Host) -> bool:
    try:
        found = json.loads(_ceph(host, "df", "--format", "json"))["pools"]
    except LabError:
        return False
    return any(pool["name"] == "vms" for pool in found)


def _ceph(host: Host, *argv: str) -> str:
    return host.run(["ceph", "--connect-timeout", "20", *argv], timeout=30).stdout
