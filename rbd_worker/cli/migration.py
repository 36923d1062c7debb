# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl migration``: what the journal of this host says."""

import argparse
import typing as ty

from rbd_worker import errors
from rbd_worker.cli import base
from rbd_worker.migration import journal
from rbd_worker.model import Role


class MigrationList(base.Lister):
    """List the newest migrations of this host, or those that are open."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--open", action="store_true",
                            help="only those that have not ended, unresolved ones included")
        parser.add_argument("--limit", type=int, default=50, metavar="N",
                            help="at most so many (default: 50)")
        return parser

    def take_action(self, parsed: argparse.Namespace) -> tuple[tuple[str, ...], ty.Any]:
        reader = self.control.journal()
        entries = reader.open_entries() if parsed.open else reader.newest_entries(parsed.limit)
        return (("Migration", "Instance", "Role", "Peer", "Phase", "Outcome", "Opened", "Why"),
                [(e.migration.key, e.migration.instance, e.migration.role.value,
                  e.migration.peer, e.phase.value, _outcome(e), base.when(e.opened), e.reason)
                 for e in entries[:parsed.limit]])


class MigrationShow(base.Lister):
    """Show one migration's records in order, with the milliseconds of each step."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("migration", help="its UUID, as 'migration list' shows it")
        return parser

    def take_action(self, parsed: argparse.Namespace) -> tuple[tuple[str, ...], ty.Any]:
        reader = self.control.journal()
        entries = [e for role in Role if (e := reader.entry(parsed.migration, role))]
        if not entries:
            raise errors.BadInput(what=f"migration {parsed.migration}",
                                  reason="this host's journal does not have it")
        rows = [row for entry in entries for row in _rows(entry, reader.records(entry.migration))]
        return ("Role", "At", "ms", "Step", "State", "Data"), rows


def _rows(entry: journal.Entry, records: list[journal.Record]) -> list[tuple[str, ...]]:
    role = entry.migration.role.value
    rows: list[tuple[str, ...]] = [
        (role, base.when(entry.opened), "", "(opened)", entry.migration.executor.value, "")]
    before = entry.opened
    for record in records:
        rows.append((role, base.when(record.at), f"{(record.at - before) * 1000:.0f}",
                     record.step, record.state.value,
                     ", ".join(f"{k}={v}" for k, v in record.data.items())))
        before = record.at
    if entry.closed is not None:
        rows.append((role, base.when(entry.closed), f"{(entry.closed - before) * 1000:.0f}",
                     "(closed)", _outcome(entry), entry.reason))
    elif entry.outcome is not None:
        rows.append((role, "", "", "(open)", _outcome(entry), entry.reason))
    return rows


def _outcome(entry: journal.Entry) -> str:
    return entry.outcome.value if entry.outcome else "open"
