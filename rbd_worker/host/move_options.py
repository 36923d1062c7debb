# SPDX-License-Identifier: Apache-2.0
"""How Nova's ``live_migration_*`` options become libvirt's: pure functions.

Names, units and defaults are Nova's.  What contradicts itself is refused at
the start of the worker, not at the first move.
"""

import dataclasses
import ipaddress
import re
import typing as ty

import libvirt

from rbd_worker import conf, errors, model
from rbd_worker.host import domain_xml

GIB = 1 << 30

#: What every move needs, whatever an old ``live_migration_flag`` says: without
#: the last two the guest would be defined on both hosts, or on none.
ALWAYS = (libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
          | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE | libvirt.VIR_MIGRATE_PERSIST_DEST)

#: Flags of a list that would do something else than move a running guest on RBD.
_NOT_HERE = {
    "VIR_MIGRATE_NON_SHARED_DISK": "it would copy disks that both hosts share",
    "VIR_MIGRATE_NON_SHARED_INC": "it would copy disks that both hosts share",
    "VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES": "it would copy disks that both hosts share",
    "VIR_MIGRATE_OFFLINE": "it moves a definition, not a guest",
    "VIR_MIGRATE_PAUSED": "the guest would stay paused",
    "VIR_MIGRATE_POSTCOPY_RESUME": "it repairs a failed post-copy, by hand",
}

Parameters = dict[str, str | int]


@dataclasses.dataclass(frozen=True)
class MoveOrder:
    """Where a guest is to go.

    :ivar destination: host name.
    :ivar inbound_address: where the destination wants to receive guests
        (its ``live_migration_inbound_addr``), None for its host name.
    :ivar graphics_listen: IP address its VNC servers listen on, None to leave
        the guest's as it is.
    """

    destination: str
    inbound_address: str | None = None
    graphics_listen: str | None = None

    @property
    def address(self) -> str:
        return self.inbound_address or self.destination


def check_options(settings: conf.LibvirtSettings) -> None:
    """Refuse a configuration that contradicts itself, with the remedy.

    :raises errors.BadConfiguration: naming the option.
    """
    chosen = flags(settings)
    if not chosen & libvirt.VIR_MIGRATE_TUNNELLED:
        return
    option = "[libvirt] live_migration_tunnelled"
    if "VIR_MIGRATE_TUNNELLED" in (settings.live_migration_flag or ""):
        option = "[libvirt] live_migration_flag"
    if chosen & libvirt.VIR_MIGRATE_TLS:
        raise errors.BadConfiguration(
            option=option, reason="tunnelling contradicts live_migration_with_native_tls",
            fix="Switch one of them off; native TLS is the newer one")
    if chosen & libvirt.VIR_MIGRATE_POSTCOPY:
        raise errors.BadConfiguration(
            option=option, reason="tunnelling contradicts live_migration_permit_post_copy",
            fix="Switch one of them off; post-copy needs a direct connection")


def flags(settings: conf.LibvirtSettings) -> int:
    """The flags of every move, as ``migrateToURI3`` takes them.

    Auto-converge is left out where post-copy is permitted, as Nova does: the
    latter ends a move that does not converge without slowing the guest.

    :raises errors.BadConfiguration: an unknown or unfit flag in the old list.
    """
    chosen = ALWAYS | _listed(settings.live_migration_flag or "")
    if settings.live_migration_tunnelled:
        chosen |= libvirt.VIR_MIGRATE_TUNNELLED
    if settings.live_migration_with_native_tls:
        chosen |= libvirt.VIR_MIGRATE_TLS
    if settings.live_migration_permit_post_copy:
        chosen |= libvirt.VIR_MIGRATE_POSTCOPY
    if settings.live_migration_permit_auto_converge:
        chosen |= libvirt.VIR_MIGRATE_AUTO_CONVERGE
    if chosen & libvirt.VIR_MIGRATE_POSTCOPY:
        chosen &= ~libvirt.VIR_MIGRATE_AUTO_CONVERGE
    return int(chosen)


def connection_uri(settings: conf.LibvirtSettings, order: MoveOrder) -> str:
    """Where the source's libvirtd finds the destination's.

    :raises errors.BadHostName: the destination told an address that is none.
    """
    host = _in_uri(order.address)
    if settings.live_migration_uri:
        return settings.live_migration_uri % host
    return f"qemu+{settings.live_migration_scheme or 'tcp'}://{host}/system"


def parameters(settings: conf.LibvirtSettings, order: MoveOrder, xml: str,
               persistent_xml: str) -> Parameters:
    """The typed parameters of one move.

    :param xml: the running guest's, migratable.
    :param persistent_xml: the definition that is to stay.
    :raises errors.BadInput: the destination told an address that is none.
    """
    chosen: Parameters = {}
    if settings.live_migration_bandwidth:
        chosen[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = settings.live_migration_bandwidth
    if order.inbound_address and not flags(settings) & libvirt.VIR_MIGRATE_TUNNELLED:
        chosen[libvirt.VIR_MIGRATE_PARAM_URI] = f"tcp://{_in_uri(order.inbound_address)}"
    if order.graphics_listen:
        for name, text in ((libvirt.VIR_MIGRATE_PARAM_DEST_XML, xml),
                           (libvirt.VIR_MIGRATE_PARAM_PERSIST_XML, persistent_xml)):
            rewritten = domain_xml.with_graphics_listen(text, order.graphics_listen)
            if rewritten is not None:
                chosen[name] = rewritten
    return chosen


def completion_timeout(settings: conf.LibvirtSettings, memory: int) -> float:
    """Seconds one move may take: ``live_migration_completion_timeout`` is per GiB.

    :param memory: of the guest, bytes; at least 2 GiB are counted.
    :returns: 0 for no limit.
    """
    return settings.live_migration_completion_timeout * _gib(memory)


def downtime_steps(settings: conf.LibvirtSettings, memory: int) -> tuple[tuple[float, int], ...]:
    """When the permitted downtime becomes how long: pairs of seconds and milliseconds.

    It starts at one of ``live_migration_downtime_steps`` parts of
    ``live_migration_downtime`` and grows evenly to the whole of it, one step
    every ``live_migration_downtime_delay`` seconds per GiB of the guest.
    """
    parts, longest = settings.live_migration_downtime_steps, settings.live_migration_downtime
    pause = int(settings.live_migration_downtime_delay * _gib(memory))
    first = longest / parts
    return tuple((float(pause * n), int(first + (longest - first) * n / parts))
                 for n in range(parts + 1))


def _gib(memory: int) -> float:
    return max(memory / GIB, 2.0)


def _listed(names: str) -> int:
    """The flags of Nova's old comma-separated list."""
    option = "[libvirt] live_migration_flag"
    chosen = 0
    for name in filter(None, re.split(r"[\s,]+", names)):
        if name in _NOT_HERE:
            raise errors.BadConfiguration(option=option, reason=f"{name}: {_NOT_HERE[name]}",
                                          fix="Leave it out")
        value = getattr(libvirt, name, None) if re.fullmatch(_FLAG, name) else None
        if not isinstance(value, int):
            raise errors.BadConfiguration(
                option=option, reason=f"{name[:64]!r} is not a flag of libvirt",
                fix="Name flags such as VIR_MIGRATE_TUNNELLED, or leave the option out and "
                    "use live_migration_tunnelled and its neighbours")
        chosen |= value
    return chosen


_FLAG: ty.Final = r"VIR_MIGRATE_(?!PARAM_)[A-Z0-9_]+"


def _in_uri(address: str) -> str:
    """An IPv6 address in brackets; a name or an IPv4 address as it is.

    :raises errors.BadHostName: neither; it may have come from a peer.
    """
    bare = address.removeprefix("[").removesuffix("]")
    try:
        is_six = ipaddress.ip_address(bare).version == 6
    except ValueError:
        return model.host_name(address)
    return f"[{bare}]" if is_six else bare
