# SPDX-License-Identifier: Apache-2.0
"""An independent copy of one snapshot: a clone that is flattened under a name of its own.

Until it is whole it has a name that no other image can have, made of the
copy's id; then it is renamed.  So whatever a killed worker left is known as
its own by the name, and nobody takes half a copy for a whole one.  A mark in
its metadata tells a clone from the remains of one.

A clone has no object map before it is flat.  librbd (16.2, seen on it) writes
to the map that an object is there before it copies the object, and a flatten
skips what the map says is there: after one that was broken off the next would
leave zeros where the parent has data, and rebuilding the map does not help.

Where the cluster lets all clients use clones of format 2 librbd makes those by
itself; elsewhere the snapshot has to be protected for as long as it is needed.
"""

import typing as ty

from rbd_worker import errors
from rbd_worker.host import rbd
from rbd_worker.host.rbd_snapshots import NOTE, PREFIX
from rbd_worker.model import RbdImage

#: On a copy, in its metadata: what it is of, as its maker wrote it.
MARK = "rbd-worker.copy"


class Look(ty.NamedTuple):
    """What there is under a name.

    :ivar mark: as it was written; empty where there is none.
    :ivar is_flat: it depends on no snapshot.
    """

    mark: str
    is_flat: bool


class Copies:
    """Thread-safe; everything may be repeated.

    :raises errors.CephForbids: the capabilities of the user do not include it.
    :raises errors.CephUnavailable: Ceph does not answer, or has no room.
    """

    def __init__(self, store: rbd.ImageStore) -> None:
        self._store = store

    def has_pool(self, pool: str) -> bool:
        return self._store.look(lambda cluster: bool(cluster.pool_exists(pool)),
                                f"look for pool {pool}", pool)

    def look(self, image: RbdImage) -> Look | None:
        """None where there is no such image."""
        def look(cluster: ty.Any) -> Look:
            _, librbd = rbd.bindings()
            with rbd.opened(cluster, image) as one:
                mark = dict(one.metadata_list()).get(MARK, "")
                try:
                    one.parent_info()
                except librbd.ImageNotFound:
                    return Look(mark, True)
                return Look(mark, False)
        try:
            return self._store.look(look, f"open {image}", image.pool)
        except errors.ImageMissing:
            return None

    def protect(self, image: RbdImage, name: str) -> None:
        """The snapshot may be cloned and cannot be removed."""
        def protect(cluster: ty.Any) -> None:
            with rbd.opened(cluster, image, read_only=False) as one:
                if not one.is_protected_snap(PREFIX + name):
                    one.protect_snap(PREFIX + name)
        self._store.look(protect, f"protect a snapshot of {image}", image.pool)

    def unprotect(self, image: RbdImage, name: str) -> None:
        """The snapshot may be removed, unless something was cloned of it meanwhile."""
        def unprotect(cluster: ty.Any) -> None:
            _, librbd = rbd.bindings()
            with rbd.opened(cluster, image, read_only=False) as one:
                try:
                    if one.is_protected_snap(PREFIX + name):
                        one.unprotect_snap(PREFIX + name)
                except librbd.ImageBusy:
                    return  # somebody else's clone
                except librbd.ImageNotFound:
                    return  # the snapshot is gone
        self._store.look(unprotect, f"unprotect a snapshot of {image}", image.pool)

    def clone(self, image: RbdImage, name: str, target: RbdImage, mark: str) -> None:
        """``target`` is a clone with its mark; what was left under its name is replaced.

        :raises errors.SnapshotInUse: a clone needs the snapshot to be protected.
        :raises errors.CopyInTheWay: what was left does not go away.
        """
        found = self.look(target)
        if found is not None and found.mark:
            return
        self.remove(target)  # also what was left so early that it does not look like an image

        def clone(cluster: ty.Any) -> None:
            _, librbd = rbd.bindings()
            namespace, _, source = image.name.rpartition("/")
            with cluster.open_ioctx(image.pool) as parent, cluster.open_ioctx(
                    target.pool) as child:
                parent.set_namespace(namespace)
                try:
                    librbd.RBD().clone(parent, source, PREFIX + name, child, target.name,
                                       features=_features(librbd))
                except librbd.InvalidArgument as e:
                    raise errors.SnapshotInUse(image=image, snapshot=PREFIX + name,
                                               reason="it is not protected") from e
                except librbd.ImageExists as e:
                    raise errors.CopyInTheWay(image=target) from e
            with rbd.opened(cluster, target, read_only=False) as one:
                for key, _ in list(one.metadata_list()):
                    if key.startswith(NOTE):  # a clone inherits what is written on its parent
                        one.metadata_remove(key)
                one.metadata_set(MARK, mark)
        self._store.work(clone, f"clone {image} into pool {target.pool}", target.pool)

    def flatten(self, image: RbdImage, on_progress: ty.Callable[[float], None]) -> None:
        """The image depends on nothing; takes as long as it takes.

        :param on_progress: called with the share that is done, from a thread of librbd.
        """
        found = self.look(image)
        if found is None or found.is_flat:
            return

        def progress(done: int, total: int) -> int:
            on_progress(done / total if total else 0.0)
            return 0  # librbd's C callback wants a number

        def flatten(cluster: ty.Any) -> None:
            with rbd.opened(cluster, image, read_only=False) as one:
                one.flatten(on_progress=progress)
        self._store.work(flatten, f"flatten {image}", image.pool)

    def map_objects(self, image: RbdImage, like: RbdImage) -> None:
        """A flat image has an object map if ``like`` has one: it could not have it before."""
        def add(cluster: ty.Any) -> None:
            _, librbd = rbd.bindings()
            wanted = librbd.RBD_FEATURE_OBJECT_MAP | librbd.RBD_FEATURE_FAST_DIFF
            with rbd.opened(cluster, like) as model:
                wanted &= model.features()
            with rbd.opened(cluster, image, read_only=False) as one:
                if wanted & ~one.features():
                    one.update_features(wanted & ~one.features(), True)
                if one.flags() & librbd.RBD_FLAG_OBJECT_MAP_INVALID:
                    one.rebuild_object_map()
        self._store.work(add, f"write the object map of {image}", image.pool)

    def rename(self, image: RbdImage, target: RbdImage) -> None:
        """:raises errors.CopyInTheWay: there is an image of that name."""
        def rename(cluster: ty.Any) -> None:
            _, librbd = rbd.bindings()
            with cluster.open_ioctx(image.pool) as ioctx:
                try:
                    librbd.RBD().rename(ioctx, image.name, target.name)
                except librbd.ImageExists as e:
                    raise errors.CopyInTheWay(image=target) from e
        self._store.look(rename, f"rename {image}", image.pool)

    def remove(self, image: RbdImage) -> None:
        """No such image is there any more; only ever called with a copy's own name."""
        def remove(cluster: ty.Any) -> None:
            _, librbd = rbd.bindings()
            with cluster.open_ioctx(image.pool) as ioctx:
                try:
                    librbd.RBD().remove(ioctx, image.name)
                except librbd.ImageNotFound:
                    return
        self._store.work(remove, f"remove {image}", image.pool)


def _features(librbd: ty.Any) -> int:
    return int(librbd.RBD_FEATURE_LAYERING | librbd.RBD_FEATURE_EXCLUSIVE_LOCK
               | librbd.RBD_FEATURE_DEEP_FLATTEN)
