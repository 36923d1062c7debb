# SPDX-License-Identifier: Apache-2.0
"""May what the clock says about ages be believed?

A clock that was set a year ahead makes a week's trash a year old.  So each
look compares how far the clock went with how far the machine's uptime went
(suspended time included).  Where the two disagree, nothing leaves for good for
a day of uptime: long enough for somebody to see the warning, or for the clock
to be set right, which ends the doubt.  After that the new time is believed.

Kept in a file beside the journal, so that a jump while no worker ran is seen
as well.  Over a reboot, where uptime says nothing, a clock that went back or
more than a day ahead is doubted: a host that was off so long only waits a day.
"""

import dataclasses
import logging
import os
import pathlib
import time
import typing as ty

import msgspec

LOG = logging.getLogger(__name__)

#: Seconds that the clock may be corrected by between two looks without a doubt.
TOLERANCE = 600
#: Seconds of uptime for which a new time is doubted.
DOUBT = 86400
#: Seconds that a host may have been off without a doubt.
LONGEST_OFF = 86400
_BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id")


class _Look(msgspec.Struct, frozen=True):
    """:ivar offset: seconds that the clock is away from the time believed last.
    :ivar left: seconds of uptime for which it is still doubted."""

    wall: float
    uptime: float
    boot: str
    offset: float = 0
    left: float = 0


@dataclasses.dataclass(frozen=True)
class Clocks:
    """The machine's; a test has its own."""

    wall: ty.Callable[[], float] = time.time
    uptime: ty.Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    boot: ty.Callable[[], str] = lambda: _BOOT_ID.read_text().strip()


class ClockGuard:
    """Used by one thread.

    :param state_directory: where the last look is kept.
    """

    def __init__(self, state_directory: str | os.PathLike[str],
                 clocks: Clocks | None = None) -> None:
        self._path = pathlib.Path(state_directory) / "clock.json"
        self._clocks = clocks or Clocks()
        self._last = self._read()

    def doubt(self) -> str:
        """Look at the clocks; why ages mean nothing now, as a sentence, or nothing."""
        now = _Look(self._clocks.wall(), self._clocks.uptime(), self._clocks.boot())
        if self._last is not None:
            now = _judged(self._last, now)
        self._last = now
        self._write(now)
        if not now.left:
            return ""
        way = "ahead" if now.offset > 0 else "back"
        return (f"the clock was set {way} by {_text(abs(now.offset))}: nothing leaves the trash "
                f"or the journal for {_text(now.left)}, unless it is set right before; check "
                "the host's time service")

    def _read(self) -> _Look | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Look)
        except (OSError, msgspec.MsgspecError):
            return None

    def _write(self, look: _Look) -> None:
        """Without it a jump while no worker runs is not seen; no more than that."""
        new = self._path.with_suffix(".new")
        try:
            new.write_bytes(msgspec.json.encode(look))
            new.replace(self._path)
        except OSError as e:
            LOG.debug("%s cannot be written: %s", self._path, e.strerror)


def _judged(last: _Look, now: _Look) -> _Look:
    went = now.wall - last.wall
    if now.boot == last.boot:
        elapsed = now.uptime - last.uptime
        jump = went - elapsed
    else:
        elapsed = now.uptime
        jump = min(went, 0.0) + max(went - LONGEST_OFF, 0.0)
    left = max(0.0, last.left - elapsed)
    if not left and abs(jump) <= TOLERANCE:
        return now
    offset = last.offset + jump
    if abs(offset) <= TOLERANCE:  # set right again
        return now
    return msgspec.structs.replace(now, offset=offset,
                                   left=DOUBT if abs(jump) > TOLERANCE else left)


def _text(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
