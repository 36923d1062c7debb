# SPDX-License-Identifier: Apache-2.0
"""A snapshot of all disks is taken, or none is left.

The disks are brought to one point as well as it goes: a guest that is off or
paused writes nothing; the agent of a running one freezes its file systems;
without an agent a single disk is as after a power loss, and several are taken
one after the other, which the answer says.

Ceph's groups would bring several disks to one point without an agent.  They
are not used: in Ceph 16 a group's snapshot cannot be cloned and lives only as
long as its group, an image is in one group only, which may be another tool's,
and the group would stay on the disks that Nova removes.
"""

import dataclasses
import logging
import typing as ty
import uuid

from rbd_worker import errors
from rbd_worker.host import domain_xml
from rbd_worker.host.hypervisor import Hypervisor
from rbd_worker.host.rbd_snapshots import PREFIX, Snapshots
from rbd_worker.model import GuestState, RbdImage
from rbd_worker.snapshots.freezer import Freezer
from rbd_worker.snapshots.ledger import Ledger, State
from rbd_worker.snapshots.quiet import Quiet
from rbd_worker.snapshots.removing import Remover
from rbd_worker.snapshots.sets import SnapshotSet
from rpcapi import snapshots as contract

LOG = logging.getLogger(__name__)

#: Most snapshots of this worker's kind on a disk: each makes the disk a little slower.
MAX_ON_A_DISK = 128


class Point(ty.NamedTuple):
    """How the disks were brought to one point, and what an operator should know of it."""

    how: contract.How
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Maker:
    """Its methods may be called by any thread."""

    host: str
    hypervisor: Hypervisor
    snapshots: Snapshots
    ledger: Ledger
    freezer: Freezer
    remover: Remover
    quiet: Quiet

    def create(self, request: contract.CreateRequest) -> tuple[SnapshotSet, tuple[str, ...]]:
        """Take it now, and tell what it does not hold.

        :raises errors.GuestNotHere, errors.BadInput, errors.SnapshotExists: it cannot be.
        :raises errors.InstanceBusy: not now.
        :raises errors.FreezeRefused: ``freeze`` is ``always``, and no agent does it.
        :raises errors.SnapshotTooSlow: the guest was thawed before all disks were taken.
        :raises errors.CephForbids, errors.CephUnavailable: nothing is left of it, or will be
            soon.
        """
        with self.quiet.alone(request.instance):
            return self.take(request)

    def take(self, request: contract.CreateRequest,
             migration: str = "") -> tuple[SnapshotSet, tuple[str, ...]]:
        """As :meth:`create`, for who has the instance for itself already.

        :param migration: that it is taken for, which has not begun to move the guest.
        """
        one = dataclasses.replace(self._planned(request), migration=migration)
        self._state(one)
        self._check_free(one)
        self.ledger.write(State.MAKING, one)
        try:
            made, point = self._taken(one, request.freeze)
            self.ledger.write(State.MADE, made)
        except errors.Error as e:
            self._undo(one, e)
            raise
        LOG.info("%s was taken of %d disk(s), %s", made, len(made.images), made.how)
        return made, (*self._left_out(one.instance), *point.warnings)

    # -- inside --------------------------------------------------------------

    def _state(self, one: SnapshotSet) -> GuestState:
        ask = self.quiet.unmoved if one.migration else self.quiet.state
        state = ask(one.instance)
        if state is GuestState.ABSENT:
            raise errors.GuestNotHere(instance=one.instance, host=self.host)
        return state

    def _planned(self, request: contract.CreateRequest) -> SnapshotSet:
        if self.hypervisor.state(request.instance) is GuestState.ABSENT:
            raise errors.GuestNotHere(instance=request.instance, host=self.host)
        images = self.hypervisor.images(request.instance)
        if not images:
            raise errors.BadInput(what=f"a snapshot of {request.instance}",
                                  reason="none of its disks is on RBD")
        if len(images) > contract.MAX_DISKS:
            raise errors.BadInput(what=f"a snapshot of {request.instance}",
                                  reason=f"it has more than {contract.MAX_DISKS} disks on RBD")
        now = self.ledger.clock()
        return SnapshotSet(
            id=str(uuid.uuid4()), name=request.name, instance=request.instance, host=self.host,
            images=images, at=now, by=request.by, note=request.note,
            expires=now + request.expires_in if request.expires_in else 0)

    def _check_free(self, one: SnapshotSet) -> None:
        earlier = self.ledger.row(one.instance, one.name)
        if earlier is not None and earlier.state is not State.MADE:
            raise errors.InstanceBusy(
                instance=one.instance,
                reason=f"what an earlier snapshot {one.name} left is being removed")
        for image in one.images:
            names = [found.name for found in self.snapshots.of(image)]
            if one.name in names or one.name in self.snapshots.notes(image):
                raise errors.SnapshotExists(image=image, snapshot=PREFIX + one.name)
            if len(names) >= MAX_ON_A_DISK:
                raise errors.BadInput(
                    what=f"a snapshot of {one.instance}",
                    reason=f"{image} has {len(names)} of them already; delete some first")

    def _taken(self, one: SnapshotSet, freeze: contract.Freeze) -> tuple[SnapshotSet, Point]:
        self._write_notes(one)
        point = self._at_one_point(one, freeze)
        made = dataclasses.replace(one, how=point.how)
        self._write_notes(made)
        return made, point

    def _write_notes(self, one: SnapshotSet) -> None:
        for image in one.images:
            self.snapshots.write_note(image, one.name, one.to_note())

    def _at_one_point(self, one: SnapshotSet, freeze: contract.Freeze) -> Point:
        state = self._state(one)
        why_not = "it was not asked for"
        if state is GuestState.RUNNING and freeze != "never":
            try:
                with self.freezer.frozen(one) as pause:
                    self._take(one.images, one.name)
                if pause.systems:
                    return Point("frozen")
                return _running(one, "its agent has none to freeze")
            except errors.FreezeRefused as e:
                if freeze == "always":
                    raise
                why_not = str(e.data["reason"])
        self._take(one.images, one.name)
        if state is GuestState.RUNNING or self.hypervisor.state(one.instance) is not state:
            return _running(one, why_not)
        return Point("off" if state is GuestState.SHUTOFF else "paused")

    def _take(self, images: ty.Iterable[RbdImage], name: str) -> None:
        for image in images:
            self.snapshots.take(image, name)

    def _undo(self, one: SnapshotSet, error: errors.Error) -> None:
        """Nothing is left of it; where Ceph does not say what it did the keeper sees to that."""
        LOG.warning("%s is not taken: %s", one, error.sentence)
        try:
            self.remover.clear(one)
            if not isinstance(error, errors.CephUnavailable):
                self.ledger.drop(one)
        except errors.Error as e:
            LOG.warning("%s what there is of it will be removed later: %s", one, e.sentence)

    def _left_out(self, instance: str) -> tuple[str, ...]:
        xml = self.hypervisor.description(instance)
        others = domain_xml.other_disks(xml) if xml is not None else ()
        if not others:
            return ()
        return (f"not in it, because not on RBD: {', '.join(others)}",)


def _running(one: SnapshotSet, why_not: str) -> Point:
    """A guest that went on writing."""
    said = f"the guest's file systems were not frozen ({why_not})"
    if len(one.images) == 1:
        return Point("single", (f"{said}: its disk is as after a power loss",))
    return Point("sequence", (
        f"{said}, and its {len(one.images)} disks were taken one after the other: what was "
        "written in between is on some of them only",))
