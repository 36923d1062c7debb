# SPDX-License-Identifier: Apache-2.0
"""A compute host's own part: libvirt, and the Ceph client's secret in it.

libvirt reads secrets from files when it starts, so nothing needs to be defined
over its API.
"""

import collections.abc
import dataclasses
import fcntl
import os
import time
import uuid

from devstack.lab import ceph, errors, processes
from devstack.lab.host import Host
from devstack.lab.service import Service

_KVM_CREATE_VM = 0xAE01

_LIBVIRTD = """\
listen_tls = 0
listen_tcp = 1
tcp_port = "16509"
listen_addr = "{address}"
auth_tcp = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
host_uuid = "{host_uuid}"
log_outputs = "3:stderr"
"""

_QEMU = """\
security_driver = "none"
user = "root"
group = "root"
swtpm_user = "root"
swtpm_group = "root"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
migration_address = "{address}"
"""

_SECRET = """\
<secret ephemeral='no' private='no'>
  <uuid>{uuid}</uuid>
  <usage type='ceph'><name>client.{user} secret</name></usage>
</secret>
"""


def kvm_works() -> bool:
    """Whether this machine can create a virtual machine; /dev/kvm alone proves nothing."""
    try:
        device = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.close(fcntl.ioctl(device, _KVM_CREATE_VM, 0))
    except OSError:
        return False
    finally:
        os.close(device)
    return True


@dataclasses.dataclass(frozen=True)
class Compute:
    """libvirtd on one host."""

    host: Host

    @property
    def service(self) -> Service:
        return Service(self.host, "libvirtd", ("libvirtd", "--listen"))

    def configure(self, cluster: ceph.Ceph, secret_uuid: str) -> None:
        host_uuid = str(uuid.uuid5(uuid.UUID(cluster.fsid), self.host.name))
        write = self.host.write
        write("/etc/libvirt/libvirtd.conf",
              _LIBVIRTD.format(address=self.host.address, host_uuid=host_uuid))
        write("/etc/libvirt/qemu.conf", _QEMU.format(address=self.host.address))
        write(f"/etc/libvirt/secrets/{secret_uuid}.xml",
              _SECRET.format(uuid=secret_uuid, user=ceph.USER), 0o600)
        # Ceph writes keys in base64, and so does libvirt in this file
        write(f"/etc/libvirt/secrets/{secret_uuid}.base64", cluster.keys.nova, 0o600)
        write("/etc/ceph/ceph.conf", cluster.client_conf())
        write(f"/etc/ceph/ceph.client.{ceph.USER}.keyring", cluster.client_keyring(), 0o600)
        self.host.nova_instances.mkdir(parents=True, exist_ok=True)

    def start(self, seconds: float = 30.0) -> None:
        """Start libvirtd and wait until its QEMU driver answers."""
        service = self.service
        service.start()
        processes.wait_until(self.is_answering, seconds, f"libvirtd on {self.host.name}",
                             service.log, failed=lambda: not service.is_running())

    def is_answering(self) -> bool:
        return self.host.run(["virsh", "-q", "-c", "qemu:///system", "uri"], check=False,
                             timeout=20).returncode == 0

    def stop(self) -> None:
        """Guests go on running."""
        self.service.stop()

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill9(self) -> None:
        self.service.kill9()

    def guests(self) -> list[str]:
        """UUIDs of all guests, running or only defined."""
        return self.host.virsh("list", "--all", "--uuid").split()

    def destroy_all(self, only: collections.abc.Container[str] | None = None) -> None:
        """End and forget guests; all unless ``only`` says which."""
        for guest in self.guests():
            if only is None or guest in only:
                self._forget(guest)

    def _forget(self, guest: str, seconds: float = 20.0) -> None:
        """A guest on the move may refuse for a moment, or be gone by itself."""
        deadline = time.monotonic() + processes.patience(seconds)
        while True:
            self.host.virsh("destroy", guest, check=False)
            self.host.virsh("undefine", guest, check=False)
            if guest not in self.guests():
                return
            if time.monotonic() > deadline:
                raise errors.TookTooLong(f"the end of guest {guest} on {self.host.name}",
                                         seconds, self.service.log)
            time.sleep(processes.POLL)
