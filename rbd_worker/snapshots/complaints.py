# SPDX-License-Identifier: Apache-2.0
"""Why a snapshot that is to leave stays for now, said once and not in every round."""

import collections.abc
import logging

from rbd_worker import errors
from rbd_worker.snapshots.ledger import Row

LOG = logging.getLogger(__name__)


class Complaints:
    """Of one keeper of snapshots; used by its thread only."""

    def __init__(self) -> None:
        self._made: set[str] = set()

    def of(self, row: Row, error: errors.Error) -> None:
        """Log it, unless something was said of this snapshot already."""
        if row.set.id not in self._made:
            self._made.add(row.set.id)
            LOG.warning("%s stays for now: %s", row.set, error.sentence)

    def forget_all_but(self, rows: collections.abc.Iterable[Row]) -> None:
        self._made &= {row.set.id for row in rows}
