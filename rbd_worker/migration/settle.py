# SPDX-License-Identifier: Apache-2.0
"""What both hosts' libvirt say, turned into where the guest is.

A pure table.  No single event, exit status or message settles a migration:
RESUMED/MIGRATED also fires on the source after a failure, and an error of
``migrateToURI3`` (libvirt's 42, 55, 69, 78) may come although the guest moved.
"""

import dataclasses
import enum

from rbd_worker.model import GuestState


class Place(enum.StrEnum):
    """Where the guest is, as far as both hosts' answers tell."""

    SOURCE = "source"
    DESTINATION = "destination"
    BETWEEN = "between"
    NOWHERE_KNOWN = "nowhere known"


@dataclasses.dataclass(frozen=True)
class Settlement:
    place: Place
    sentence: str


#: A domain that is there, but that no QEMU runs.
_DEFINED = GuestState.SHUTOFF


def settle(source: GuestState, destination: GuestState) -> Settlement:
    """Where the guest is, given both hosts' observed states.

    BETWEEN means that libvirt still works on it: wait.  NOWHERE_KNOWN means
    that no conclusion is safe: the entry becomes *unresolved*.
    """
    said = f"source says {source}, destination says {destination}"
    if GuestState.STRANDED in (source, destination):
        return Settlement(Place.NOWHERE_KNOWN, f"{_broken(source, destination)}: {said}")
    if GuestState.OUTGOING in (source, destination) or GuestState.INCOMING in (
            source, destination):
        return Settlement(Place.BETWEEN, f"the guest is moving: {said}")
    if source.is_active and destination.is_active:
        return Settlement(Place.NOWHERE_KNOWN,
                          f"the guest seems to run on both hosts, look at it at once: {said}")
    if destination.is_active:
        return Settlement(Place.DESTINATION, f"the guest is at the destination: {said}")
    if source.is_active:
        return Settlement(Place.SOURCE, f"the guest is at the source: {said}")
    if destination is _DEFINED and source is GuestState.ABSENT:
        return Settlement(Place.DESTINATION,
                          f"the guest was moved and is shut off at the destination: {said}")
    if source is _DEFINED and destination is GuestState.ABSENT:
        return Settlement(Place.SOURCE, f"the guest is shut off at the source: {said}")
    return Settlement(Place.NOWHERE_KNOWN, _lost(source, said))


def _lost(source: GuestState, said: str) -> str:
    """What an operator can do about a guest that both hosts only define, or that neither has."""
    if source is GuestState.ABSENT:
        return ("neither host has the guest. If Nova still has it on one of them (openstack "
                "server show), start it again (openstack server reboot --hard), and this goes on "
                "by itself. If it was deleted, or evacuated to another host, close this with "
                f"rbd-workerctl migration resolve: {said}")
    return ("no host runs the guest and both define it; once it is started again (openstack "
            f"server reboot --hard) this goes on by itself: {said}")


def _broken(source: GuestState, destination: GuestState) -> str:
    """What is true after a broken post-copy, and what an operator can do.

    What stands paused at the source has the disks of a guest that ran on
    elsewhere: to resume it would corrupt them.
    """
    if source is GuestState.STRANDED and destination in (_DEFINED, GuestState.ABSENT):
        return ("the guest is lost: the destination's QEMU ended during post-copy, with memory "
                "that the source no longer has. Its disks are as after a power cut. Never resume "
                "what stands paused at the source: end it there (virsh destroy), undefine it at "
                "the destination where it is still defined, and start it again (openstack "
                "server reboot --hard)")
    if source is GuestState.STRANDED and destination is GuestState.INCOMING:
        return ("post-copy is interrupted: the guest is at the destination without all of its "
                "memory, the rest waits at the source. Never resume or destroy what stands "
                "paused there; mend the network, then repeat the move with virsh migrate --live "
                "--p2p --postcopy --postcopy-resume (libvirt 8.5 or later)")
    if source is GuestState.STRANDED and destination.is_active:
        return ("post-copy broke at its very end: the guest runs at the destination. Never "
                "resume what stands paused at the source: end it there (virsh destroy)")
    return "post-copy broke; look at the guest on both hosts and resume it on neither"
