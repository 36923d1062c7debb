# SPDX-License-Identifier: Apache-2.0
"""A leftover in the way of a guest that is about to come (executor nova).

Nova fails with ``DestinationDiskExists`` where a directory of the instance
stands already (LP 1414895, 1761062).  The earliest sign of a coming guest is
``check_can_live_migrate_destination``, some 150 ms before nova-compute makes
the directory itself; within that time a leftover is judged, once, and taken
to the trash if every witness agrees.

An earlier migration to this host may still be open: Nova says nothing where
it fails before the guest moves and cannot roll back either, because libvirt
at the source is away, say.  Nova orders one migration of a guest at a time,
so that the directory of an earlier one is a leftover like any other, once it
has stood as long as Nova may take to begin.
"""

import logging
import typing as ty

from rbd_worker import errors
from rbd_worker.host import instances
from rbd_worker.migration import proof
from rbd_worker.migration.journal import Entry
from rbd_worker.migration.task import Ports
from rbd_worker.model import Executor, Phase, Role

LOG = logging.getLogger(__name__)

#: Seconds that a directory must have stood unchanged.  A message may arrive
#: late: what is younger may be what nova-compute has just made for the guest.
MIN_AGE = 0.5


def ensure_no_leftover(ports: Ports, instance: str, holder: str,
                       asked: float | None = None, key: str = "") -> None:
    """Trash this host's directory of ``instance`` if it is proven to be a leftover.

    :param holder: the host that is said to have the guest; its own testimony decides.
    :param asked: when the live migration was asked for, in seconds since the epoch.  What
        was changed later nova-compute may have made for the guest: with volumes and networks
        to prepare, minutes pass before there is a job at the source.
    :param key: of the migration that is being checked.
    :raises errors.LeftoverStays: it is one, and ``audit_action`` is ``report``.
    :raises errors.Error: it is not proven to be one, and stays.
    """
    directory = ports.directories.pin(instance)
    if directory is None:
        return
    with directory:
        earlier = [entry for entry in ports.journal.entries_of(instance)
                   if entry.is_open and holder in entry.migration.hosts]
        if earlier and not _are_overtaken(ports, earlier, directory, asked, key):
            LOG.debug("[instance: %s] a migration is open here, its plan decides", instance)
            return
        age = ports.clock() - directory.changed
        if age < MIN_AGE:
            raise errors.NotProven(instance=instance,
                                   reason=f"it was changed {max(age, 0):.1f} s ago")
        if asked is not None and directory.changed >= asked:
            raise errors.NotProven(instance=instance, reason="it was changed after this live "
                                                             "migration was asked for")
        evidence = proof.proven(
            ports, directory, holder, "", demand_active=True,
            overtaken=frozenset(entry.migration.key for entry in earlier))
        if not ports.settings.audit_acts:
            raise errors.LeftoverStays(instance=instance, holder=holder)
        item = proof.take(ports, directory, evidence, "")
    LOG.info("[instance: %s] a leftover stood in the way of a live migration; it is in the "
             "trash as %s (the guest is on %s)", instance, item.id, holder)


def _are_overtaken(ports: Ports, earlier: ty.Iterable[Entry],
                   directory: instances.PinnedDirectory, asked: float | None, key: str) -> bool:
    """Whether no earlier migration to this host can need the directory any more.

    It was made before the new one was asked for, which alone may be forged: as for a
    rollback that is heard, the directory must have stood for ``nova_cleanup_grace`` as well.
    Then the source has to say that the guest never began to move.
    """
    if asked is None or directory.changed >= asked:
        return False
    if ports.clock() - directory.changed < ports.settings.nova_cleanup_grace:
        return False
    return all(entry.migration.key != key  # else its check has come late
               and entry.migration.role is Role.DESTINATION
               and entry.migration.executor is Executor.NOVA
               and entry.phase in (Phase.PRE, Phase.LIVE) for entry in earlier)
