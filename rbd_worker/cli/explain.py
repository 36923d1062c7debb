# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl explain``: from a message to its cause and its remedy."""

import argparse
import itertools
import typing as ty

from rbd_worker import errors, model
from rbd_worker.catalogue import lookup
from rbd_worker.catalogue.entry import Entry
from rbd_worker.cli import base
from rpcapi import history as contract

#: Exit status for a text that the catalogue does not know.
UNKNOWN = 3
#: Lines that are read from standard input.
_MAX_LINES = 100_000


class Explain(base.Lister):
    """Tell the cause and the remedy of a message of libvirt, QEMU, Ceph, Nova or rbd-worker.

    Without TEXT the whole catalogue is listed. A migration's UUID explains why
    that one ended as it did; - reads lines from standard input.

    The exit status is 0 where something is known, and 3 where nothing is.
    """

    nothing = ""
    examples = (
        "explain \"Cannot get interface MTU on 'qbr0b6f4a8e-5c'\"",
        "explain destination-disk-exists",
        "explain 0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10 -f json",
        "explain - </var/log/nova/nova-compute.log",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("text", nargs="*", metavar="TEXT",
                            help="a message or a part of it, a name of the catalogue, the UUID of "
                                 "a migration, or - for standard input")
        base.add_host(parser)
        return parser

    def take_action(self, parsed: argparse.Namespace) -> tuple[tuple[str, ...], ty.Any]:
        text = " ".join(parsed.text).strip()
        if not text:
            return ("Name", "From", "Message"), [
                (entry.name, entry.origin, entry.example) for entry in lookup.entries()]
        found = self._found(text, parsed.host)
        if not found:
            self.exit_status = UNKNOWN
            print("rbd-workerctl: nothing in the catalogue fits that; look at the line before it, "
                  "and at the guest's log on both hosts (/var/log/libvirt/qemu)",
                  file=self.app.stderr)
        return (("Name", "From", "Cause", "Remedy", "More"),
                [(e.name, e.origin, e.cause, e.remedy, e.link) for e in found])

    def _found(self, text: str, host: str | None) -> tuple[Entry, ...]:
        if text == "-":
            return lookup.explain(itertools.islice(self.app.stdin, _MAX_LINES))
        if _is_uuid(text):
            return self._of_migration(text, host)
        entry = lookup.named(text)
        return (entry,) if entry is not None else lookup.explain(text.splitlines())

    def _of_migration(self, migration: str, host: str | None) -> tuple[Entry, ...]:
        page = self.control.history(host)(contract.HistoryRequest(migration=migration))
        if not page.entries:
            raise errors.UnknownMigration(migration=migration, host=page.host)
        reasons = [entry.reason for entry in page.entries if entry.reason]
        if not reasons:
            return tuple(_without_reason(entry, page.host) for entry in page.entries)
        for reason in reasons:
            print(reason, file=self.app.stderr)
        return lookup.explain(reasons)


def _without_reason(entry: contract.Entry, host: str) -> Entry:
    """What there is to say of a migration that nothing went wrong with, so far."""
    if entry.closed:
        return Entry(
            name=entry.outcome, origin="rbd-worker", pattern="", example="",
            cause=f"As {entry.role} {host} has recorded the outcome {entry.outcome}, and "
                  "nothing that went wrong.",
            remedy="None is needed.")
    return Entry(
        name="open", origin="rbd-worker", pattern="", example="",
        cause=f"As {entry.role} {host} is in {entry.phase}, and nothing has gone wrong so far.",
        remedy=f"Follow it with 'rbd-workerctl migration watch {entry.migration}'.")


def _is_uuid(text: str) -> bool:
    try:
        model.canonical_uuid(text)
    except errors.BadInstanceUUID:
        return False
    return True
