# SPDX-License-Identifier: Apache-2.0
"""What grows is cut, every hour: the trash by age and size, the journal by age and number.

Both are a matter of ages, so nothing is cut while the clock is in doubt (see
:mod:`rbd_worker.host.clock_guard`).
"""

import logging
import threading

from rbd_worker import errors
from rbd_worker.host.clock_guard import ClockGuard
from rbd_worker.migration.task import Ports

LOG = logging.getLogger(__name__)

#: Seconds between two rounds.
PAUSE = 3600


class Janitor:
    """One thread of its own, from ``start`` until the worker's shutdown.

    :ivar doubt: why ages mean nothing at the moment, as a sentence; empty where they do.
    """

    def __init__(self, ports: Ports, guard: ClockGuard) -> None:
        self.doubt = ""
        self._ports = ports
        self._guard = guard
        self._thread = threading.Thread(target=self._run, name="janitor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def clean(self) -> None:
        """One round; never raises our errors."""
        before, self.doubt = self.doubt, self._guard.doubt()
        if self.doubt and not before:
            LOG.warning("%s", self.doubt)
        try:
            self._empty_trash()
            if not self.doubt:
                self._ports.journal.prune()
        except errors.JournalUnusable as e:
            LOG.debug("%s", e)  # the journal has told it
        except errors.Error as e:
            LOG.warning("the trash cannot be purged now: %s", e.sentence)

    def _empty_trash(self) -> None:
        if self.doubt:
            self._ports.trash.tidy()
            return
        purged = self._ports.trash.purge()
        if purged:
            LOG.info("%d directories left the trash for good, by trash_retention or "
                     "trash_max_percent", purged)

    def _run(self) -> None:
        while not self._ports.shutdown.is_set():
            self.clean()
            self._ports.shutdown.wait(PAUSE)
