# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl audit``: directories of this host whose guest is not here."""

import argparse
import typing as ty

from rbd_worker.cli import base
from rbd_worker.host import peers
from rpcapi import payloads


class AuditRun(base.Lister):
    """Have the worker look at every directory now; it only tells, unless --act is given.

    The column Nova says where Nova's record is wrong about a guest, and what mends it; it is
    filled where [rbd_worker] os_cloud or os_auth_section is set.
    """

    nothing = "no directory is without its guest"
    examples = (
        "audit",
        "audit --host node2 -f json",
        "audit --act",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        base.add_host(parser)
        parser.add_argument(
            "--act", action="store_true",
            help="move to the trash what is proven twice, audit_pause apart; only where "
                 "[rbd_worker] audit_action is trash")
        return parser

    def take_action(self, parsed: argparse.Namespace) -> tuple[tuple[str, ...], ty.Any]:
        own = self.control.settings.host
        reply = peers.Peers(self.control.client(), own).audit(
            self.host(parsed), payloads.AuditRequest(act=parsed.act))
        return (("Instance", "Verdict", "Holder", "Reason", "Nova"),
                [(f.instance, f.verdict, f.holder, f.reason, f.nova) for f in reply.findings])
