# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl snapshot rollback|copy``: what takes long, with its progress."""

import argparse
import time
import typing as ty

from rbd_worker import errors
from rbd_worker.cli import base
from rbd_worker.cli.snapshot import add_names, check_pool, name_request, operator
from rbd_worker.host import peers
from rpcapi import snapshots as contract

if ty.TYPE_CHECKING:
    from rpcapi import client as rpc_client

#: Seconds between two looks, and for which a worker that restarts is waited for.
INTERVAL, PATIENCE = 0.5, 60.0
#: Exit status where it failed.
FAILED = 4


class SnapshotRollback(base.Command):
    """Have all disks of an instance as they were at a snapshot; for a guest that is off.

    What is on the disks now is lost, except for a snapshot that is taken
    first and kept for a week. No client of Ceph may have a disk open. If one
    disk cannot be rolled back the others return to what they were. The exit
    status is 0 where all disks are as at the snapshot, 4 where it failed.
    """

    examples = ("snapshot rollback a05482ec-d71a-48c7-bf99-94d829b20aef before-upgrade",)

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_names(parser)
        base.add_yes(parser)
        base.add_host(parser)
        return parser

    def take_action(self, parsed: argparse.Namespace) -> None:
        host = self.host(parsed)
        named = name_request(parsed)
        self.confirm(parsed, f"replace what is on the disks of {named.instance} by snapshot "
                             f"{named.name}?")
        client = self.control.client()
        with peers.translated(host):
            job = contract.rollback(client, host, contract.RollbackRequest(
                instance=named.instance, name=named.name, by=operator()))
        print(f"what was on the disks is kept for a week as snapshot {job.safety}",
              file=self.app.stderr)
        self.exit_status = follow(client, host, job, self.app.stdout)


class SnapshotCopy(base.Command):
    """Copy a snapshot into another pool, as images that depend on nothing.

    Each disk POOL/IMAGE becomes IMAGE.NAME there. It is cloned and then
    flattened in the background: after Ctrl-C, or with --no-wait, it goes on,
    and so it does after a restart of the worker. The same command again shows
    its progress; so does 'snapshot show'. The exit status is 0 where it is
    whole (or, with --no-wait, begun), 4 where it failed.
    """

    examples = (
        "snapshot copy a05482ec-d71a-48c7-bf99-94d829b20aef nightly --pool backup",
        "snapshot copy a05482ec-d71a-48c7-bf99-94d829b20aef nightly --pool backup --no-wait",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_names(parser)
        parser.add_argument("--pool", required=True, metavar="POOL",
                            help="where to; not the one that Nova keeps its disks in")
        parser.add_argument("--no-wait", action="store_true", help="do not wait for its end")
        base.add_host(parser)
        return parser

    def take_action(self, parsed: argparse.Namespace) -> None:
        host = self.host(parsed)
        named = name_request(parsed)
        client = self.control.client()
        with peers.translated(host):
            job = contract.copy(client, host, contract.CopyRequest(
                instance=named.instance, name=named.name, pool=check_pool(parsed.pool),
                by=operator()))
        if parsed.no_wait:
            print(job.id, file=self.app.stdout)
            return
        self.exit_status = follow(client, host, job, self.app.stdout)


def follow(client: "rpc_client.Client", host: str, job: contract.Job, stream: ty.TextIO) -> int:
    """Show a job until it has ended; the exit status.

    :raises errors.Error: the host is away for too long.
    """
    with _Bars(stream) as bars:
        for look in _looks(client, host, job):
            bars.show(look)
    if look.state == "failed":
        print(f"it failed: {look.reason}", file=stream)
        return FAILED
    for disk in look.disks:
        print(f"{disk.image} {'is copied to ' + disk.target if disk.target else 'is rolled back'}",
              file=stream)
    return 0


def _looks(client: "rpc_client.Client", host: str, job: contract.Job,
           ) -> ty.Iterator[contract.Job]:
    until = time.monotonic() + PATIENCE
    while True:
        yield job
        if job.state != "doing":
            return
        time.sleep(INTERVAL)
        try:
            with peers.translated(host):
                job = contract.job(client, host, job.id)
            until = time.monotonic() + PATIENCE
        except errors.Transient:
            if time.monotonic() > until:
                raise


class _Bars:
    """A bar for each disk on a terminal; elsewhere a line when something changes."""

    def __init__(self, stream: ty.TextIO) -> None:
        from rich import console, progress  # slow to import, and only needed here

        self._console = console.Console(file=stream)
        self._progress = progress.Progress(console=self._console, transient=True)
        self._tasks: dict[str, progress.TaskID] = {}
        self._said: set[str] = set()

    def show(self, job: contract.Job) -> None:
        if job.reason and job.state == "doing":
            self._say(f"it waits: {job.reason}")
        for disk in job.disks:
            if not self._console.is_terminal:
                self._say(f"{disk.image}: {disk.state}")
                continue
            if disk.image not in self._tasks:
                self._tasks[disk.image] = self._progress.add_task(disk.image, total=1.0)
            self._progress.update(self._tasks[disk.image], completed=disk.share)

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._progress.console.print(text, highlight=False, soft_wrap=True)

    def __enter__(self) -> ty.Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._progress.stop()
