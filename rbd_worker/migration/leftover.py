# SPDX-License-Identifier: Apache-2.0
"""A leftover in the way of a guest that is about to come (executor nova).

Nova fails with ``DestinationDiskExists`` where a directory of the instance
stands already (LP 1414895, 1761062).  The earliest sign of a coming guest is
``check_can_live_migrate_destination``, some 150 ms before nova-compute makes
the directory itself; within that time a leftover is judged, once, and taken
to the trash if every witness agrees.
"""

import logging

from rbd_worker import errors
from rbd_worker.migration import proof
from rbd_worker.migration.task import Ports

LOG = logging.getLogger(__name__)

#: Seconds that a directory must have stood unchanged.  A message may arrive
#: late: what is younger may be what nova-compute has just made for the guest.
#: An older one of nova-compute's would have a job on the source's domain.
MIN_AGE = 0.5


def ensure_no_leftover(ports: Ports, instance: str, holder: str) -> None:
    """Trash this host's directory of ``instance`` if it is proven to be a leftover.

    :param holder: the host that is said to have the guest; its own testimony decides.
    :raises errors.LeftoverStays: it is one, and ``audit_action`` is ``report``.
    :raises errors.Error: it is not proven to be one, and stays.
    """
    directory = ports.directories.pin(instance)
    if directory is None:
        return
    with directory:
        if any(entry.is_open for entry in ports.journal.entries_of(instance)):
            LOG.debug("[instance: %s] a migration is open here, its plan decides", instance)
            return
        age = ports.clock() - directory.changed
        if age < MIN_AGE:
            raise errors.NotProven(instance=instance,
                                   reason=f"it was changed {max(age, 0):.1f} s ago")
        if not ports.settings.audit_acts:
            proof.proven(ports, directory, holder, "")
            raise errors.LeftoverStays(instance=instance, holder=holder)
        item = proof.trash_if_proven(ports, directory, holder, "")
    LOG.info("[instance: %s] a leftover stood in the way of a live migration; it is in the "
             "trash as %s (the guest is on %s)", instance, item.id, holder)
