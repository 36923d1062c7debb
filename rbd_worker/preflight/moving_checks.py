# SPDX-License-Identifier: Apache-2.0
"""A guest at its source: is it free to go, and does everything it has go with it?"""

import pathlib

from rbd_worker.host import inspection
from rbd_worker.model import Executor
from rbd_worker.preflight import guest, guest_xml
from rbd_worker.preflight.bench import Bench, Check, Rows, Say
from rpcapi import preflight as contract

#: Filesystems that libvirt takes for shared between hosts, as the kernel names them.
SHARED = frozenset((
    "nfs", "nfs4", "cifs", "smb3", "ceph", "fuse.ceph", "fuse.ceph-fuse", "fuse.glusterfs",
    "ocfs2", "gfs2", "gpfs", "beegfs", "lustre", "fuse.quobyte"))


def _leaves(bench: Bench, request: contract.SurveyRequest) -> contract.Guest | None:
    """The guest, where it is this host that it is to leave."""
    return request.guest if request.asker == bench.settings.host else None


def _job(bench: Bench, request: contract.SurveyRequest, say: Say) -> Rows:
    leaving = _leaves(bench, request)
    if leaving is None:
        return
    control = inspection.control(bench.hypervisor.connection, leaving.instance)
    if control is None:
        yield say.failed("it does not run: a guest that is shut off cannot be live-migrated",
                         "Start it, or migrate it cold")
        return
    lasting = f" for {control.seconds:.1f} s" if control.seconds else ""
    match control.state:
        case "free":
            yield say.ok("no job, and its state change lock is free")
        case "job":
            yield say.failed(f"a job runs on it{lasting}: a migration, snapshot, dump or backup",
                             f"Wait for its end, see it with virsh domjobinfo {leaving.instance}")
        case "occupied":
            yield say.warning(f"a command holds its state change lock{lasting}",
                              "Ask again; if it stays so, its QEMU does not answer: see that the "
                              "guest is not hung on its disks, and libvirt's log for the holder")
        case "error":
            yield say.failed("libvirt has lost its monitor",
                             "See the guest's log in /var/log/libvirt/qemu; it cannot be managed "
                             "until it is started anew")


def _disks(bench: Bench, request: contract.SurveyRequest, say: Say) -> Rows:
    leaving = _leaves(bench, request)
    if leaving is None:
        return
    disks = guest_xml.local_disks(guest.described(bench, leaving.instance))
    if not disks:
        yield say.ok("every disk is on the network")
    for disk in disks:
        yield _judged(bench, disk, guest.directory_of(bench, leaving.instance), say)


def _judged(bench: Bench, disk: guest_xml.Disk, directory: str, say: Say) -> contract.Row:
    told = f"{disk.target} is {disk.path or disk.kind}"
    if disk.kind == "block":
        return say.ok(f"{told}, a block device; the row guest.local-files tells of it there")
    if not disk.is_read_only:
        kind = filesystem(disk.path, pathlib.Path("/proc/self/mounts").read_text())
        if kind in SHARED:
            return say.ok(f"{told}, on a shared filesystem ({kind})")
        return say.failed(f"{told}, on {kind or 'an unknown filesystem'} of this host alone, and "
                          "is written to: libvirt refuses it as unsafe",
                          "Move it to RBD, or have Nova copy it (openstack server migrate "
                          "--live-migration --block-migration)")
    if not disk.is_in(directory):
        return say.ok(f"{told}, read only; the row guest.local-files tells of it there")
    if bench.settings.executor is Executor.LIBVIRT:
        return say.ok(f"{told}, read only: rbd-worker takes it along")
    return say.warning(f"{told}: Nova copies a config drive from host to host by itself",
                       "See that Nova's user reaches the destination by what "
                       "remote_filesystem_transport names, without a password")


def _devices(bench: Bench, request: contract.SurveyRequest, say: Say) -> Rows:
    leaving = _leaves(bench, request)
    if leaving is None:
        return
    tied = guest_xml.tied(guest.described(bench, leaving.instance))
    if not tied:
        yield say.ok("no device is passed through from this host")
    elif bench.settings.executor is Executor.LIBVIRT:
        yield say.failed(f"it has {', '.join(tied)} of this host",
                         "Detach what is passed through, or move the guest cold")
    else:
        yield say.warning(f"it has {', '.join(tied)} of this host",
                          "Nova moves only network ports and mdevs of some kinds so: see that "
                          "it takes this one, or detach it")


CHECKS = (Check("guest.job", _job), Check("guest.disks", _disks),
          Check("guest.devices", _devices))


def filesystem(path: str, mounts: str) -> str:
    """The kernel's name for the filesystem that ``path`` is on; empty for unknown.

    :param mounts: the text of ``/proc/self/mounts``.
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        _, place, name = line.split(" ", 3)[:3]
        place = place.replace(r"\040", " ")
        if pathlib.PurePath(path).is_relative_to(place) and len(place) >= len(best):
            best, kind = place, name
    return kind
