# SPDX-License-Identifier: Apache-2.0
"""Guests with an RBD disk, as Nova would have made them, only smaller."""

import dataclasses
import json
import pathlib
import time
import typing as ty
import uuid as uuids

from devstack.lab import bootsector, ceph, errors, processes
from devstack.lab.host import Host

if ty.TYPE_CHECKING:
    from devstack.lab.lab import Lab

INSTANCES = "/var/lib/nova/instances"
DISK_BYTES = 4 << 20

_DOMAIN = """\
<domain type='{kind}'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64'>hvm</type><boot dev='hd'/></os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <devices>
    <disk type='network' device='disk'>
      <driver name='qemu' type='raw' cache='none'/>
      <auth username='{user}'><secret type='ceph' uuid='{secret}'/></auth>
      <source protocol='rbd' name='{image}'><host name='{monitor}' port='{port}'/></source>
      <target dev='vda' bus='virtio'/>
    </disk>
    {console}
    <video><model type='none'/></video>
    <memballoon model='none'/>
  </devices>
</domain>
"""

_CONSOLE = "<serial type='file'><source path='{directory}/console.log'/></serial>"


@dataclasses.dataclass(frozen=True)
class Guest:
    """One guest; where it runs changes, so libvirt is asked each time."""

    lab: "Lab"
    uuid: str
    name: str
    image: str

    def directory(self, host: Host) -> pathlib.Path:
        """Its instance directory on that host, as a path outside; may not exist."""
        return host.nova_instances / self.uuid

    def state(self, host: Host) -> str | None:
        """libvirt's word ("running", "paused", "shut off"), None where it is unknown."""
        done = host.run(["virsh", "-q", "-c", "qemu:///system", "domstate", self.uuid],
                        check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    def running_on(self) -> list[str]:
        """Names of the hosts whose libvirt runs it; one, unless something is very wrong."""
        return [compute.host.name for compute in self.lab.computes
                if self.state(compute.host) == "running"]

    def watchers(self) -> list[str]:
        return self.lab.watchers(self.image)

    def console(self, host: Host) -> str:
        """What its console.log on that host holds."""
        path = self.directory(host) / "console.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_for_console(self, host: Host, text: str = "tick", seconds: float = 30.0) -> None:
        processes.wait_until(lambda: text in self.console(host), seconds,
                             f"{text!r} on the console of {self.name}")

    def wait_until_busy(self, host: Host, seconds: float = 60.0) -> None:
        """Return once it changes its memory: before that it has next to nothing to move."""
        look = f"xp /1wx {bootsector.BUSY_FROM:#x}"

        def has_begun() -> bool:
            said = host.virsh("qemu-monitor-command", "--hmp", self.uuid, look)
            return int(said.rpartition(":")[2], 16) != 0

        processes.wait_until(has_begun, seconds, f"the first change by {self.name}")

    def qemu_pid(self, host: Host) -> int:
        """QEMU's number as the host counts, for :meth:`Host.kill9`."""
        for inner, outer in host.pids().items():
            argv = processes.command_line(outer)
            if argv and "qemu-system" in argv[0] and self.uuid in argv:
                return inner
        raise errors.LabError(f"{self.name} has no QEMU on {host.name}")

    def migrate(self, source: Host, destination: Host, *options: str,
                seconds: float = 60.0) -> None:
        """A plain live migration, with the flags that Nova uses and nothing around it."""
        source.virsh("migrate", "--live", "--p2p", "--undefinesource", "--persistent", *options,
                     self.uuid, destination.libvirt_uri, timeout=seconds)

    def destroy(self) -> None:
        """End it everywhere, and remove its directories and its image."""
        for compute in self.lab.computes:
            compute.destroy_all(only={self.uuid})
            compute.host.run(["rm", "-rf", f"{INSTANCES}/{self.uuid}"])
        self.remove_image()

    def remove_image(self, seconds: float = 30.0) -> None:
        """Remove the image; the watch of a killed QEMU ends after ten seconds."""
        deadline = time.monotonic() + processes.patience(seconds)
        while self.image in self.lab.images():
            self.lab.rbd("rm", "--no-progress", self.image, check=False)
            if time.monotonic() > deadline:
                raise errors.TookTooLong(f"the removal of {self.image}", seconds)


def define(lab: "Lab", host: Host, uuid: str | None = None, name: str | None = None,
           memory_mib: int = 64, console: bool = True, talkative: bool = False,
           busy: bool = False, start: bool = True) -> Guest:
    """Make image, instance directory and domain; start it unless told otherwise.

    :param busy: it never stops changing its memory, and does so when this returns.
    """
    uuid = uuid or str(uuids.uuid4())
    name = name or f"instance-{uuid[:8]}"
    guest = Guest(lab, uuid, name, f"vms/{uuid}_disk")
    sector = bootsector.busy() if busy else bootsector.talkative() if talkative else b""
    lab.rbd("import", "--no-progress", "-", guest.image, input=sector.ljust(DISK_BYTES, b"\0"))
    _fill_directory(guest, host)
    directory = f"{INSTANCES}/{uuid}"
    host.virsh("define", "/dev/stdin", input=_DOMAIN.format(
        kind=lab.virt_type, name=name, uuid=uuid, memory=memory_mib, user=ceph.USER,
        secret=lab.secret_uuid, image=guest.image, monitor=lab.ceph.monitor_address,
        port=ceph.PORT, console=_CONSOLE.format(directory=directory) if console else ""))
    if start:
        host.virsh("start", uuid)
        if busy:
            guest.wait_until_busy(host)
    return guest


def _fill_directory(guest: Guest, host: Host) -> None:
    """What Nova leaves in a directory whose disks are on RBD; files that exist are kept."""
    directory = guest.directory(host)
    directory.mkdir(parents=True, exist_ok=True)
    info = directory / "disk.info"
    if not info.exists():
        info.write_text(json.dumps({f"{INSTANCES}/{guest.uuid}/disk": "raw"}))
