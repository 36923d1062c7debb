# SPDX-License-Identifier: Apache-2.0
"""What the commands share: our errors as one sentence, and times for people."""

import datetime
import typing as ty

from cliff import command, lister, show

from rbd_worker.cli import app as apps


class _Ours:
    """Gives a command its typed application."""

    app: ty.Any

    @property
    def control(self) -> "apps.Control":
        return ty.cast("apps.Control", self.app)


class Command(_Ours, command.Command):
    pass


class Lister(_Ours, lister.Lister):
    pass


class ShowOne(_Ours, show.ShowOne):
    pass


def when(seconds: float | None) -> str:
    """Seconds since the epoch as local time with its zone; empty for None."""
    if seconds is None:
        return ""
    local = datetime.datetime.fromtimestamp(seconds).astimezone()
    return local.isoformat(sep=" ", timespec="milliseconds")
