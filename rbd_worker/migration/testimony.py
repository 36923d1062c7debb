# SPDX-License-Identifier: Apache-2.0
"""What this host observes of an instance, told to a peer that asks.

Observed while answering: nothing is remembered from before.  A part that
cannot be observed says so, and the asker counts it as a no.
"""

import typing as ty

from rbd_worker import errors
from rbd_worker.host import hypervisor, instances, probe, rbd
from rbd_worker.migration.journal import Entry, Journal
from rbd_worker.model import Executor, GuestState, Migration, Phase, Role, Verdict
from rpcapi import payloads

#: Notes after which a source does not wait for nova-compute any more.
_SEEN_TO_BEGIN = ("guest_began_to_move", "guest_died", "settled")


class Testimonies:
    """Thread-safe.

    :param listed: which list of files this host last sent as the source of a migration.
    """

    __test__ = False

    def __init__(self, host: str, guests: hypervisor.Hypervisor, images: rbd.ImageStore,
                 directories: instances.Instances, journal: Journal,
                 listed: ty.Callable[[Migration], str]) -> None:
        self._host = host
        self._guests = guests
        self._images = images
        self._directories = directories
        self._journal = journal
        self._listed = listed

    def testify(self, question: payloads.Question) -> payloads.Testimony:
        """Never raises one of our errors: what cannot be observed becomes ``unknown``."""
        instance = question.instance
        entries = tuple(self._told(entry) for entry in self._journal.entries_of(instance))
        try:
            state = self._guests.state(instance)
            has_guest = state is not GuestState.ABSENT
            job = has_guest and self._guests.has_job(instance)
            images = self._guests.images(instance) if has_guest else ()
            own_probe, sees = self._look(instance, question.probe)
        except errors.Error as e:
            return payloads.Testimony(host=self._host, instance=instance, state="unknown",
                                      entries=entries, reason=str(e)[:1024])
        addresses, reason = self._addresses() if has_guest else (frozenset(), "")
        return payloads.Testimony(
            host=self._host, instance=instance, state=state.value, job=job,
            images=tuple(payloads.ImageName(pool=i.pool, name=i.name) for i in images),
            addresses=tuple(sorted(addresses)), entries=entries,
            sees_nonce=sees, probe=own_probe, reason=reason)

    def _addresses(self) -> tuple[frozenset[str], str]:
        """Of this host's Ceph client, or why they are not known.

        Where the guest is can be told without Ceph; a removal cannot do without.
        """
        try:
            return self._images.own_addresses(), ""
        except errors.Error as e:
            return frozenset(), str(e)[:1024]

    def _told(self, entry: Entry) -> payloads.OpenEntry:
        notes = self._notes(entry)
        return payloads.OpenEntry(
            migration=entry.migration.key, role=entry.migration.role.value,
            phase=entry.phase.value, outcome=entry.outcome or "", closed=not entry.is_open,
            given_up="given_up" in notes, listed=self._list_of(entry),
            waits=_waits(entry, notes))

    def _notes(self, entry: Entry) -> frozenset[str]:
        """What of an open entry's notes is told; a closed one's say nothing any more."""
        if not entry.is_open:
            return frozenset()
        return self._journal.recorded(entry.migration, "given_up", *_SEEN_TO_BEGIN)

    def _list_of(self, entry: Entry) -> str | None:
        is_source = entry.is_open and entry.migration.role is Role.SOURCE
        return self._listed(entry.migration) if is_source else None

    def _look(self, instance: str, theirs: payloads.PathProbe | None,
              ) -> tuple[payloads.PathProbe | None, bool]:
        """This host's identity of the directory, and whether the asker's nonce shows here."""
        if theirs is None:
            return None, False
        fact = probe.compare(self._directories, instance, theirs)
        if fact.verdict is Verdict.UNKNOWN:
            return None, False
        return probe.identity(self._directories, instance), fact.verdict is Verdict.NO


def _waits(entry: Entry, notes: frozenset[str]) -> bool:
    """Whether nova-compute has yet to begin to move the guest, as far as was seen here."""
    return (entry.is_open and entry.migration.role is Role.SOURCE
            and entry.migration.executor is Executor.NOVA
            and entry.phase in (Phase.PRE, Phase.LIVE) and notes.isdisjoint(_SEEN_TO_BEGIN))
