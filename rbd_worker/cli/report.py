# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl report``: what happened, as one page for a browser."""

import argparse
import os
import pathlib
import sys
import tempfile
import time
import typing as ty

from rbd_worker import errors
from rbd_worker.cli import base, times, trash
from rbd_worker.host import peers
from rpcapi import history as contract
from rpcapi import payloads

if ty.TYPE_CHECKING:
    from rbd_worker.report import gather

#: Exit status where some of the hosts were not heard: the page says which.
INCOMPLETE = 4


class Report(base.Command):
    """Write a page about a time: migrations, their phases and downtime, leftovers and trash.

    The page is one file that needs no network. This host is read from its
    files, others are asked through their workers. The exit status is 4 where a
    host that was named did not answer; the page then says so, too.
    """

    examples = (
        "report --html report.html",
        "report --since 2d --host node1 --host node2 --html report.html",
        "report --since 2026-11-20 --until 2026-11-21T12:00 --html - >report.html",
        "report --host node1 --host node2 --audit --html report.html",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--html", metavar="FILE", required=True,
                            help="where to write it; - for standard output")
        parser.add_argument("--since", metavar="WHEN", type=times.moment, default="7d",
                            help="2d (ago), 2026-11-20 or 2026-11-20T14:30 (default: 7d); what "
                                 "is still open from before is shown as well")
        parser.add_argument("--until", metavar="WHEN", type=times.moment, help="(default: now)")
        parser.add_argument("--host", metavar="HOST", action="append", type=base.host_name,
                            help="of that host instead of this one; may be given several times")
        parser.add_argument("--limit", type=base.positive, default=2000, metavar="N",
                            help="of each host at most so many migrations (default: 2000)")
        parser.add_argument("--audit", action="store_true",
                            help="have the workers look for leftovers now; nothing is removed")
        return parser

    def take_action(self, parsed: argparse.Namespace) -> None:
        from rbd_worker.report import gather, page  # jinja2 is for who writes pages only

        made = time.time()
        until = made if parsed.until is None else parsed.until
        if parsed.since >= until:
            self.wrong("--since is not before --until")
        hosts = list(dict.fromkeys(parsed.host or [self.control.settings.host]))
        parts = [gather.part(host, self._asked(host, parsed.audit), parsed.since, until,
                             parsed.limit) for host in self._each(hosts)]
        if not any(part.is_heard for part in parts):
            raise errors.BadInput(what="report", reason="; ".join(
                sentence for part in parts for sentence in part.trouble))
        html = page.render(gather.Report(parsed.since, until, made, tuple(parts)))
        if parsed.html == "-":
            self.app.stdout.write(html)
        else:
            write(pathlib.Path(parsed.html), html)
        self._tell(parts)

    def _asked(self, host: str, audit: bool) -> "gather.Asked":
        from rbd_worker.report import gather

        def history(request: contract.HistoryRequest) -> contract.HistoryReply:
            # opened here, where a journal that cannot be read is only one host's trouble
            return self.control.history(host)(request)

        return gather.Asked(history, trash.pages_of(self.control, host),
                            (lambda: self._audit(host)) if audit else None)

    def _audit(self, host: str) -> payloads.AuditReply:
        own = self.control.settings.host
        return peers.Peers(self.control.client(), own).audit(
            host, payloads.AuditRequest(act=False))

    def _each(self, hosts: list[str]) -> ty.Iterable[str]:
        import rich.console
        import rich.progress

        console = rich.console.Console(file=sys.stderr)
        return rich.progress.track(hosts, "reading", console=console, transient=True,
                                   disable=not console.is_terminal)

    def _tell(self, parts: ty.Iterable["gather.HostPart"]) -> None:
        for part in parts:
            for sentence in part.trouble:
                print(f"rbd-workerctl: {part.host}: {sentence}", file=self.app.stderr)
                self.exit_status = INCOMPLETE


def write(path: pathlib.Path, text: str) -> None:
    """Put the page there whole or not at all.

    :raises errors.NotWritten: with the system's reason.
    """
    try:
        fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(temporary, 0o644 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as e:
        raise errors.NotWritten(path=path, reason=e.strerror or e) from e


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
