# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with the lab; every message says what to do or where to look."""

import pathlib


class LabError(Exception):
    """The lab cannot do what was asked."""


class Missing(LabError):
    """A part that the lab needs is not on this machine: permission, programs, kernel."""


class NotUp(LabError):
    """No healthy lab is there to attach to."""


class TookTooLong(LabError):
    """A part did not come up (or go away) in time.

    :param what: the state that was waited for, as a noun.
    :param seconds: how long.
    :param log: the log of the part in question; its end goes into the message.
    """

    def __init__(self, what: str, seconds: float, log: pathlib.Path | None = None) -> None:
        self.log_tail = tail(log) if log else ""
        text = f"waited {seconds:.0f} s in vain for {what}"
        if log:
            text += f"; the end of {log}:\n{self.log_tail or '(empty)'}"
        super().__init__(text)


class CommandFailed(LabError):
    """A command inside the lab ended with an error."""

    def __init__(self, command: str, status: int, output: str) -> None:
        super().__init__(f"{command}: exit status {status}: {output.strip()[-2000:]}")
        self.status = status
        self.output = output


def tail(log: pathlib.Path, lines: int = 15) -> str:
    """The last lines of a log file; empty when there is none."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
