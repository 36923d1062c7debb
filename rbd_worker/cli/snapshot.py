# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl snapshot``: all RBD disks of an instance at one point."""

import argparse
import getpass
import re
import typing as ty

from rbd_worker import errors, model
from rbd_worker.cli import base, times
from rbd_worker.host import peers
from rbd_worker.snapshots.sets import check_name
from rpcapi import snapshots as contract


class SnapshotCreate(base.ShowOne):
    """Take a snapshot of all RBD disks of an instance, on the host that has it.

    The disks are brought to one point as well as it goes: by the guest's agent,
    which freezes its file systems; without one, a single disk is as after a
    power loss, and several are taken one after the other, with a warning.
    While a snapshot is there Ceph does not let Nova remove the disk: give a
    time with --expires, or delete it before the instance.
    """

    examples = (
        "snapshot create a05482ec-d71a-48c7-bf99-94d829b20aef before-upgrade",
        'snapshot create a05482ec-d71a-48c7-bf99-94d829b20aef nightly --expires 7d \\\n'
        '      --host node2 --note "ticket 4711"',
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_names(parser)
        parser.add_argument("--expires", metavar="TIME", type=times.seconds, default=0,
                            help="remove it by itself after so long: 12h, 7d, 4w (default: never)")
        parser.add_argument("--note", default="", help="kept with it")
        parser.add_argument("--freeze", choices=("auto", "always", "never"), default="auto",
                            help="file systems of a running guest: as its agent can (default), or "
                                 "no snapshot without it, or leave them alone")
        base.add_host(parser)
        return parser

    def take_action(self, parsed: argparse.Namespace) -> tuple[ty.Any, ty.Any]:
        host = self.host(parsed)
        request = contract.CreateRequest(
            instance=model.canonical_uuid(parsed.instance), name=check_name(parsed.name),
            by=operator(), note=parsed.note[:1024], expires_in=parsed.expires,
            freeze=parsed.freeze)
        with peers.translated(host):
            reply = contract.create(self.control.client(), host, request)
        for warning in reply.warnings:
            print(f"warning: {warning}", file=self.app.stderr)
        return shown(reply.snapshot)


class SnapshotList(base.Lister):
    """List the snapshots of an instance, or all that a host took.

    Of an instance that the host has, all that its disks have are listed,
    whichever host took them.
    """

    nothing = "no snapshot is known"
    examples = (
        "snapshot list",
        "snapshot list a05482ec-d71a-48c7-bf99-94d829b20aef --host node2 -f json",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("instance", nargs="?", metavar="INSTANCE", help="its UUID")
        base.add_host(parser)
        return parser

    def take_action(self, parsed: argparse.Namespace) -> tuple[tuple[str, ...], ty.Any]:
        host = self.host(parsed)
        instance = None if parsed.instance is None else model.canonical_uuid(parsed.instance)
        with peers.translated(host):
            found = contract.snapshots(self.control.client(), host,
                                       contract.ListRequest(instance=instance)).snapshots
        if instance is not None and not found:
            print(f"no snapshot of {instance} is known on {host}; whoever took it and the host "
                  "that has the guest know of it (--host)", file=self.app.stderr)
        return (("Name", "Instance", "Taken", "By", "On", "State", "How", "Disks", "Expires"),
                [(s.name, s.instance, base.when(s.at), s.by, s.host, s.state, s.how,
                  len(s.disks), base.when(s.expires or None)) for s in found])


class SnapshotShow(base.ShowOne):
    """Show one snapshot: who took it, when, how, and each of its disks as Ceph has it now."""

    examples = ("snapshot show a05482ec-d71a-48c7-bf99-94d829b20aef nightly",)

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_names(parser)
        base.add_host(parser)
        return parser

    def take_action(self, parsed: argparse.Namespace) -> tuple[ty.Any, ty.Any]:
        host = self.host(parsed)
        request = name_request(parsed)
        with peers.translated(host):
            return shown(contract.show(self.control.client(), host, request))


class SnapshotDelete(base.Command):
    """Remove a snapshot from all disks, unless anything was cloned of it."""

    examples = (
        "snapshot delete a05482ec-d71a-48c7-bf99-94d829b20aef nightly",
        "snapshot delete a05482ec-d71a-48c7-bf99-94d829b20aef nightly --yes --host node2",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_names(parser)
        base.add_yes(parser)
        base.add_host(parser)
        return parser

    def take_action(self, parsed: argparse.Namespace) -> None:
        host = self.host(parsed)
        request = name_request(parsed)
        self.confirm(parsed, f"remove snapshot {request.name} of {request.instance} for good?")
        with peers.translated(host):
            reply = contract.delete(self.control.client(), host, request)
        print(reply.done, file=self.app.stdout)


def name_request(parsed: argparse.Namespace) -> contract.NameRequest:
    """:raises errors.BadInput: what was given can be no instance or no snapshot."""
    return contract.NameRequest(instance=model.canonical_uuid(parsed.instance),
                                name=check_name(parsed.name))


def check_pool(name: str) -> str:
    """:raises errors.BadInput: no pool can be called so."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", name):
        raise errors.BadInput(what=f"pool {name[:80]!r}",
                              reason="it has to be of letters, digits, '.', '_' and '-'")
    return name


def operator() -> str:
    """Who asks, as far as this host knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without an entry in passwd
        return ""


def shown(snapshot: contract.Snapshot) -> tuple[tuple[str, ...], tuple[ty.Any, ...]]:
    rows = {"name": snapshot.name, "instance": snapshot.instance,
            "taken": base.when(snapshot.at), "by": snapshot.by, "on": snapshot.host,
            "note": snapshot.note, "state": snapshot.state, "how": snapshot.how,
            "expires": base.when(snapshot.expires or None),
            "disks": base.Lines([_disk(disk) for disk in snapshot.disks]),
            "jobs": base.Lines([_job(job) for job in snapshot.jobs])}
    return tuple(rows), tuple(rows.values())


def _disk(disk: contract.Disk) -> str:
    name = f"{disk.image}@{disk.snapshot}"
    if not disk.id:
        return f"{name} is not there"
    words = [f"{disk.size / (1 << 20):,.1f} MiB"]
    words += ["protected"] if disk.protected else []
    words += [f"cloned as {child}" for child in disk.children]
    return f"{name} {', '.join(words)}"


def _job(job: contract.Job) -> str:
    share = sum(disk.share for disk in job.disks) / max(1, len(job.disks))
    words = [f"{job.kind} {job.id}: {job.state}"]
    words += [f"{share:.0%}"] if job.state == "doing" else []
    words += [job.reason] if job.reason else []
    return ", ".join(words)


def add_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("instance", metavar="INSTANCE", help="its UUID")
    parser.add_argument("name", metavar="NAME", help="of the snapshot: letters, digits, '.', '_' "
                                                     "and '-', at most 64")
