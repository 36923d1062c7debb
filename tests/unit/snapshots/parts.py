# SPDX-License-Identifier: Apache-2.0
"""Images in memory behind the methods of ``rbd_snapshots.Snapshots``, and all parts on them."""

import dataclasses
import pathlib
import threading
import typing as ty

from rbd_worker import errors
from rbd_worker.host.rbd_copies import Look
from rbd_worker.host.rbd_snapshots import PREFIX, Found, Ties
from rbd_worker.migration.journal import Journal
from rbd_worker.model import GuestState, RbdImage
from rbd_worker.snapshots import (
    before_migration,
    copying,
    freezer,
    jobs,
    keeper,
    ledger,
    making,
    quiet,
    removing,
    rolling_back,
    telling,
)
from rpcapi import snapshots as contract
from tests import fakes
from tests.timeline import Timeline

INSTANCE = "11111111-2222-4333-8444-000000000001"
ROOT = RbdImage("vms", f"{INSTANCE}_disk")
DATA = RbdImage("volumes", "volume-1")


class Killed(BaseException):
    """The worker ends here, and no ``finally`` matters any more."""


@dataclasses.dataclass
class Image:
    snapshots: dict[str, int] = dataclasses.field(default_factory=dict)
    notes: dict[str, str] = dataclasses.field(default_factory=dict)
    protected: set[str] = dataclasses.field(default_factory=set)
    children: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    watchers: set[str] = dataclasses.field(default_factory=set)
    content: str = "now"


class Snapshots:
    """What Ceph has, and what befalls the next calls.

    :ivar before: called before each change with its name and image.
    """

    def __init__(self, *images: RbdImage) -> None:
        self.images = {image: Image() for image in images}
        self.before: ty.Callable[[str, RbdImage], None] = lambda what, image: None
        self._id = 0

    def of(self, image: RbdImage) -> tuple[Found, ...]:
        one = self._at(image)
        return tuple(Found(name, id_, 4 << 20, 1000.0, one.notes.get(name, ""))
                     for name, id_ in one.snapshots.items())

    def find(self, image: RbdImage, name: str) -> Found | None:
        return next((found for found in self.of(image) if found.name == name), None)

    def notes(self, image: RbdImage) -> dict[str, str]:
        return dict(self._at(image).notes)

    def write_note(self, image: RbdImage, name: str, note: str) -> None:
        self.before("write_note", image)
        self._at(image).notes[name] = note

    def erase_note(self, image: RbdImage, name: str) -> None:
        self.before("erase_note", image)
        self._at(image).notes.pop(name, None)

    def take(self, image: RbdImage, name: str) -> None:
        self.before("take", image)
        if name in self._at(image).snapshots:
            raise errors.SnapshotExists(image=image, snapshot=PREFIX + name)
        self._id += 1
        self._at(image).snapshots[name] = self._id

    def roll_back(self, image: RbdImage, name: str) -> None:
        self.before("roll_back", image)
        if name not in self._at(image).snapshots:
            raise errors.ImageMissing(what=image, reason="none", conf="ceph.conf", user="nova")
        self.images[image].content = f"at {name}"
        self.before("rolled back", image)

    def watchers(self, image: RbdImage) -> frozenset[str]:
        return frozenset(self._at(image).watchers)

    def ties(self, image: RbdImage, name: str) -> Ties:
        one = self._at(image)
        return Ties(name in one.protected, one.children.get(name, ()))

    def remove(self, image: RbdImage, name: str) -> None:
        self.before("remove", image)
        if self.ties(image, name) != Ties(False, ()):
            raise errors.SnapshotInUse(image=image, snapshot=PREFIX + name, reason="it is held")
        self._at(image).snapshots.pop(name, None)

    def _at(self, image: RbdImage) -> Image:
        if image not in self.images:
            raise errors.ImageMissing(what=image, reason="none", conf="ceph.conf", user="nova")
        return self.images[image]


@dataclasses.dataclass
class Target:
    mark: str
    parent: tuple[RbdImage, str] | None


class Copies:
    """The methods of ``rbd_copies.Copies`` for images in a pool ``backups``."""

    def __init__(self, ceph: Snapshots, targets: dict[RbdImage, Target]) -> None:
        self._ceph = ceph
        self._targets = targets

    def has_pool(self, pool: str) -> bool:
        return pool == "backups"

    def look(self, image: RbdImage) -> Look | None:
        found = self._targets.get(image)
        return None if found is None else Look(found.mark, found.parent is None)

    def protect(self, image: RbdImage, name: str) -> None:
        self._ceph.before("protect", image)
        self._ceph.images[image].protected.add(name)

    def unprotect(self, image: RbdImage, name: str) -> None:
        self._ceph.before("unprotect", image)
        self._ceph.images[image].protected.discard(name)

    def clone(self, image: RbdImage, name: str, target: RbdImage, mark: str) -> None:
        self._ceph.before("clone", image)
        if name not in self._ceph.images[image].protected:
            raise errors.SnapshotInUse(image=image, snapshot=name, reason="it is not protected")
        self._targets.setdefault(target, Target(mark, (image, name)))

    def flatten(self, image: RbdImage, on_progress: ty.Callable[[float], None]) -> None:
        self._ceph.before("flatten", image)
        on_progress(0.5)
        if image in self._targets:
            self._targets[image].parent = None

    def map_objects(self, image: RbdImage, like: RbdImage) -> None:
        self._ceph.before("map", image)

    def rename(self, image: RbdImage, target: RbdImage) -> None:
        self._ceph.before("rename", image)
        if target in self._targets:
            raise errors.CopyInTheWay(image=target)
        self._targets[target] = self._targets.pop(image)
        self._ceph.before("renamed", image)

    def remove(self, image: RbdImage) -> None:
        self._ceph.before("remove copy", image)
        self._targets.pop(image, None)


class Worker:
    """Every part of one host's snapshots, on the real journal; may be started again."""

    def __init__(self, path: pathlib.Path, *images: RbdImage, limit: float = 30.0) -> None:
        self._path, self._limit = path, limit
        self.now = 1000.0
        self.doubt = ""
        self.tasks: list[ty.Any] = []
        self.libvirt = fakes.Libvirt("node1", path, ty.cast(Timeline, None), {})
        self.libvirt.states[INSTANCE] = GuestState.RUNNING
        self.libvirt.names[INSTANCE] = images
        self.ceph = Snapshots(*images)
        self.targets: dict[RbdImage, Target] = {}
        self.start()

    def start(self) -> None:
        """As a process that begins, with what the journal has."""
        self.journal = Journal(self._path, clock=lambda: self.now, host="node1")
        hypervisor: ty.Any = self.libvirt
        ceph: ty.Any = self.ceph
        self.ledger = ledger.Ledger(self.journal, lambda: self.now)
        self.quiet = quiet.Quiet(hypervisor, lambda _: self.tasks)
        self.freezer = freezer.Freezer(self.ledger, hypervisor, self._limit)
        self.shutdown = threading.Event()
        self.jobs = jobs.Jobs(self.journal, lambda: self.now, self.shutdown)
        remover = removing.Remover(ceph, self.ledger, self.jobs)
        self.maker = making.Maker("node1", hypervisor, ceph, self.ledger, self.freezer, remover,
                                  self.quiet)
        self.teller = telling.Teller("node1", hypervisor, ceph, self.ledger, self.jobs)
        self.remover = remover
        self.copies = Copies(self.ceph, self.targets)
        self.rollback = rolling_back.Rollback(self.maker, ceph, remover, self.jobs)
        copies: ty.Any = self.copies
        self.copying = copying.Copying("vms", copies, remover, self.ledger, self.jobs)
        self.before = before_migration.BeforeMigration(
            self.maker, remover, self.ledger, self.quiet, self.journal, is_on=True)
        self.keeper = keeper.Keeper(self.ledger, self.freezer, remover, self.quiet,
                                    self.jobs, self.before, lambda: self.doubt, self.shutdown)

    def restart(self) -> None:
        self.journal.close()
        self.start()

    def create(self, name: str = "first", **wishes: ty.Any) -> contract.How:
        one, self.warnings = self.maker.create(contract.CreateRequest(
            instance=INSTANCE, name=name, **wishes))
        return one.how

    def left(self) -> list[tuple[list[str], list[str]]]:
        """Snapshots and notes of each image."""
        return [(sorted(i.snapshots), sorted(i.notes)) for i in self.ceph.images.values()]
