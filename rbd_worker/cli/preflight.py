# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl preflight``: what would keep a guest from moving, before it moves."""

import argparse
import collections
import typing as ty

from rbd_worker import model
from rbd_worker.cli import base, matrix_table
from rbd_worker.host import peers
from rbd_worker.preflight import cells
from rpcapi import preflight as contract

#: Exit statuses beside 0, all is well, and 1, it could not be asked.
WARNINGS, FAILURES = 3, 4


class PreflightRun(base.Lister):
    """Look at the way of a guest to DEST: every row was measured, or says that it was not.

    The exit status is 0 where every row is ok, 3 where there are warnings or
    rows that could not be measured, 4 where something failed.  With --all every
    host is asked at once, and the ways themselves are tried along a ring; the
    others are shown as "not tried", which does not count for the status.
    """

    nothing = "nothing to report: every row is ok"
    examples = (
        "preflight node2",
        "preflight node2 --source node1 --problems \\\n"
        "      --instance a05482ec-d71a-48c7-bf99-94d829b20aef",
        "preflight --all -f json",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("destination", metavar="DEST", nargs="?", type=base.host_name,
                            help="the host it is to go to")
        parser.add_argument("--all", action="store_true",
                            help="from every host to every other, in one table")
        parser.add_argument("--source", metavar="HOST", type=base.host_name,
                            help="the host it comes from (default: this one)")
        parser.add_argument("--instance", metavar="UUID",
                            help="a guest that runs on the source: looks at its CPU, disks and "
                                 "networks too")
        parser.add_argument("--problems", action="store_true",
                            help="only rows that are not ok")
        return parser

    def take_action(self, parsed: argparse.Namespace) -> tuple[tuple[str, ...], ty.Any]:
        if parsed.all == bool(parsed.destination) or (parsed.all and parsed.instance):
            self.wrong("it needs either DEST, or --all without --instance")
        source = parsed.source or self.control.settings.host
        if parsed.all:
            return self._matrix(source, parsed)
        request = contract.PreflightRequest(
            destination=parsed.destination,
            instance=model.canonical_uuid(parsed.instance) if parsed.instance else None)
        with peers.translated(source):
            reply = contract.preflight(self.control.client(), source, request)
        states = collections.Counter(row.state for row in reply.rows)
        self.exit_status = (FAILURES if states["failed"] else
                            WARNINGS if states["warning"] + states["unknown"] else 0)
        return (("Check", "Host", "State", "Found", "Remedy"),
                [(row.name, row.host, row.state, row.found, row.remedy) for row in reply.rows
                 if row.state != "ok" or not parsed.problems])

    def _matrix(self, asked: str, parsed: argparse.Namespace,
                ) -> tuple[tuple[str, ...], ty.Any]:
        with peers.translated(asked):
            reply = contract.matrix(self.control.client(), asked, contract.MatrixRequest())
        found = cells.cells(reply)
        bad = {cell.state for cell in found if cell.checks}
        self.exit_status = FAILURES if "failed" in bad else WARNINGS if bad or not found else 0
        hosts = [survey.traits.host for survey in reply.surveys]
        if parsed.formatter != "table":
            return matrix_table.pairs(found)
        if len(hosts) <= matrix_table.SQUARE_HOSTS:
            return matrix_table.square(hosts, found)
        return matrix_table.summary(hosts, found)
