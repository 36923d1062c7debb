# SPDX-License-Identifier: Apache-2.0
"""OpenStack's Guru Meditation Report on SIGUSR2: what every thread does, and what is open.

A thread of its own writes it, to standard error or to ``[oslo_reports]
log_dir``: whatever lock the main thread holds when the signal comes, the
report gets what it can.  oslo.reports masks every option that is a secret; the
worker's own sections have what ``rbd-workerctl status`` shows.
"""

import collections.abc
import signal
import threading
import types
import typing as ty

from oslo_reports import guru_meditation_report, opts

from rbd_worker import errors
from rbd_worker.version import VERSION

#: Seconds for one section of the worker's own, which may wait for a lock.
SECTION_SECONDS = 5.0

#: What a section tells: lines of names and values.
Section: ty.TypeAlias = ty.Callable[[], collections.abc.Mapping[str, object]]


class Product:
    """Of which the report says the version, as oslo.reports asks for it."""

    def vendor_string(self) -> str:
        return "rbd-worker"

    def product_string(self) -> str:
        return "rbd-worker"

    def version_string_with_package(self) -> str:
        return VERSION


class Report(guru_meditation_report.TextGuruMeditation):
    """With sections of its own: oslo.reports would give them to every other report, too."""

    persistent_sections: ty.ClassVar[list[tuple[str, ty.Callable[[], ty.Any]]]] = []


def on_signal(config: ty.Any) -> None:
    """From now on SIGUSR2 writes a report; to be called from the main thread.

    :param config: oslo.config's, read already.
    """
    opts.set_defaults(config)
    log_dir: str | None = config.oslo_reports.log_dir

    def write(_number: int, _frame: types.FrameType | None) -> None:
        threading.Thread(target=Report.handle_signal, name="report", daemon=True,
                         args=(Product(), "rbd-worker", log_dir, None)).start()
    signal.signal(signal.SIGUSR2, write)


def add(title: str, section: Section) -> None:
    """Have the report tell more; called each time that one is written."""
    Report.register_section(title, lambda: _lines(section))


def _lines(section: Section) -> str:
    """What it tells, or that it does not: a report is wanted most where something is stuck."""
    told: list[str] = []
    asked = threading.Thread(target=lambda: told.append(_told(section)), daemon=True)
    asked.start()
    asked.join(SECTION_SECONDS)
    return told[0] if told else f"nothing was told within {SECTION_SECONDS:g} s"


def _told(section: Section) -> str:
    try:
        return "\n".join(f"{name} = {value}" for name, value in section().items())
    except errors.Error as e:
        return f"cannot be told: {e.sentence}"
