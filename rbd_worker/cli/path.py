# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl path``: is instances_path the one that this host's journal knows?"""

import argparse

from rbd_worker.cli import base
from rbd_worker.host import instances, mounted


class PathAccept(base.Command):
    """Say that instances_path, as it stands now, is this host's.

    For a worker that says "it looks not mounted, or is another file system than
    before" although everything is in its place: after a restore from a backup,
    or a move to another disk without the directory .rbd-worker.
    """

    examples = ("path accept",)

    def take_action(self, _parsed: argparse.Namespace) -> None:
        settings = self.control.settings
        path_id = self.control.journal().path_id()
        if not path_id:
            print(f"nothing to do: any {settings.instances_path} is taken as it is, because the "
                  "journal knows none yet", file=self.app.stdout)
            return
        mounted.accept(instances.of(settings), settings.host, path_id)
        print(f"{settings.instances_path} is this host's from now on", file=self.app.stdout)
