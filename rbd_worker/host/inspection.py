# SPDX-License-Identifier: Apache-2.0
"""What libvirt tells about itself and a guest without being changed or waited for.

Each is one question on the shared connection; what cannot be asked in time is
``HypervisorUnavailable``.
"""

import typing as ty
from xml.etree import ElementTree

import libvirt

from rbd_worker import errors
from rbd_worker.host.connection import Connection

T = ty.TypeVar("T")


class Control(ty.NamedTuple):
    """Whether libvirt could begin something with a guest now.

    :ivar state: ``free``, ``job`` (a migration, a dump, a backup), ``occupied``
        (a command holds the guest's state change lock), or ``error`` (its
        monitor is lost).
    :ivar seconds: for how long it is so; 0 where libvirt does not say.
    """

    state: ty.Literal["free", "job", "occupied", "error"]
    seconds: float


def own_name(connection: Connection) -> str:
    """What libvirt takes for this host's name.

    It tells it to whoever sends a guest, unless ``migration_host`` of qemu.conf says otherwise.

    :raises errors.HypervisorUnavailable: it cannot be asked.
    """
    return _asked(connection, lambda libvirtd: str(libvirtd.getHostname()))


def control(connection: Connection, instance: str) -> Control | None:
    """Whether something is going on with a guest; takes no lock of it.

    :returns: None where libvirt has no such running guest.
    :raises errors.HypervisorUnavailable: it cannot be asked.
    """
    def look(libvirtd: libvirt.virConnect) -> Control | None:
        try:
            state, _, milliseconds = libvirtd.lookupByUUIDString(instance).controlInfo()
        except libvirt.libvirtError as e:
            if e.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN,
                                      libvirt.VIR_ERR_OPERATION_INVALID):  # shut off
                return None
            raise
        return Control(_CONTROL.get(state, "error"), milliseconds / 1000)
    return _asked(connection, look)


def machines(capabilities: str, architecture: str) -> frozenset[str]:
    """The machine types that a host's QEMU has for a guest's architecture.

    :param capabilities: what libvirt tells of that host.
    """
    return frozenset(
        machine.text or "" for arch in ElementTree.fromstring(capabilities).findall("guest/arch")
        if arch.get("name") == architecture for machine in arch.iter("machine"))


def host_cpu(capabilities: str) -> str:
    """A host's own ``<cpu>`` element; empty where libvirt tells none.

    :param capabilities: what libvirt tells of that host.
    """
    element = ElementTree.fromstring(capabilities).find("host/cpu")
    return "" if element is None else ElementTree.tostring(element, encoding="unicode")


def cpu_refusal(connection: Connection, cpu: str, *, is_host: bool) -> str | None:
    """Why a ``<cpu>`` cannot run here; None where it can.

    :param is_host: it is another host's own, of a guest with host-passthrough,
        to be compared with this host's; else with what QEMU here can do.
    :raises errors.HypervisorUnavailable: it cannot be asked.
    :raises errors.BadInput: libvirt cannot make anything of it.
    """
    def compare(libvirtd: libvirt.virConnect) -> str | None:
        fail = libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE
        try:
            if is_host:
                libvirtd.compareCPU(cpu, fail)
            else:
                libvirtd.compareHypervisorCPU(None, None, None, None, cpu, fail)
        except libvirt.libvirtError as e:
            if e.get_error_code() == libvirt.VIR_ERR_CPU_INCOMPATIBLE:
                return str(e)
            if e.get_error_code() in (libvirt.VIR_ERR_XML_ERROR, libvirt.VIR_ERR_XML_DETAIL,
                                      libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
                                      libvirt.VIR_ERR_INTERNAL_ERROR):
                raise errors.BadInput(what="the guest's CPU", reason=e) from e
            raise
        return None
    return _asked(connection, compare)


def inactive_networks(connection: Connection, names: ty.Iterable[str]) -> list[str]:
    """Of libvirt's own networks, those that are unknown or not started here.

    :raises errors.HypervisorUnavailable: it cannot be asked.
    """
    def look(libvirtd: libvirt.virConnect) -> list[str]:
        missing = []
        for name in names:
            try:
                active = bool(libvirtd.networkLookupByName(name).isActive())
            except libvirt.libvirtError as e:
                if e.get_error_code() != libvirt.VIR_ERR_NO_NETWORK:
                    raise
                active = False
            if not active:
                missing.append(name)
        return missing
    return _asked(connection, look)


def _asked(connection: Connection, question: ty.Callable[[libvirt.virConnect], T]) -> T:
    try:
        return connection.ask(question)
    except libvirt.libvirtError as e:
        raise errors.HypervisorUnavailable(uri=connection.uri, reason=e) from e


_CONTROL: ty.Final[dict[int, ty.Literal["free", "job", "occupied", "error"]]] = {
    libvirt.VIR_DOMAIN_CONTROL_OK: "free", libvirt.VIR_DOMAIN_CONTROL_JOB: "job",
    libvirt.VIR_DOMAIN_CONTROL_OCCUPIED: "occupied",
    libvirt.VIR_DOMAIN_CONTROL_ERROR: "error"}
