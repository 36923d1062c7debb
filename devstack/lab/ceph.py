# SPDX-License-Identifier: Apache-2.0
"""The lab's Ceph: one monitor and one OSD that keeps its data in memory.

All keys are made here and put into the monitor's first keyring, so that no
``ceph auth`` command is needed; what has to be asked of the running cluster is
done by one short program (``ceph_pools.py``) over one connection.
"""

import base64
import dataclasses
import json
import os
import socket
import struct
import time
import uuid

from devstack.lab import processes
from devstack.lab.host import Host
from devstack.lab.service import Service

POOLS = ("vms", "volumes")
USER = "nova"
PORT = 6789
POOLS_PROGRAM = "/run/lab/ceph_pools.py"


def new_key() -> str:
    """A key in Ceph's own form: type, time of making, length, 16 random bytes."""
    return base64.b64encode(
        struct.pack("<HIIH", 1, int(time.time()), 0, 16) + os.urandom(16)).decode()


@dataclasses.dataclass(frozen=True)
class Keys:
    """One key for each entity of the cluster."""

    mon: str = dataclasses.field(default_factory=new_key)
    admin: str = dataclasses.field(default_factory=new_key)
    osd: str = dataclasses.field(default_factory=new_key)
    nova: str = dataclasses.field(default_factory=new_key)


@dataclasses.dataclass(frozen=True)
class Ceph:
    """The cluster, run on ``host``."""

    host: Host
    fsid: str
    keys: Keys

    @property
    def monitor_address(self) -> str:
        return self.host.address

    @property
    def mon(self) -> Service:
        return Service(self.host, "ceph-mon", ("ceph-mon", "-f", "-i", "a"))

    @property
    def osd(self) -> Service:
        return Service(self.host, "ceph-osd", ("ceph-osd", "-f", "-i", "0"))

    def client_conf(self) -> str:
        """The ceph.conf of a host that only uses the cluster."""
        return (f"[global]\nfsid = {self.fsid}\nmon host = {self.monitor_address}:{PORT}\n"
                "auth cluster required = cephx\nauth service required = cephx\n"
                "auth client required = cephx\n")

    def client_keyring(self) -> str:
        return f"[client.{USER}]\n\tkey = {self.keys.nova}\n"

    def configure(self) -> None:
        """Write what the monitor and the OSD read."""
        self.host.write("/etc/ceph/ceph.conf", self.client_conf() + _DAEMONS.format(
            address=self.monitor_address))
        self.host.write("/etc/ceph/ceph.client.admin.keyring",
                        f"[client.admin]\n\tkey = {self.keys.admin}\n", 0o600)
        self.host.write("/var/lib/ceph/osd/keyring", f"[osd.0]\n\tkey = {self.keys.osd}\n",
                        0o600)
        self.host.write("/var/lib/ceph/initial.keyring", self._initial_keyring(), 0o600)
        self.host.write(POOLS_PROGRAM, _pools_program())
        for path in ("var/lib/ceph/mon", "run/ceph", "var/log/ceph"):
            (self.host.root / path).mkdir(parents=True, exist_ok=True)

    def _initial_keyring(self) -> str:
        profiles = ", ".join(f"profile rbd pool={pool}" for pool in POOLS)
        return (
            f'[mon.]\n\tkey = {self.keys.mon}\n\tcaps mon = "allow *"\n'
            f'[client.admin]\n\tkey = {self.keys.admin}\n\tcaps mon = "allow *"\n'
            '\tcaps osd = "allow *"\n'
            f'[osd.0]\n\tkey = {self.keys.osd}\n\tcaps mon = "allow profile osd"\n'
            '\tcaps osd = "allow *"\n'
            f'[client.{USER}]\n\tkey = {self.keys.nova}\n\tcaps mon = "profile rbd"\n'
            f'\tcaps osd = "{profiles}"\n')

    def start(self, seconds: float = 60.0) -> None:
        """Make the cluster and wait until its pools can hold images."""
        osd_uuid = str(uuid.uuid4())
        self.host.run(["monmaptool", "--create", "--clobber", "--fsid", self.fsid, "--addv", "a",
                       f"[v2:{self.monitor_address}:3300,v1:{self.monitor_address}:{PORT}]",
                       "/var/lib/ceph/monmap"])
        self.host.run(["ceph-mon", "--mkfs", "-i", "a", "--monmap", "/var/lib/ceph/monmap",
                       "--keyring", "/var/lib/ceph/initial.keyring"])
        mon, osd = self.mon, self.osd
        mon.start()
        self.host.run(["ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", osd_uuid,
                       "--no-mon-config"], timeout=seconds)
        processes.wait_until(self.is_listening, seconds, "Ceph's monitor", mon.log,
                             failed=lambda: not mon.is_running())
        self._pools("osd", osd_uuid, seconds)
        osd.start()
        self._pools("pools", ",".join(POOLS), seconds)

    def _pools(self, what: str, value: str, seconds: float) -> None:
        self.host.run(["/usr/bin/python3", POOLS_PROGRAM, what, value], timeout=seconds)

    def is_listening(self) -> bool:
        try:
            socket.create_connection((self.monitor_address, PORT), timeout=2).close()
        except OSError:
            return False
        return True

    def pause(self) -> None:
        """Freeze the whole cluster: clients hang, as with a network that eats everything."""
        self.mon.pause()
        self.osd.pause()

    def resume(self) -> None:
        self.mon.resume()
        self.osd.resume()

    def rbd(self, *argv: str, check: bool = True, input: bytes | None = None,
            timeout: float = 60.0) -> str:
        """What the ``rbd`` command prints, run as the administrator."""
        return self.host.run(["rbd", *argv], check=check, input=input, timeout=timeout).stdout

    def watchers(self, image: str) -> list[str]:
        """IP addresses that watch ``pool/image``; one for each watcher, sorted."""
        status = json.loads(self.rbd("status", "--format", "json", image))
        return sorted(each["address"].rsplit(":", 1)[0] for each in status["watchers"])


#: Short waits: the monitor proposes at once, and a dead client's watch ends after 10 s
#: (30 by default), since a test waits for that.
_DAEMONS = """\
mon initial members = a
mon allow pool size one = true
mon allow pool delete = true
mon warn on pool no redundancy = false
mon data avail crit = 1
mon data avail warn = 2
mon pg warn min per osd = 0
paxos propose interval = 0.02
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd client watch timeout = 10
ms bind ipv6 = false
public addr = {address}
cluster addr = {address}
log file = /var/log/ceph/$name.log
[mon.a]
mon data = /var/lib/ceph/mon
[osd.0]
osd data = /var/lib/ceph/osd
keyring = /var/lib/ceph/osd/keyring
osd objectstore = memstore
memstore device bytes = 2147483648
"""


def _pools_program() -> str:
    import importlib.resources
    return importlib.resources.files("devstack.lab").joinpath("ceph_pools.py").read_text()
