# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl refusal``: bad input that this host's worker turned away."""

import argparse
import typing as ty

from rbd_worker.cli import base
from rbd_worker.host import peers
from rbd_worker.migration import history as histories
from rpcapi import history as contract


class RefusalList(base.Lister):
    """List what was refused and why, newest first; never what it contained."""

    nothing = "nothing was refused"
    examples = (
        "refusal list",
        "refusal list --host node2 -f json",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        base.add_host(parser)
        return parser

    def take_action(self, parsed: argparse.Namespace) -> tuple[tuple[str, ...], ty.Any]:
        request = contract.RefusalsRequest()
        if self.is_here(parsed):
            refusals = histories.History(
                self.control.settings.host, self.control.journal()).refusals(request).refusals
        else:
            with peers.translated(parsed.host):
                refusals = contract.refusals(self.control.client(), parsed.host, request).refusals
        return (("At", "Origin", "Reason"),
                [(base.when(r.at), r.origin, r.reason) for r in refusals])
