# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl refusal``: bad input that this host's worker turned away."""

import argparse
import typing as ty

from rbd_worker.cli import base


class RefusalList(base.Lister):
    """List what was refused and why, newest first; never what it contained."""

    def take_action(self, _parsed: argparse.Namespace) -> tuple[tuple[str, ...], ty.Any]:
        refusals = self.control.journal().refusals()
        return (("At", "Origin", "Reason"),
                [(base.when(r.at), r.origin, r.reason) for r in refusals])
