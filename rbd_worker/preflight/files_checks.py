# SPDX-License-Identifier: Apache-2.0
"""instances_path on this host, and the directory of the guest that is to move."""

import errno
import os
import pwd
import stat

from rbd_worker import errors
from rbd_worker.host import listing, syscalls
from rbd_worker.preflight.bench import Bench, Check, Comparison, Rows, Say
from rpcapi import preflight as contract

#: Below this a move may fail: a config drive is 64 MiB, and stands here twice for a moment,
#: staged and placed.
LEAST_BYTES = 128 << 20
#: Files and directories that one guest may bring along, with room for Nova's own.
LEAST_INODES = 1000
#: Nova's user in all distributions' packages.
NOVA = "nova"


def _path(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    try:
        with bench.directories.opened() as base:
            own, above = os.fstat(base), os.stat("..", dir_fd=base)
    except (errors.InstancesPathAway, errors.FileSystemFailed, errors.AccessDenied) as e:
        yield say.failed(str(e), e.remedy.format(**e.data)
                         or "Make the directory, or mount its file system")
        return
    kind = "a mount of its own" if own.st_dev != above.st_dev else "on its parent's file system"
    yield say.ok(f"{bench.directories.path} is there, {kind}")


def _writable(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    """A file without a name: nothing is left, whatever happens."""
    path = bench.directories.path
    with bench.directories.opened() as base:
        try:
            os.close(os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=base))
        except OSError as e:
            if e.errno in (errno.EOPNOTSUPP, errno.EISDIR):
                yield say.unknown(f"{path}: this file system has no files without a name to try")
            else:
                yield say.failed(f"{path}: user {os.geteuid()} cannot write: {e.strerror}",
                                 "Run the worker as Nova's user or with the capabilities of its "
                                 "unit; see that the file system is not mounted read-only")
            return
    yield say.ok(f"user {os.geteuid()} can write there")


def _owner(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    path = bench.directories.path
    with bench.directories.opened() as base:
        status = os.fstat(base)
    mode = stat.S_IMODE(status.st_mode)
    expected = _nova()
    fix = f"chown {NOVA}: {path}; chmod o-w {path}"
    if mode & 0o002 and not mode & stat.S_ISVTX:
        yield say.failed(f"{path} has mode {mode:o}: every user may rename what is in it", fix)
    elif status.st_uid not in expected:
        yield say.warning(f"{path} belongs to user {status.st_uid}, neither Nova's nor "
                          "the worker's", fix)
    else:
        yield say.ok(f"{path} belongs to user {status.st_uid}, mode {mode:o}")


def _nova() -> set[int]:
    """Who may own it: Nova's user, where there is one, and this worker's own."""
    try:
        return {pwd.getpwnam(NOVA).pw_uid, os.geteuid()}
    except KeyError:
        return {os.geteuid()}


def _area(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    """The worker's own directories, where what is copied and what is removed goes."""
    for name in ("staging", "trash", "nonce"):
        try:
            os.close(bench.directories.area(name))
        except (errors.UnsafeDirectory, errors.FileSystemFailed, errors.AccessDenied) as e:
            yield say.failed(str(e), "chown it to the worker's user and chmod it to 0700, or move "
                                     "it away by hand: it is made anew")
            return
    yield say.ok("staging, trash and nonce belong to the worker alone")


def _space(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    path, most = bench.directories.path, bench.directories.limits.max_data_bytes
    with bench.directories.opened() as base:
        status = os.fstatvfs(base)
    free = status.f_bavail * status.f_frsize
    found = f"{path}: {free >> 20} MiB and {status.f_favail} inodes free"
    fix = "Free space there, with 'rbd-workerctl trash purge' for one"
    if free < LEAST_BYTES or (status.f_files and status.f_favail < LEAST_INODES):
        yield say.failed(found, fix)
    elif free < most:
        yield say.warning(f"{found}; an instance directory may hold {most >> 20} MiB",
                          f"{fix}; or lower [rbd_worker] max_data_gib if yours are small")
    else:
        yield say.ok(found)


def _leftover(bench: Bench, request: contract.SurveyRequest, say: Say) -> Rows:
    """At the destination: does something of this guest stand here already?"""
    if request.guest is None or request.asker == bench.settings.host:
        return
    instance = request.guest.instance
    if bench.hypervisor.description(instance) is not None:
        yield say.failed(f"libvirt here already has a guest {instance}",
                         "Look at it with 'virsh list --all'; if it is left over and not the "
                         "running one, undefine it")
        return
    pinned = bench.directories.pin(instance)
    if pinned is None:
        yield say.ok(f"nothing of {instance} stands here")
        return
    with pinned:
        yield say.warning(
            f"{pinned.label} is left over; the worker moves it to the trash as the migration "
            "begins if the three witnesses agree, else Nova fails with DestinationDiskExists",
            "See beforehand what they say: rbd-workerctl audit, on this host")


def _source_directory(bench: Bench, request: contract.SurveyRequest, say: Say) -> Rows:
    """At the source: can all of it be carried?"""
    if request.guest is None or request.asker != bench.settings.host:
        return
    pinned = bench.directories.pin(request.guest.instance)
    if pinned is None:
        yield say.warning(f"no directory of {request.guest.instance} stands here",
                          "Nothing can be carried along; see why the guest has none")
        return
    with pinned, syscalls.translated(pinned.label):
        try:
            found = listing.scan(pinned.fd, pinned.label, bench.directories.limits)
        except (errors.UnsafeDirectory, errors.DirectoryTooLarge) as e:
            yield say.failed(str(e), e.remedy.format(**e.data))
            return
        listing.close(found)
        held = sum(each.status.st_blocks * 512 for each in found)
        yield say.ok(f"{len(found)} files and directories, {held >> 10} KiB")


CHECKS = (Check("files.path", _path), Check("files.writable", _writable),
          Check("files.owner", _owner), Check("files.area", _area),
          Check("files.space", _space), Check("files.leftover", _leftover),
          Check("files.source", _source_directory))


def _same_path(source: contract.Traits, destination: contract.Traits, say: Say) -> Rows:
    """The guest's XML has the path of its console, which the destination's QEMU opens."""
    if not source.instances_path or not destination.instances_path:
        yield say.unknown("one of the hosts did not tell its instances_path")
    elif source.instances_path != destination.instances_path:
        yield say.failed(f"{source.instances_path} here, {destination.instances_path} on "
                         f"{destination.host}", "Set instances_path alike on all hosts")
    else:
        yield say.ok(f"{source.instances_path} on both")


def _shared(_source: contract.Traits, destination: contract.Traits, say: Say) -> Rows:
    if destination.sees_nonce is None:
        yield say.unknown(f"{destination.host} cannot tell whether it has the same directory",
                          "Nothing is copied or removed meanwhile; see the rows files.path")
    elif destination.sees_nonce:
        yield say.ok(f"shared with {destination.host}: nothing is copied and nothing removed")
    else:
        yield say.ok(f"not shared with {destination.host}")


COMPARISONS = (Comparison("files.same-path", _same_path), Comparison("files.shared", _shared))
