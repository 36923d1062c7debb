# SPDX-License-Identifier: Apache-2.0
"""What the commands share: our errors as one sentence, and times for people."""

import argparse
import datetime
import traceback
import typing as ty

from cliff import columns, command, lister, show

from rbd_worker import errors, model, service, streams
from rbd_worker.cli import app as apps


class _Ours(command.Command):
    """Gives a command its typed application, and an operator the remedy with the error."""

    #: What an operator may type after the program's name; shown below the command's options.
    examples: ty.ClassVar[tuple[str, ...]]
    #: Of a command that was done and has something to say by it.
    exit_status = 0

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """As cliff's, with the examples, and with the description's own lines."""
        self._parser: argparse.ArgumentParser = super().get_parser(prog_name)
        program = prog_name.split(maxsplit=1)[0]
        self._parser.epilog = "\n".join(
            ("examples:", *(f"  {program} {words}" for words in self.examples)))
        self._parser.formatter_class = argparse.RawDescriptionHelpFormatter
        return self._parser

    @property
    def control(self) -> "apps.Control":
        return ty.cast("apps.Control", self.app)

    def host(self, parsed: argparse.Namespace) -> str:
        """The host that ``--host`` names, or this one."""
        return str(parsed.host or self.control.settings.host)

    def is_here(self, parsed: argparse.Namespace) -> bool:
        """Whether this host itself is meant, whose files can be read without its worker."""
        return parsed.host in (None, self.control.settings.host)

    def wrong(self, reason: str) -> ty.NoReturn:
        """End as argparse does of a wrong command line: its usage, the reason, exit status 2."""
        self._parser.error(reason)

    def confirm(self, parsed: argparse.Namespace, question: str) -> None:
        """Ask, unless ``--yes`` was given; on standard error, as the output may go to a file.

        :raises errors.NotConfirmed: the answer is not yes.
        :raises errors.NobodyToAsk: standard input is no terminal.
        """
        if parsed.yes:
            return
        if not self.app.stdin.isatty():
            raise errors.NobodyToAsk(question=question)
        print(f"{question} [y/N] ", end="", flush=True, file=self.app.stderr)
        if self.app.stdin.readline().strip().lower() not in ("y", "yes"):
            raise errors.NotConfirmed(question=question)

    def run(self, parsed: argparse.Namespace) -> int:
        """As cliff's, which would tell of an error without its remedy."""
        try:
            status = int(super().run(parsed) or 0) or self.exit_status
            self.app.stdout.flush()
            return status
        except OSError as e:
            if e.errno not in streams.WRITE_ERRORS or e.filename is not None:
                raise
            return streams.unprinted("rbd-workerctl", e)  # errors of other files are ours
        except errors.Error as e:
            if self.app.options.debug:
                traceback.print_exception(e, file=self.app.stderr)
            print(f"rbd-workerctl: {self.sentence(e)}", file=self.app.stderr)
            return 1

    def sentence(self, error: errors.Error) -> str:
        """What an operator is told of it: of an idle worker, why it does not answer."""
        if isinstance(error, errors.PeerUnreachable):
            settings = self.control.settings
            if settings.is_idle and error.data["host"] == settings.host:
                return errors.WorkerIdle(host=settings.host,
                                         files=service.files_read()).sentence
        return error.sentence


class Command(_Ours):
    pass


class Lister(_Ours, lister.Lister):
    #: In the place of a table without rows; empty where it is told otherwise.
    nothing: ty.ClassVar[str]

    def produce_output(self, parsed: argparse.Namespace, column_names: ty.Any,
                       data: ty.Any) -> int:
        rows = list(data)
        if rows or parsed.formatter != "table" or parsed.print_empty:
            return int(super().produce_output(parsed, column_names, rows) or 0)
        if self.nothing:
            print(self.nothing, file=self.app.stdout)
        return 0


class ShowOne(_Ours, show.ShowOne):
    pass


class Lines(columns.FormattableColumn[list[str]]):
    """A list: one line each for people, a list for programs."""

    def human_readable(self) -> str:
        return "\n".join(self._value)


def add_host(parser: argparse.ArgumentParser) -> None:
    """``--host``: ask the worker of another host."""
    parser.add_argument("--host", metavar="HOST", type=host_name,
                        help="of that host instead of this one")


def add_yes(parser: argparse.ArgumentParser) -> None:
    """``--yes``, for a command that asks by ``confirm``."""
    parser.add_argument("--yes", action="store_true", help="do not ask")


def host_name(text: str) -> str:
    """What can be a host's name, for argparse."""
    try:
        return model.host_name(text)
    except errors.BadHostName as e:
        raise argparse.ArgumentTypeError(str(e)) from None


def positive(text: str) -> int:
    """A number of things to list, for argparse."""
    if not text.isdecimal() or not 0 < int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 100000")
    return int(text)


def when(seconds: float | None) -> str:
    """Seconds since the epoch as local time with its zone; empty for None.

    What was read from a disk may be in no calendar, and is told as it is.
    """
    if seconds is None:
        return ""
    try:
        local = datetime.datetime.fromtimestamp(seconds).astimezone()
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g} s since 1970"
    return local.isoformat(sep=" ", timespec="milliseconds")
