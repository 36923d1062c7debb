# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl migration watch``: one migration's live progress."""

import argparse
import time
import typing as ty

from rbd_worker import errors
from rbd_worker.cli import base
from rbd_worker.host import peers
from rpcapi import control as contract

if ty.TYPE_CHECKING:
    from rich import table

    from rpcapi import client as rpc_client

#: Seconds between two looks.
INTERVAL = 0.5
#: A worker that restarts is waited for so long, in seconds.
PATIENCE = 30.0
#: Exit status where it has not completed.
NOT_COMPLETED = 4


class MigrationWatch(base.Command):
    """Show the progress of a migration until it has ended.

    Phase, memory remaining, rate, passes over the memory, permitted downtime
    and an estimate, as libvirt on the source tells them; the executor does not
    matter. The exit status is 0 where it has completed, 4 where it has failed,
    was cancelled or is unresolved.
    """

    examples = (
        "migration watch 0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10",
        "migration watch 0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10 --once --host node2",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("migration", help="its UUID, as 'migration list --open' shows it")
        parser.add_argument("--once", action="store_true", help="one look only")
        base.add_host(parser)
        return parser

    def take_action(self, parsed: argparse.Namespace) -> None:
        watch = Watch(self.control.client(), self.host(parsed), parsed.migration)
        self.exit_status = watch.follow(self.app.stdout, once=parsed.once)


class Watch:
    """Follows one migration on one host."""

    def __init__(self, client: "rpc_client.Client", host: str, migration: str, *,
                 was_heard: bool = False) -> None:
        """:param was_heard: the host has answered already, so that it is worth waiting for."""
        self._client = client
        self._host = host
        self._migration = migration
        self._until = time.monotonic() + PATIENCE if was_heard else 0.0

    def follow(self, stream: ty.TextIO, *, once: bool = False) -> int:
        """Show it until it has ended or is unresolved; the exit status.

        :param once: show it as it is now; 0 also where it is still open.
        :raises errors.Error: the host does not know it, does not answer at first, or is away
            for too long.
        """
        with _Screen(stream) as screen:
            for roles in self._looks():
                screen.show(roles)
                if once:
                    break
        ended = [role for role in roles if role.closed or role.outcome]
        return 0 if all(role.outcome == "completed" for role in ended) else NOT_COMPLETED

    def _looks(self) -> ty.Iterator[tuple[contract.Progress, ...]]:
        while True:
            try:
                with peers.translated(self._host):
                    roles = contract.progress(self._client, self._host, self._migration).roles
            except errors.Transient:
                if time.monotonic() > self._until:
                    raise
                time.sleep(INTERVAL)
                continue
            self._until = time.monotonic() + PATIENCE
            yield roles
            if all(role.closed or role.outcome for role in roles):
                return
            time.sleep(INTERVAL)


class _Screen:
    """A picture that changes in place on a terminal; elsewhere one after the other."""

    def __init__(self, stream: ty.TextIO) -> None:
        from rich import console, live  # slow to import, and only needed here

        self._console = console.Console(file=stream)
        self._live = live.Live(console=self._console, refresh_per_second=4)
        self._before: list[tuple[str, str]] = []

    def show(self, roles: ty.Sequence[contract.Progress]) -> None:
        if self._console.is_terminal:
            self._live.update(drawn(roles))
            return
        lines = [pair for role in roles for pair in rows(role)]
        for name, value in lines:
            if (name, value) not in self._before:
                print(f"{name:10} {value}", file=self._console.file, flush=True)
        self._before = lines

    def __enter__(self) -> ty.Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()


def drawn(roles: ty.Sequence[contract.Progress]) -> "table.Table":
    """What is shown of one look, as two columns; a name in brackets is no markup."""
    from rich import table, text

    grid = table.Table.grid(padding=(0, 2))
    for role in roles:
        for name, value in rows(role):
            grid.add_row(name, text.Text(value))
    return grid


def rows(role: contract.Progress) -> ty.Iterator[tuple[str, str]]:
    """One role's state as pairs for people."""
    yield "migration", role.migration
    yield "instance", f"{role.instance}, {role.source} to {role.destination}"
    yield "phase", f"{role.phase} as {role.role}, {role.step or 'nothing recorded yet'}"
    if role.moving:
        done = role.memory_total - role.memory_remaining
        share = done / role.memory_total if role.memory_total else 0
        yield "memory", (f"{_bar(share)} {share:4.0%}, {_mib(role.memory_remaining)} of "
                         f"{_mib(role.memory_total)} remaining")
        yield "rate", f"{_mib(role.rate)}/s, pass {role.iteration}, {role.mode}"
        yield "estimate", _estimate(role)
    yield "outcome", role.outcome or "open"
    if role.reason:
        yield "why", role.reason


def _estimate(role: contract.Progress) -> str:
    limit = f", downtime of at most {role.downtime_limit} ms" if role.downtime_limit else ""
    if not role.rate:
        return f"not known yet{limit}"
    return f"{role.memory_remaining / role.rate:.1f} s if the guest writes no more{limit}"


def _bar(share: float, width: int = 20) -> str:
    full = round(min(max(share, 0.0), 1.0) * width)
    return "█" * full + "░" * (width - full)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
