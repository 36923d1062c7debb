# SPDX-License-Identifier: Apache-2.0
"""The images of one guest, as this host sees them: can it open them, who has them?"""

import typing as ty

import msgspec

from rbd_worker import errors
from rbd_worker.host import rbd
from rbd_worker.model import RbdImage
from rbd_worker.preflight.bench import Bench, Check, Rows, Say
from rpcapi import preflight as contract


def with_images(bench: Bench, guest: contract.Guest) -> contract.Guest:
    """``guest`` with the RBD images that its disks are on.

    :raises errors.HypervisorUnavailable, errors.GuestNotHere, errors.BadInput: it cannot be told.
    """
    images = bench.hypervisor.images(guest.instance)
    return msgspec.structs.replace(guest, images=tuple(str(image) for image in images))


def _images(request: contract.SurveyRequest) -> tuple[RbdImage, ...]:
    named = request.guest.images if request.guest is not None else ()
    return tuple(RbdImage(pool, name) for pool, _, name in (one.partition("/") for one in named))


def _opened(bench: Bench, request: contract.SurveyRequest, say: Say) -> Rows:
    """Volumes count like any other: they may be in a pool that this host's user may not see."""
    images = _images(request)
    lost = 0
    for image in images:
        try:
            bench.images.holders(image)
        except (errors.CephForbids, errors.CephUnavailable) as e:
            lost += 1
            yield say.failed(str(e), e.remedy.format(**e.data))
    if images and not lost:
        yield say.ok(f"{len(images)} image(s) can be opened here")


def _watchers(bench: Bench, request: contract.SurveyRequest, say: Say) -> Rows:
    """Where the guest is, its host watches; where it is to go, nobody may yet."""
    own = bench.images.own_addresses()
    is_source = request.asker == bench.settings.host
    seen, odd = 0, 0
    for image, holders in _held(bench, request):
        seen += 1
        for client in sorted(holders.watchers):
            is_here = bool(rbd.addresses_in(client) & own)
            if is_here == is_source:
                continue
            odd += 1
            where = "from elsewhere" if is_source else "from here, where the guest is not"
            yield say.warning(
                f"{image} is watched {where}: {client}",
                "A client that died is gone after 30 s; if it stays, find that process "
                "(rbd-mirror is one that belongs there) and end it before the guest moves")
    if seen and not odd:
        yield say.ok(f"{seen} image(s): " + ("watched from this host only or not at all"
                                             if is_source else "not watched from this host"))


def _locks(bench: Bench, request: contract.SurveyRequest, say: Say) -> Rows:
    """A lock whose holder does not watch is a dead client's."""
    seen, dead = 0, 0
    for image, holders in _held(bench, request):
        seen += 1
        for client in sorted(holders.lockers - holders.watchers):
            dead += 1
            yield say.warning(
                f"{image} is locked by {client}, which does not watch it any more",
                "QEMU breaks the lock where its user has mon 'profile rbd'; otherwise "
                f"see 'rbd lock ls {image}' and remove it with 'rbd lock rm'")
    if seen and not dead:
        yield say.ok(f"{seen} image(s): no lock, or that of a living client")


def _held(bench: Bench, request: contract.SurveyRequest,
          ) -> ty.Iterator[tuple[RbdImage, rbd.Holders]]:
    for image in _images(request):
        yield image, bench.images.holders(image)


CHECKS = (Check("ceph.images", _opened), Check("ceph.watchers", _watchers),
          Check("ceph.locks", _locks))
