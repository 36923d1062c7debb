# SPDX-License-Identifier: Apache-2.0
"""The lab as one object: everything that tests and demos ask of it.

``startup.py`` brings it up and down; this file is about a lab that runs.
"""

import collections.abc
import dataclasses
import json
import pathlib
import shutil
import typing as ty

from devstack.lab import broker, ceph, compute, guests, layout, processes, ssh, worker
from devstack.lab.host import Host


@dataclasses.dataclass(frozen=True)
class State:
    """What a lab has to remember about itself; kept as JSON in its directory."""

    slot: int
    fsid: str
    secret_uuid: str
    broker_password: str
    virt_type: str
    keys: dict[str, str]
    broker_nodes: int = 1


@dataclasses.dataclass(frozen=True)
class Lab:
    """A running lab."""

    lay: layout.Layout
    state: State
    hosts: collections.abc.Mapping[str, Host]

    @property
    def root(self) -> pathlib.Path:
        return self.lay.root

    @property
    def secret_uuid(self) -> str:
        """Of the Ceph secret that both hosts' libvirt knows."""
        return self.state.secret_uuid

    @property
    def virt_type(self) -> str:
        """``kvm`` where this machine can, else ``qemu``."""
        return self.state.virt_type

    def host(self, name: str) -> Host:
        return self.hosts[name]

    @property
    def controller(self) -> Host:
        return self.hosts[layout.CONTROLLER]

    @property
    def computes(self) -> list[compute.Compute]:
        return [compute.Compute(self.hosts[name]) for name in layout.COMPUTES]

    def libvirt(self, at: Host) -> compute.Compute:
        """libvirtd of that host: stop, start, restart, kill9."""
        return compute.Compute(at)

    @property
    def brokers(self) -> list[broker.Broker]:
        """Every node of RabbitMQ; more than one form a cluster."""
        names = layout.broker_hosts(self.state.broker_nodes)
        return [broker.Broker(self.hosts[name], self.state.broker_password, names)
                for name in names]

    @property
    def broker(self) -> broker.Broker:
        """The only node, or the first of a cluster."""
        return self.brokers[0]

    @property
    def broker_url(self) -> str:
        """For ``transport_url``, with all nodes; works from the hosts and from outside."""
        return broker.url(self.brokers)

    @property
    def ceph(self) -> ceph.Ceph:
        return ceph.Ceph(self.controller, self.state.fsid, ceph.Keys(**self.state.keys))

    def rbd(self, *argv: str, check: bool = True, input: bytes | None = None) -> str:
        """What ``rbd ARGV`` prints, run as Ceph's administrator."""
        return self.ceph.rbd(*argv, check=check, input=input)

    def watchers(self, image: str) -> list[str]:
        """IP addresses of the clients that hold ``pool/image`` open."""
        return self.ceph.watchers(image)

    def images(self) -> list[str]:
        """All images as ``pool/name``."""
        return [f"{pool}/{name}" for pool in ceph.POOLS for name in self.rbd("ls", pool).split()]

    def cut(self, a: Host, b: Host) -> None:
        """Lose everything that two hosts send to each other, silently."""
        a.divert(b, cut=True)
        b.divert(a, cut=True)

    def heal(self) -> None:
        """End every cut and put every cable back."""
        for one in self.hosts.values():
            one.plug(connected=True)
            for other in self.hosts.values():
                if other is not one:
                    one.divert(other, cut=False)

    def define_guest(self, at: Host, **options: ty.Any) -> guests.Guest:
        """A new guest; see :func:`devstack.lab.guests.define` for the options."""
        return guests.define(self, at, **options)

    def write_config(self, at: Host, **options: ty.Any) -> None:
        """Configure a worker; see :func:`devstack.lab.worker.write_config`."""
        worker.write_config(self, at, **options)

    def start_worker(self, at: Host, prefix: collections.abc.Sequence[str] = (),
                     ) -> worker.Worker:
        """Start rbd-worker there; see :func:`devstack.lab.worker.start`."""
        return worker.start(at, prefix)

    def enable_ssh(self) -> None:
        """Let root log in from each compute host to the other, without a password."""
        ssh.enable([each.host for each in self.computes])

    def install_hook(self, at: Host, text: str) -> None:
        """Make ``text`` libvirt's hook for guests; libvirtd sees a first hook at start only."""
        at.write("/etc/libvirt/hooks/qemu", text, 0o755)
        self.libvirt(at).restart()

    def reset(self) -> None:
        """Back to a fresh lab: no workers, guests, directories, images, queues."""
        self.thaw()
        for each in self.computes:
            worker.service(each.host).kill9()
            each.start()
        for each in self.computes:
            each.destroy_all()
            _empty(each.host.root / "var/lib/nova")
            for path in ("etc/nova", "etc/rbd-worker", "etc/libvirt/hooks"):
                _empty(each.host.root / path)
            each.host.nova_instances.mkdir()
        self._remove_images()
        broker.start_all(self.brokers)
        self.broker.reset()

    def _remove_images(self) -> None:
        """Clones before what they were cloned of, snapshots where there are any.

        The watch of a client that was killed ends after ten seconds.
        """
        for image in self.images():
            self.rbd("rm", "--no-progress", image, check=False)

        def are_gone() -> bool:
            left = self.images()
            for image in left:
                self._remove_with_snapshots(image)
            return not left

        processes.wait_until(are_gone, 30, "the removal of all images", seen=self.images)

    def _remove_with_snapshots(self, image: str) -> None:
        found = self.rbd("snap", "ls", "--format", "json", image, check=False)
        for snapshot in json.loads(found or "[]"):
            self.rbd("snap", "unprotect", f"{image}@{snapshot['name']}", check=False)
        self.rbd("snap", "purge", "--no-progress", image, check=False)
        self.rbd("rm", "--no-progress", image, check=False)

    def thaw(self) -> None:
        """Let every part go on that was frozen, and :meth:`heal` the network."""
        for service in (self.ceph.mon, self.ceph.osd, *(each.service for each in self.brokers),
                        *(each.service for each in self.computes)):
            if service.is_running():
                service.resume()
        self.heal()

    def down(self) -> None:
        """End it without a trace."""
        from devstack.lab import startup
        startup.down(self.root)


def _empty(directory: pathlib.Path) -> None:
    if not directory.is_dir():
        return
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
