# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl migration``: what the journal of a host says."""

import argparse
import typing as ty

from rbd_worker import errors
from rbd_worker.cli import base
from rbd_worker.migration import history as histories
from rpcapi import history as contract


class MigrationList(base.Lister):
    """List the newest migrations of a host, or those that are open."""

    nothing = "no migration is recorded"
    examples = (
        "migration list --open",
        "migration list --limit 10 -f json",
        "migration list --host node2",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--open", action="store_true",
                            help="only those that have not ended, unresolved ones included")
        parser.add_argument("--limit", type=base.positive, default=50, metavar="N",
                            help="at most so many (default: 50)")
        base.add_host(parser)
        return parser

    def take_action(self, parsed: argparse.Namespace) -> tuple[tuple[str, ...], ty.Any]:
        request = contract.HistoryRequest(open_only=parsed.open)
        entries = contract.pages(self.control.history(parsed.host), request, parsed.limit)
        return (("Migration", "Instance", "Role", "Peer", "Phase", "Outcome", "Opened", "Why"),
                [(e.migration, e.instance, e.role,
                  e.destination if e.role == "source" else e.source, e.phase,
                  e.outcome or "open", base.when(e.opened), e.reason) for e in entries])


class MigrationShow(base.Lister):
    """Show one migration's records in order, with the milliseconds of each step."""

    nothing = ""
    examples = (
        "migration show 0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10",
        "migration show 0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10 --draw",
        "migration show 0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10 --host node2 -f json",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("migration", help="its UUID, as 'migration list' shows it")
        parser.add_argument("--draw", action="store_true",
                            help="draw the steps over time, also where this is no terminal")
        base.add_host(parser)
        return parser

    def take_action(self, parsed: argparse.Namespace) -> tuple[tuple[str, ...], ty.Any]:
        page = self.control.history(parsed.host)(contract.HistoryRequest(
            migration=parsed.migration, records=True))
        if not page.entries:
            raise errors.UnknownMigration(migration=parsed.migration, host=page.host)
        self._entries = page.entries
        rows = [row for entry in page.entries for row in _rows(entry)]
        return ("Role", "At", "ms", "Step", "State", "Data"), rows

    def produce_output(self, parsed: argparse.Namespace, column_names: ty.Any,
                       data: ty.Any) -> int:
        status = super().produce_output(parsed, column_names, data)
        if parsed.formatter == "table" and (parsed.draw or self.app.stdout.isatty()):
            from rbd_worker.cli import drawing

            for entry in self._entries:
                drawing.draw(entry, self.app.stdout)
        return int(status)


def _rows(entry: contract.Entry) -> list[tuple[str, ...]]:
    role = entry.role
    rows: list[tuple[str, ...]] = [
        (role, base.when(entry.opened), "", "(opened)", entry.executor, "")]
    before = entry.opened
    for record in entry.records:
        data = histories.data_of(record)
        rows.append((role, base.when(record.at), f"{(record.at - before) * 1000:.0f}",
                     record.step, record.state,
                     errors.printable(", ".join(f"{k}={v}" for k, v in data.items()))))
        before = record.at
    if entry.closed:
        rows.append((role, base.when(entry.closed), f"{(entry.closed - before) * 1000:.0f}",
                     "(closed)", entry.outcome, entry.reason))
    elif entry.outcome:
        rows.append((role, "", "", "(open)", entry.outcome, entry.reason))
    return rows
