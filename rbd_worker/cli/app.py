# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl``: the operator's command.

It reads the configuration that the worker reads, so that it finds the same
journal and the same instances_path; cliff gives the formats (``-f table``,
``json``, ``yaml``, ``csv``, ``value``) and the completion.
"""

import argparse
import functools
import logging
import sys
import typing as ty

from cliff import app, commandmanager
from oslo_config import cfg

from rbd_worker import conf, service, streams
from rbd_worker.migration import history as histories
from rbd_worker.migration import journal
from rbd_worker.version import VERSION
from rpcapi import history as contract

if ty.TYPE_CHECKING:
    from rpcapi import client as rpc_client

_EXAMPLES = """\
examples:
  rbd-workerctl status
  rbd-workerctl migration list --open
  rbd-workerctl migration show 0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10
  rbd-workerctl refusal list
  rbd-workerctl trash list -f json
  rbd-workerctl trash restore a05482ec-d71a-48c7-bf99-94d829b20aef.20261124T101500.3fa2b1
"""


class Control(app.App):
    """Loads the configuration once, when the first command needs it."""

    def __init__(self) -> None:
        super().__init__(description="See and steer rbd-worker on this host.", version=VERSION,
                         command_manager=commandmanager.CommandManager("rbd_worker.cli"),
                         deferred_help=True)
        self._settings: conf.Settings | None = None

    def build_option_parser(self, description: str | None, version: str | None,
                            argparse_kwargs: dict[str, ty.Any] | None = None,
                            ) -> argparse.ArgumentParser:
        parser = super().build_option_parser(description, version, {
            "epilog": _EXAMPLES, "formatter_class": argparse.RawDescriptionHelpFormatter})
        for name, value, told in (
                ("--config-file", "FILE", f"{' and '.join(service.CONFIG_FILES)}, as far as they "
                                          "exist"),
                ("--config-dir", "DIR", "none; of a directory all *.conf are read")):
            parser.add_argument(
                name, action="append", metavar=value, default=[], dest="configuration",
                type=functools.partial("{}={}".format, name),  # what comes last wins: in order
                help=f"as the worker's; may be given several times (default: {told})")
        return parser

    def configure_logging(self) -> None:
        super().configure_logging()
        logging.getLogger("oslo").setLevel(logging.WARNING)
        if not self.options.debug:  # a broker that is away is told in our sentence, once
            logging.getLogger("oslo.messaging").setLevel(logging.CRITICAL)

    def interact(self) -> None:
        """No command was given; cliff would ask for some, and forget the options."""
        self.parser.error("a command is missing; --help lists them")

    @property
    def settings(self) -> conf.Settings:
        """:raises errors.BadConfiguration: as the worker's start does."""
        if self._settings is None:
            self._settings = service.load(self.options.configuration, prog="rbd-workerctl")
        return self._settings

    def journal(self) -> journal.JournalReader:
        """The worker's journal, read-only; the worker may run meanwhile."""
        return journal.JournalReader(self.settings.state_directory)

    def history(self, host: str | None) -> ty.Callable[[contract.HistoryRequest],
                                                       contract.HistoryReply]:
        """Whoever gives pages of a journal: the file of this host, or another host's worker."""
        if host is None or host == self.settings.host:
            return histories.History(self.settings.host, self.journal()).page
        from rbd_worker.host import peers

        client = self.client()

        def asked(request: contract.HistoryRequest) -> contract.HistoryReply:
            with peers.translated(host):
                return contract.history(client, host, request)
        return asked

    def client(self) -> "rpc_client.Client":
        """For calls of the workers of this and other hosts."""
        from rbd_worker.triggers import broker
        from rpcapi import client as rpc_client  # oslo.messaging is only for who calls

        settings = self.settings  # read before the transport, which needs transport_url
        url = broker.from_conf(cfg.CONF).url  # refuses one that is none, as the worker does
        return rpc_client.Client(rpc_client.transport_for(cfg.CONF), settings.rpc_version_cap,
                                 broker=url)


def main(arguments: list[str] | None = None) -> int:
    streams.ensure_open()
    try:
        status = int(Control().run(sys.argv[1:] if arguments is None else arguments))
    except SystemExit as e:  # argparse's, of --version and of a wrong command line
        status = e.code if isinstance(e.code, int) else 0
    return streams.finish("rbd-workerctl", status)


if __name__ == "__main__":
    sys.exit(main())
