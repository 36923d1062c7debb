# SPDX-License-Identifier: Apache-2.0
"""Times on the command line: ``2d`` for a length, ``2d`` or a date for a moment."""

import argparse
import datetime
import re
import time

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def seconds(text: str) -> int:
    """A length such as ``30m``, ``12h``, ``2d`` or ``1w``, for argparse."""
    match = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 30m, 12h, 2d or 1w")
    return int(match.group(1)) * _UNITS[match.group(2)]


def moment(text: str) -> float:
    """So long ago (``2d``), or a date and time of ISO 8601; seconds since the epoch.

    Without a zone it is this host's local time, without a time of day the
    beginning of that day.
    """
    if re.fullmatch(r"\d+[a-z]", text):
        return time.time() - seconds(text)
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no moment such as 2d (ago), 2026-11-20 or 2026-11-20T14:30+01:00",
        ) from None
