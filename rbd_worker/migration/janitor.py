# SPDX-License-Identifier: Apache-2.0
"""What grows is cut, every hour: the trash by age and size, the journal by age and number.

Both are a matter of ages, so nothing is cut while the clock is in doubt (see
:mod:`rbd_worker.host.clock_guard`).
"""

import logging

from rbd_worker import errors, periodic
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
        self._rounds = periodic.Periodic("janitor", self.clean, PAUSE, ports.shutdown,
                                         "nothing could be cut")

    def start(self) -> None:
        self._rounds.start()

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
