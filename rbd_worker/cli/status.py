# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl status``: is the worker there, does it hear, what is open."""

import argparse
import typing as ty

from rbd_worker import errors
from rbd_worker.cli import base
from rbd_worker.host import peers
from rbd_worker.model import Outcome


class Status(base.ShowOne):
    """Show this host's worker, or with --host another one's."""

    examples = (
        "status",
        "status --host node2 -f json",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        base.add_host(parser)
        return parser

    def take_action(self, parsed: argparse.Namespace) -> tuple[ty.Any, ty.Any]:
        settings = self.control.settings
        rows = dict(self._asked(self.host(parsed)))
        if parsed.host in (None, settings.host):
            rows |= self._read()
        return tuple(rows), tuple(rows.values())

    def _asked(self, host: str) -> ty.Iterator[tuple[str, ty.Any]]:
        """What the running worker says of itself."""
        yield "host", host
        try:
            client = self.control.client()
            answer = peers.Peers(client, self.control.settings.host).describe(host)
        except errors.Error as e:
            yield "worker", f"no answer: {self.sentence(e)}"
            return
        yield "worker", f"runs, version {answer.worker_version}, RPC {answer.rpc_version}"
        yield "executor", answer.executor
        yield "started", base.when(answer.started)
        yield "hearing", answer.hearing
        yield "open migrations", answer.open_entries
        yield "unresolved", answer.unresolved
        yield "troubles", "; ".join(answer.troubles) or "none"

    def _read(self) -> dict[str, ty.Any]:
        """What the journal says, also where no worker runs."""
        try:
            reader = self.control.journal()
        except errors.JournalUnusable as e:
            return {"journal": e.sentence}
        entries = reader.open_entries()
        return {"journal": str(reader.path), "open migrations": len(entries),
                "unresolved": sum(e.outcome is Outcome.UNRESOLVED for e in entries),
                "refusals": len(reader.refusals(1000))}
