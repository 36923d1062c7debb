# SPDX-License-Identifier: Apache-2.0
"""Which snapshots there are: by what is written on the disks, and by the journal of this host."""

import dataclasses
import typing as ty

from rbd_worker import errors
from rbd_worker.host.hypervisor import Hypervisor
from rbd_worker.host.rbd_snapshots import PREFIX, Found, Snapshots
from rbd_worker.model import GuestState, RbdImage
from rbd_worker.snapshots.jobs import Jobs
from rbd_worker.snapshots.ledger import Ledger
from rbd_worker.snapshots.sets import SnapshotSet, is_name
from rpcapi import snapshots as contract

#: A snapshot's name to what each image has of it.
_ByName = dict[str, dict[RbdImage, Found]]


@dataclasses.dataclass(frozen=True)
class Teller:
    """Looks only."""

    host: str
    hypervisor: Hypervisor
    snapshots: Snapshots
    ledger: Ledger
    jobs: Jobs

    def listed(self, instance: str | None) -> contract.ListReply:
        """Of an instance whose guest is here all that its disks have; else what the journal has.

        :raises errors.Error: libvirt, Ceph or the journal does not answer.
        """
        if instance is not None and self._is_here(instance):
            found = self._on_disks(instance)
        else:
            found = [row.set.told(row.state.value, map(_unseen(row.set), row.set.images))
                     for row in self.ledger.rows(instance)]
        return contract.ListReply(snapshots=tuple(found[-contract.MAX_SNAPSHOTS:]))

    def show(self, instance: str, name: str) -> contract.Snapshot:
        """One of them, with its disks as they are now.

        :raises errors.SnapshotMissing: neither the disks nor the journal have it.
        """
        return self.told(self.find(instance, name))

    def find(self, instance: str, name: str) -> SnapshotSet:
        """:raises errors.SnapshotMissing: neither the disks nor the journal have it."""
        row = self.ledger.row(instance, name)
        if row is not None:
            return row.set
        if not self._is_here(instance):
            raise errors.SnapshotMissing(
                name=name, instance=instance,
                reason=f"{self.host} did not take it and does not have the guest")
        images = self.hypervisor.images(instance)
        of_name = {image: found for image in images
                   if (found := self.snapshots.find(image, name)) is not None}
        if not of_name:
            raise errors.SnapshotMissing(name=name, instance=instance,
                                         reason="none of its disks has it")
        return self._set_of(instance, name, of_name)

    def told(self, one: SnapshotSet) -> contract.Snapshot:
        """``one`` with its disks as they are now."""
        disks = [self._disk(image, one.name) for image in one.images]
        row = self.ledger.row(one.instance, one.name)
        state: ty.Any = "made" if row is None else row.state.value
        is_whole = all(disk.id for disk in disks) and one.id
        return one.told(state if is_whole or state != "made" else "incomplete", disks,
                        self.jobs.of(one)[-contract.MAX_JOBS:])

    # -- inside --------------------------------------------------------------

    def _is_here(self, instance: str) -> bool:
        return self.hypervisor.state(instance) is not GuestState.ABSENT

    def _on_disks(self, instance: str) -> list[contract.Snapshot]:
        names: _ByName = {}
        for image in self.hypervisor.images(instance):
            for found in self.snapshots.of(image):
                names.setdefault(found.name, {})[image] = found
        told = [self._brief(self._set_of(instance, name, of_name), of_name)
                for name, of_name in names.items() if is_name(name)]
        return sorted(told, key=lambda snapshot: snapshot.at)

    def _set_of(self, instance: str, name: str, of_name: dict[RbdImage, Found]) -> SnapshotSet:
        """By the notes; made up where there is none."""
        for found in of_name.values():
            noted = SnapshotSet.from_note(found.note)
            if noted is not None and (noted.instance, noted.name) == (instance, name):
                return noted
        return SnapshotSet(id="", name=name, instance=instance, host=self.host,
                           images=tuple(of_name), at=min(f.at for f in of_name.values()),
                           note="who took it is not known: its note on the disk is lost")

    def _brief(self, one: SnapshotSet, of_name: dict[RbdImage, Found]) -> contract.Snapshot:
        row = self.ledger.row(one.instance, one.name)
        disks = [_seen(image, of_name[image]) if image in of_name else _unseen(one)(image)
                 for image in one.images]
        if row is not None and row.state != "made":
            return one.told(row.state.value, disks)
        is_whole = all(disk.id for disk in disks) and one.id
        return one.told("made" if is_whole else "incomplete", disks)

    def _disk(self, image: RbdImage, name: str) -> contract.Disk:
        try:
            found = self.snapshots.find(image, name)
        except errors.ImageMissing:
            found = None
        if found is None:
            return contract.Disk(image=str(image), snapshot=PREFIX + name)
        ties = self.snapshots.ties(image, name)
        return contract.Disk(image=str(image), snapshot=PREFIX + name, id=found.id,
                             size=found.size, protected=ties.is_protected,
                             children=ties.children[:256])


def _seen(image: RbdImage, found: Found) -> contract.Disk:
    return contract.Disk(image=str(image), snapshot=PREFIX + found.name, id=found.id,
                         size=found.size)


def _unseen(one: SnapshotSet) -> ty.Callable[[RbdImage], contract.Disk]:
    return lambda image: contract.Disk(image=str(image), snapshot=PREFIX + one.name)
