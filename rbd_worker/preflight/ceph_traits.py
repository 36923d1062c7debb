# SPDX-License-Identifier: Apache-2.0
"""In what two hosts' Ceph has to agree, and what each tells of it.

A guest's XML carries the secret's UUID, the user, the pool and the image: the
destination has to mean the same by them.  The key itself stays where it is;
each host gives an HMAC of it under a salt that the asker made for this once.
"""

import hashlib
import hmac
import typing as ty

from rbd_worker import errors
from rbd_worker.preflight.bench import Bench, Comparison, Rows, Say
from rpcapi import preflight as contract


def gather(bench: Bench, _request: contract.SurveyRequest) -> dict[str, ty.Any]:
    """The cluster, and the pool by name and number."""
    pool = bench.settings.ceph.pool

    def look(cluster: ty.Any) -> tuple[str, int | None]:
        return str(cluster.get_fsid()), cluster.pool_lookup(pool)
    fsid, number = bench.images.look(look, "tell its fsid and pools")
    return {"fsid": fsid, "pool": pool, "pool_id": -1 if number is None else number}


def gather_key(bench: Bench, request: contract.SurveyRequest) -> dict[str, ty.Any]:
    """The digest of what libvirt's secret holds; nothing where there is none."""
    uuid = bench.settings.ceph.secret_uuid
    if not uuid:
        return {}
    try:
        return {"key_digest": bench.secrets.lend(uuid, lambda key: digest(key, request.salt))}
    except errors.SecretUnusable:
        return {}


def digest(key: bytes, salt: str) -> str:
    """Equal for equal keys under one salt; tells nothing else of a random key."""
    return hmac.new(bytes.fromhex(salt), key, hashlib.sha256).hexdigest()


def _equal(what: str, field: str, remedy: str, is_shown: bool = True,
           ) -> ty.Callable[[contract.Traits, contract.Traits, Say], Rows]:
    """A comparison of one field; empty and -1 are not known."""
    def compare(source: contract.Traits, destination: contract.Traits, say: Say) -> Rows:
        ours, theirs = getattr(source, field), getattr(destination, field)
        silent = [traits.host for traits, value in ((source, ours), (destination, theirs))
                  if value in ("", -1)]
        if silent:
            yield say.unknown(f"{' and '.join(silent)} did not tell {what}")
        elif ours != theirs:
            yield say.failed(f"{what} differs: {ours} here, {theirs} on {destination.host}"
                             if is_shown else f"{what} differs on {destination.host}", remedy)
        else:
            yield say.ok(f"{what} is {ours} on both" if is_shown else f"{what} is equal")
    return compare


COMPARISONS = (
    Comparison("ceph.images-type", _equal(
        "images_type", "images_type", "Set [libvirt] images_type = rbd on both hosts")),
    Comparison("ceph.fsid", _equal(
        "the cluster", "fsid", "Both hosts need the same cluster: compare their ceph.conf")),
    Comparison("ceph.pool-name", _equal(
        "the pool", "pool", "Set [libvirt] images_rbd_pool alike on both hosts")),
    Comparison("ceph.pool-id", _equal(
        "the number of the pool", "pool_id", "The pools are not the same one: compare the "
        "clusters and [libvirt] images_rbd_pool of both hosts")),
    Comparison("ceph.user-name", _equal(
        "the user", "ceph_user", "Set [libvirt] rbd_user alike on both hosts")),
    Comparison("ceph.secret-uuid", _equal(
        "rbd_secret_uuid", "secret_uuid", "Define the secret under one UUID on all hosts and set "
        "[libvirt] rbd_secret_uuid to it: a guest's XML carries it along")),
    Comparison("ceph.secret-key", _equal(
        "the key in libvirt's secret", "key_digest", "Set the key that 'ceph auth get-key' gives "
        "on both hosts, with virsh secret-set-value", is_shown=False)),
)
