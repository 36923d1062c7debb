# SPDX-License-Identifier: Apache-2.0
"""Guests with several RBD disks, and what is on these disks byte by byte."""

import contextlib
import json
import os
import pathlib
import subprocess
import threading
import typing as ty

from devstack import lab as labs
from devstack.lab import ceph
from devstack.lab import worker as lab_worker
from rbd_worker.conf import CephSettings
from rbd_worker.host import rbd
from rbd_worker.model import RbdImage

_DISK = """\
<disk type='network' device='disk'>
  <driver name='qemu' type='raw' cache='none'/>
  <auth username='{user}'><secret type='ceph' uuid='{secret}'/></auth>
  <source protocol='rbd' name='{image}'><host name='{monitor}' port='{port}'/></source>
  <target dev='{target}' bus='virtio'/>
</disk>
"""
SIZE = 4 << 20


def control(host: labs.Host, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``rbd-workerctl`` on a host."""
    return host.run([lab_worker.program("rbd-workerctl"), *lab_worker.CONFIG_FILES, *words],
                    check=False, timeout=300)


def done(host: labs.Host, *words: str) -> str:
    """What it prints, where it succeeds."""
    one = control(host, *words)
    assert one.returncode == 0, one.stderr
    return one.stdout


def told(host: labs.Host, *words: str) -> ty.Any:
    """What it says as JSON."""
    return json.loads(done(host, *words, "-f", "json"))


class Disks:
    """Images as a client of this process sees them, with the rights of the workers."""

    def __init__(self, lab: labs.Lab, directory: pathlib.Path, user: str = ceph.USER) -> None:
        keyring = directory / "keyring"
        keyring.write_text(lab.ceph.client_keyring())
        path = directory / "ceph.conf"
        path.write_text(f"{lab.ceph.client_conf()}\n[client.{user}]\nkeyring = {keyring}\n")
        self.store = rbd.ImageStore(CephSettings(str(path), user, ""), 30.0)

    def write(self, image: str, data: bytes, offset: int = 0) -> None:
        def write(cluster: ty.Any) -> None:
            with rbd.opened(cluster, image_of(image), read_only=False) as one:
                one.write(data, offset)
                one.flush()
        self.store.work(write, "write")

    def fill(self, image: str) -> bytes:
        """New random content; what it is."""
        data = os.urandom(SIZE)
        self.write(image, data)
        return data

    def read(self, image: str, snapshot: str | None = None) -> bytes:
        def read(cluster: ty.Any) -> bytes:
            with rbd.opened(cluster, image_of(image), snapshot) as one:
                data: bytes = one.read(0, one.size())
                return data
        return self.store.work(read, "read")

    @contextlib.contextmanager
    def opened(self, image: str) -> ty.Iterator[None]:
        """It is open for writing, as a guest's QEMU has it."""
        ready, over = threading.Event(), threading.Event()

        def hold(cluster: ty.Any) -> None:
            with rbd.opened(cluster, image_of(image), read_only=False):
                ready.set()
                over.wait(300)
        thread = threading.Thread(target=self.store.work, args=(hold, "open"))
        thread.start()
        try:
            assert ready.wait(60)
            yield
        finally:
            over.set()
            thread.join()

    def begin_flatten(self, image: str) -> None:
        """Leave a clone as a flatten does that is killed before it has copied an object."""
        def begin(cluster: ty.Any) -> None:
            with rbd.opened(cluster, image_of(image), read_only=False) as one:
                one.write(b"x", 0)  # an object map, if there were one, says that it is there
                prefix = one.block_name_prefix()
            with cluster.open_ioctx(image_of(image).pool) as ioctx:
                ioctx.remove_object(f"{prefix}.{0:016x}")
        self.store.work(begin, "begin")

    def features(self, image: str) -> int:
        def look(cluster: ty.Any) -> int:
            with rbd.opened(cluster, image_of(image)) as one:
                assert one.flags() == 0  # an object map, if there is one, is valid
                return int(one.features())
        return self.store.work(look, "look")

    def snapshots(self, image: str) -> list[str]:
        def names(cluster: ty.Any) -> list[str]:
            with rbd.opened(cluster, image_of(image)) as one:
                return [snap["name"] for snap in one.list_snaps()]
        return self.store.work(names, "list")

    def metadata(self, image: str) -> dict[str, str]:
        def look(cluster: ty.Any) -> dict[str, str]:
            with rbd.opened(cluster, image_of(image)) as one:
                return dict(one.metadata_list())
        return self.store.work(look, "list")


def image_of(name: str) -> RbdImage:
    pool, _, rest = name.partition("/")
    return RbdImage(pool, rest)


def with_channel(guest: labs.Guest, host: labs.Host) -> None:
    """Give a guest that is off a channel for an agent; no agent runs in it."""
    host.virsh("attach-device", "--config", guest.uuid, "/dev/stdin", input=(
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"))


def with_second_disk(guest: labs.Guest, host: labs.Host, pool: str = "vms",
                     target: str = "vdb") -> str:
    """Give a guest that is defined and off another disk; its image."""
    lab = guest.lab
    image = f"{pool}/{guest.uuid}_disk.{target}"
    lab.rbd("create", "--size", str(SIZE >> 20), image)
    host.virsh("attach-device", "--config", guest.uuid, "/dev/stdin", input=_DISK.format(
        user=ceph.USER, secret=lab.secret_uuid, image=image, monitor=lab.ceph.monitor_address,
        port=ceph.PORT, target=target))
    return image


@contextlib.contextmanager
def without_rights(lab: labs.Lab) -> ty.Iterator[str]:
    """A pool that the workers' user has no capability for."""
    run = lab.controller.run
    run(["ceph", "osd", "pool", "create", "closed", "8"])
    run(["rbd", "pool", "init", "closed"])
    try:
        yield "closed"
    finally:
        run(["ceph", "osd", "pool", "rm", "closed", "closed", "--yes-i-really-really-mean-it"])
