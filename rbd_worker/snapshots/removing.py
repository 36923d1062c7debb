# SPDX-License-Identifier: Apache-2.0
"""A snapshot leaves all disks, or none where anything depends on it.

An image loses a snapshot only while its note names this very set: one that
somebody else took later under the same name stays.
"""

import logging

from rbd_worker import errors
from rbd_worker.host.rbd_snapshots import Snapshots
from rbd_worker.model import RbdImage
from rbd_worker.snapshots.jobs import Jobs
from rbd_worker.snapshots.ledger import Ledger, State
from rbd_worker.snapshots.sets import SnapshotSet

LOG = logging.getLogger(__name__)


class Remover:
    """Safe to repeat; its callers see to it that one thread has the instance."""

    def __init__(self, snapshots: Snapshots, ledger: Ledger, jobs: Jobs) -> None:
        self._snapshots = snapshots
        self._ledger = ledger
        self._jobs = jobs

    def remove(self, one: SnapshotSet) -> None:
        """No disk has it any more, nor does the journal.

        :raises errors.SnapshotInUse: nothing was removed: it is protected or was cloned.
        :raises errors.InstanceBusy: nothing was removed: it is being copied or rolled back to.
        :raises errors.Error: some disks may have lost it; the rest follows later.
        """
        need = self._jobs.need(one)
        if need:
            raise errors.InstanceBusy(instance=one.instance, reason=f"{need} is under way")
        owned = [image for image in one.images if self.is_on(one, image)]
        for image in owned:
            self._snapshots.ties(image, one.name).check(image, one.name)
        is_recorded = any(row.set.id == one.id for row in self._ledger.rows(one.instance))
        if is_recorded:
            self._ledger.write(State.REMOVING, one)
        self.clear(one)
        if is_recorded:
            self._ledger.drop(one)
        LOG.info("%s is removed from %d disk(s)", one, len(owned))

    def clear(self, one: SnapshotSet) -> None:
        """What there is of it is removed from every disk; the journal stays as it is."""
        for image in one.images:
            if self.is_on(one, image):
                self._snapshots.remove(image, one.name)
                self._snapshots.erase_note(image, one.name)

    def is_on(self, one: SnapshotSet, image: RbdImage) -> bool:
        """Whether the image, if it is still there, has this set's snapshot or note."""
        try:
            note = self._snapshots.notes(image).get(one.name)
            if note is None and not one.id:  # an operator means one whose note is lost
                return self._snapshots.find(image, one.name) is not None
        except errors.ImageMissing:
            return False
        found = SnapshotSet.from_note(note) if note is not None else None
        return found is not None and found.id == one.id
