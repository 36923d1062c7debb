# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl migration abort|force-complete|resolve`` and ``live-migrate``."""

import argparse
import typing as ty

from rbd_worker import model
from rbd_worker.cli import base, watching
from rbd_worker.host import peers
from rpcapi import control as contract


class _Order(base.Command):
    """One word about one migration, sent to the host that has it open."""

    send: ty.ClassVar[ty.Callable[..., contract.OrderReply]]

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("migration", help="its UUID, as 'migration list' shows it")
        base.add_host(parser)
        return parser

    def take_action(self, parsed: argparse.Namespace) -> None:
        host = self.host(parsed)
        with peers.translated(host):
            reply = type(self).send(self.control.client(), host, parsed.migration)
        print(reply.done, file=self.app.stdout)


class MigrationAbort(_Order):
    """Give a move up; the guest stays where it is (executor libvirt, on the source)."""

    examples = (
        "migration abort 0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10",
        "migration abort 0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10 --host node2",
    )

    send = staticmethod(contract.abort)


class MigrationForceComplete(_Order):
    """Make a move end now, by post-copy or a pause (executor libvirt, on the source)."""

    examples = ("migration force-complete 0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10",)

    send = staticmethod(contract.force_complete)


class MigrationResolve(base.Command):
    """Close an unresolved migration on your word; no file and no guest is touched.

    For a migration that cannot settle by itself, as when the guest was deleted
    on its way. Look at both hosts first; ask each host that has it open.
    """

    examples = (
        "migration resolve 0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10 --as completed",
        'migration resolve 0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10 --as failed --yes \\\n'
        '      --host node2 --note "the guest was deleted on its way"',
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("migration", help="its UUID, as 'migration list --open' shows it")
        parser.add_argument("--as", dest="outcome", required=True,
                            choices=("completed", "failed", "cancelled"),
                            help="what really became of it")
        parser.add_argument("--note", default="", help="why you say so; kept in the journal")
        base.add_yes(parser)
        base.add_host(parser)
        return parser

    def take_action(self, parsed: argparse.Namespace) -> None:
        host = self.host(parsed)
        self.confirm(parsed, f"Close migration {parsed.migration} on {host} as "
                             f"{parsed.outcome}?")
        with peers.translated(host):
            reply = contract.resolve(self.control.client(), host, contract.ResolveRequest(
                migration=parsed.migration, outcome=parsed.outcome, note=parsed.note[:1024]))
        print(reply.done, file=self.app.stdout)


class LiveMigrate(base.Command):
    """Move a guest to DEST on hosts without nova-compute (executor libvirt).

    The exit status is 0 where it has completed (or, without --wait, begun), 4
    where it has not.
    """

    examples = (
        "live-migrate a05482ec-d71a-48c7-bf99-94d829b20aef node2",
        "live-migrate a05482ec-d71a-48c7-bf99-94d829b20aef node2 --wait",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("instance", metavar="INSTANCE", help="its UUID")
        parser.add_argument("destination", metavar="DEST", help="the host it is to go to")
        parser.add_argument("--wait", action="store_true",
                            help="show its progress until it has ended")
        base.add_host(parser)
        return parser

    def take_action(self, parsed: argparse.Namespace) -> None:
        host = self.host(parsed)
        client = self.control.client()
        request = contract.LiveMigrateRequest(
            instance=model.canonical_uuid(parsed.instance),
            destination=model.host_name(parsed.destination))
        with peers.translated(host):
            migration = contract.live_migrate(client, host, request).migration
        print(migration, file=self.app.stdout)
        if parsed.wait:
            self.exit_status = watching.Watch(
                client, host, migration, was_heard=True).follow(self.app.stderr)
