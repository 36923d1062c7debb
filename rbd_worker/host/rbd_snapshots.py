# SPDX-License-Identifier: Apache-2.0
"""Snapshots of single RBD images, each with a note on the image that says whose it is.

The note is image metadata under ``rbd-worker.snapshot.<name>``: Ceph 16 keeps
none on a snapshot itself.  Every method does its work as often as it is asked
to with the same end, since whoever asks may have been killed in between.

A snapshot of an image that a running QEMU has locked is taken by that QEMU:
librbd here asks the owner of the exclusive lock, which flushes its cache first.
"""

import datetime
import typing as ty

from rbd_worker import errors
from rbd_worker.host import rbd
from rbd_worker.model import RbdImage

#: Before an operator's name for a snapshot, so that nobody else's is ever touched.
PREFIX = "rbd-worker."
NOTE = "rbd-worker.snapshot."


class Found(ty.NamedTuple):
    """A snapshot as Ceph has it.

    :ivar name: without the prefix.
    :ivar size: of the image then, in bytes.
    :ivar at: seconds since the epoch, by Ceph's clock.
    :ivar note: as it was given; empty where there is none.
    """

    name: str
    id: int
    size: int
    at: float
    note: str


class Ties(ty.NamedTuple):
    """What keeps a snapshot from being removed."""

    is_protected: bool
    children: tuple[str, ...]

    @property
    def sentence(self) -> str:
        if self.children:
            return "it was cloned as " + ", ".join(self.children[:8])
        return "it is protected" if self.is_protected else "nothing depends on it"

    def check(self, image: RbdImage, name: str) -> None:
        """:raises errors.SnapshotInUse: something keeps it."""
        if self.is_protected or self.children:
            raise errors.SnapshotInUse(image=image, snapshot=PREFIX + name, reason=self.sentence)


class Snapshots:
    """Thread-safe; each question blocks for ``ceph_timeout`` seconds at most.

    :raises errors.ImageMissing: there is no such image.
    :raises errors.CephForbids: the capabilities of the user do not include it.
    :raises errors.CephUnavailable: Ceph does not answer; it may be done all the same.
    """

    def __init__(self, store: rbd.ImageStore) -> None:
        self._store = store

    def of(self, image: RbdImage) -> tuple[Found, ...]:
        """This worker's kind of snapshots of an image, oldest first."""
        def look(cluster: ty.Any) -> tuple[Found, ...]:
            _, librbd = rbd.bindings()
            with rbd.opened(cluster, image) as one:
                notes = dict(one.metadata_list())
                return tuple(
                    Found(name, snap["id"], snap["size"], _seconds(one, snap["id"]),
                          notes.get(NOTE + name, ""))
                    for snap in sorted(one.list_snaps(), key=lambda snap: int(snap["id"]))
                    if snap["namespace"] == librbd.RBD_SNAP_NAMESPACE_TYPE_USER
                    and (name := snap["name"].removeprefix(PREFIX)) != snap["name"])
        return self._store.look(look, f"list the snapshots of {image}", image.pool)

    def find(self, image: RbdImage, name: str) -> Found | None:
        """One of them, or None."""
        return next((found for found in self.of(image) if found.name == name), None)

    def notes(self, image: RbdImage) -> dict[str, str]:
        """The notes on an image by name of snapshot, of such that are not there as well."""
        def look(cluster: ty.Any) -> dict[str, str]:
            with rbd.opened(cluster, image) as one:
                return {key.removeprefix(NOTE): value for key, value in one.metadata_list()
                        if key.startswith(NOTE)}
        return self._store.look(look, f"read the metadata of {image}", image.pool)

    def write_note(self, image: RbdImage, name: str, note: str) -> None:
        """Say on the image whose snapshot ``name`` is, before it is taken or after."""
        def write(cluster: ty.Any) -> None:
            with rbd.opened(cluster, image, read_only=False) as one:
                one.metadata_set(NOTE + name, note)
        self._store.look(write, f"write metadata of {image}", image.pool)

    def erase_note(self, image: RbdImage, name: str) -> None:
        """No note about that snapshot is left."""
        if name not in self.notes(image):
            return

        def erase(cluster: ty.Any) -> None:
            with rbd.opened(cluster, image, read_only=False) as one:
                one.metadata_remove(NOTE + name)
        self._store.look(erase, f"write metadata of {image}", image.pool)

    def take(self, image: RbdImage, name: str) -> None:
        """Take a snapshot now.

        :raises errors.SnapshotExists: there is one of that name.
        """
        def take(cluster: ty.Any) -> None:
            _, librbd = rbd.bindings()
            with rbd.opened(cluster, image, read_only=False) as one:
                try:
                    one.create_snap(PREFIX + name)
                except librbd.ImageExists as e:
                    raise errors.SnapshotExists(image=image, snapshot=PREFIX + name) from e
        self._store.look(take, f"take a snapshot of {image}", image.pool)

    def roll_back(self, image: RbdImage, name: str) -> None:
        """Have the image as it was, its size included; takes as long as it takes.

        Whoever has the image open would see its content change: nobody may.
        """
        def roll_back(cluster: ty.Any) -> None:
            with rbd.opened(cluster, image, read_only=False) as one:
                one.rollback_to_snap(PREFIX + name)
        self._store.work(roll_back, f"roll {image} back", image.pool)

    def watchers(self, image: RbdImage) -> frozenset[str]:
        """The IP addresses of whoever has the image open."""
        return self._store.watchers(image)

    def ties(self, image: RbdImage, name: str) -> Ties:
        """What depends on a snapshot; nothing where there is no such snapshot."""
        if self.find(image, name) is None:
            return Ties(False, ())

        def look(cluster: ty.Any) -> Ties:
            with rbd.opened(cluster, image, PREFIX + name) as one:
                return Ties(one.is_protected_snap(PREFIX + name),
                            tuple(map(_child, one.list_children2())))
        return self._store.look(look, f"list what was cloned of {image}", image.pool)

    def remove(self, image: RbdImage, name: str) -> None:
        """No such snapshot is there any more.

        A clone of format 2 would keep its space and only lose its name, so
        that nothing is removed that anything depends on.

        :raises errors.SnapshotInUse: it is protected or was cloned.
        """
        self.ties(image, name).check(image, name)

        def remove(cluster: ty.Any) -> None:
            _, librbd = rbd.bindings()
            with rbd.opened(cluster, image, read_only=False) as one:
                try:
                    one.remove_snap(PREFIX + name)
                except librbd.ImageBusy as e:
                    raise errors.SnapshotInUse(image=image, snapshot=PREFIX + name,
                                               reason="it was protected or cloned just now") from e
        if self.find(image, name) is not None:
            self._store.look(remove, f"remove a snapshot of {image}", image.pool)


def _seconds(image: ty.Any, snap_id: int) -> float:
    """The binding gives a naive time, which is UTC."""
    at: datetime.datetime = image.get_snap_timestamp(snap_id)
    return at.replace(tzinfo=datetime.UTC).timestamp()


def _child(child: ty.Mapping[str, ty.Any]) -> str:
    namespace = f"{child['pool_namespace']}/" if child.get("pool_namespace") else ""
    return f"{child['pool']}/{namespace}{child['image'] or child['id']}"

