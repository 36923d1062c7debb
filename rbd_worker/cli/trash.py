# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl trash``: directories that left, why, and their way back."""

import argparse
import typing as ty

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
        parser = ty.cast(argparse.ArgumentParser, super().get_parser(prog_name))
        parser.add_argument("id", help="as 'trash list' shows it")
        return parser

    def take_action(self, parsed: argparse.Namespace) -> None:
        settings = self.control.settings
        item = _trash(settings).restore(parsed.id)
        print(f"restored {settings.instances_path}/{item.instance}", file=self.app.stdout)


def _trash(settings: ty.Any) -> trash.Trash:
    limits = instances.Limits(
        max_files=settings.max_files, max_depth=settings.max_depth,
        max_data_bytes=settings.max_data_bytes, max_file_bytes=settings.max_file_bytes,
        inline_bytes=settings.inline_bytes)
    return trash.Trash(instances.Instances(settings.instances_path, limits),
                       settings.trash_retention)
