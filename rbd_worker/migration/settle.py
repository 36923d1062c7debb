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
    return Settlement(Place.NOWHERE_KNOWN,
                      "no host runs the guest and none alone defines it; once it is started "
                      f"again (openstack server reboot --hard) this goes on by itself: {said}")
