# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl trash``: directories that left, why, and their way back."""

import argparse
import typing as ty

from rbd_worker import conf
from rbd_worker.cli import base
from rbd_worker.host import instances, trash


class TrashList(base.Lister):
    """List removed directories that can be restored."""

    def take_action(self, _parsed: argparse.Namespace) -> tuple[tuple[str, ...], ty.Any]:
        return (("Id", "Instance", "At", "Bytes", "Migration", "Why"),
                [(item.id, item.instance, base.when(item.at), item.bytes, item.migration,
                  item.reason) for item in _trash(self.control.settings).list()])


class TrashRestore(base.Command):
    """Put a removed directory back under instances_path; nothing is overwritten."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("id", help="as 'trash list' shows it")
        return parser

    def take_action(self, parsed: argparse.Namespace) -> None:
        settings = self.control.settings
        _trash(settings).restore(parsed.id)
        instance = parsed.id.partition(".")[0]
        print(f"restored {settings.instances_path}/{instance}", file=self.app.stdout)


def _trash(settings: conf.Settings) -> trash.Trash:
    return trash.Trash(instances.of(settings), settings.trash_retention)
