# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl trash``: directories that left, why, and their way back."""

import argparse
import contextlib
import functools
import stat
import sys
import time
import typing as ty

import rich.console
import rich.progress

from rbd_worker import errors
from rbd_worker.cli import app as apps
from rbd_worker.cli import base, times
from rbd_worker.host import instances, mounted, peers, trash, trash_pages
from rpcapi import trash as contract


class TrashList(base.Lister):
    """List removed directories that can be restored, newest first, and what they take."""

    nothing = ""
    examples = (
        "trash list",
        "trash list --limit 10 --host node2 -f json",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--limit", type=base.positive, default=contract.MAX_ITEMS, metavar="N",
                            help=f"at most so many (default: {contract.MAX_ITEMS})")
        base.add_host(parser)
        return parser

    def take_action(self, parsed: argparse.Namespace) -> tuple[tuple[str, ...], ty.Any]:
        found = list(contract.pages(pages_of(self.control, parsed.host), parsed.limit))
        items = [item for page in found for item in page.items][:parsed.limit]
        self._last = found[-1]
        return (("Id", "Instance", "At", "Bytes", "Migration", "Why"),
                [(item.id, item.instance, base.when(item.at), item.bytes, item.migration,
                  item.reason) for item in items])

    def produce_output(self, parsed: argparse.Namespace, column_names: ty.Any,
                       data: ty.Any) -> int:
        status = super().produce_output(parsed, column_names, data)
        if parsed.formatter == "table":
            page = self._last
            percent = f" = {self.control.settings.trash_max_percent}" if self.is_here(
                parsed) else ""
            most = "without a limit" if page.most is None else (
                f"of {_mib(page.most)} ([rbd_worker] trash_max_percent{percent})")
            print(f"{page.total} in the trash, {_mib(page.bytes)} {most}", file=self.app.stdout)
        return int(status)


class TrashShow(base.ShowOne):
    """Show one removed directory: why it left, and every file in it."""

    examples = ("trash show a05482ec-d71a-48c7-bf99-94d829b20aef.20261124T101500.3fa2b1",)

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("id", help="as 'trash list' shows it")
        return parser

    def take_action(self, parsed: argparse.Namespace) -> tuple[ty.Any, ty.Any]:
        bin_ = _trash(self.control)
        item = bin_.find(parsed.id)
        rows = {"id": item.id, "instance": item.instance, "at": base.when(item.at),
                "migration": item.migration, "bytes": item.bytes,
                "proven": f"no: {item.doubt}" if item.doubt else "yes",
                "facts": base.Lines([f"{fact.witness}: {fact.verdict}, {fact.sentence}"
                                 for fact in item.facts]),
                "files": base.Lines([f"{stat.filemode(file.mode)} {file.size:>12} {file.path}"
                                 for file in bin_.files(parsed.id)])}
        return tuple(rows), tuple(rows.values())


class TrashRestore(base.Command):
    """Put a removed directory back under instances_path; nothing is overwritten."""

    examples = ("trash restore a05482ec-d71a-48c7-bf99-94d829b20aef.20261124T101500.3fa2b1",)

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("id", help="as 'trash list' shows it")
        return parser

    def take_action(self, parsed: argparse.Namespace) -> None:
        settings = self.control.settings
        _trash(self.control).restore(parsed.id)
        instance = parsed.id.partition(".")[0]
        print(f"restored {settings.instances_path}/{instance}", file=self.app.stdout)


class TrashPurge(base.Command):
    """Remove items of the trash for good, before trash_retention does.

    What nobody can prove (its record is lost) leaves by its id only.
    """

    examples = (
        "trash purge a05482ec-d71a-48c7-bf99-94d829b20aef.20261124T101500.3fa2b1",
        "trash purge --older-than 2d",
        "trash purge --all --yes",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("id", nargs="?", help="one item, as 'trash list' shows it")
        which.add_argument("--older-than", metavar="TIME", type=times.seconds,
                           help="all that left longer ago: 30m, 12h, 2d, 1w")
        which.add_argument("--all", action="store_true", help="all items")
        base.add_yes(parser)
        return parser

    def take_action(self, parsed: argparse.Namespace) -> int:
        bin_ = _trash(self.control)
        chosen, kept = self._chosen(bin_, parsed)
        for item in kept:
            print(f"kept {item.id}: {item.doubt}; purge it by its id", file=self.app.stdout)
        if not chosen:
            print("nothing to purge", file=self.app.stdout)
            return 0
        size = _mib(sum(item.bytes for item in chosen))
        self.confirm(parsed, f"remove {len(chosen)} item(s), {size}, for good?")
        purged = self._purged(bin_, chosen)
        print(f"purged {purged} of {len(chosen)} item(s), {size}", file=self.app.stdout)
        return 0 if purged == len(chosen) else 1

    def _chosen(self, bin_: trash.Trash, parsed: argparse.Namespace,
                ) -> tuple[list[trash.Item], list[trash.Item]]:
        """What is to leave, and what would have to but is not proven."""
        if parsed.id is not None:
            return [bin_.find(parsed.id)], []
        before = float("inf") if parsed.all else time.time() - parsed.older_than
        items = [item for item in bin_.list() if item.at < before or parsed.all]
        return [i for i in items if not i.doubt], [i for i in items if i.doubt]

    def _purged(self, bin_: trash.Trash, chosen: list[trash.Item]) -> int:
        console = rich.console.Console(file=sys.stderr)
        return sum(bin_.discard(item.id) for item in rich.progress.track(
            chosen, "purging", console=console, transient=True,
            disable=not console.is_terminal))


def pages_of(control: "apps.Control", host: str | None,
             ) -> ty.Callable[[contract.TrashRequest], contract.TrashReply]:
    """Whoever gives pages of a trash: the disk of this host, or another host's worker."""
    if host is None or host == control.settings.host:
        return trash_pages.TrashPages(control.settings.host, _trash(control)).page
    client = control.client()

    def asked(request: contract.TrashRequest) -> contract.TrashReply:
        with peers.translated(host):
            return contract.trash(client, host, request)
    return asked


def _trash(control: "apps.Control") -> trash.Trash:
    settings = control.settings
    return trash.Trash(instances.of(settings, _path_check(control)), settings.trash_retention,
                       max_percent=settings.trash_max_percent)


def _path_check(control: "apps.Control") -> ty.Callable[[int], None] | None:
    """An empty mount point is no empty trash; None where no journal knows the path."""
    try:
        with contextlib.closing(control.journal()) as reader:
            path_id = reader.path_id()
    except errors.JournalUnusable:
        return None
    if not path_id:
        return None
    return functools.partial(mounted.demand, control.settings.instances_path,
                             control.settings.host, path_id)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.1f} MiB"
