# SPDX-License-Identifier: Apache-2.0
"""One guest of this host, as far as a destination has to know it beforehand."""

from xml.etree import ElementTree

from rbd_worker import errors
from rbd_worker.host import domain_xml, inspection
from rbd_worker.preflight import guest_xml
from rbd_worker.preflight.bench import Bench
from rpcapi import preflight as contract


def of(bench: Bench, instance: str) -> contract.Guest:
    """What is to be told of a guest that runs here.

    :raises errors.BadInput: libvirt here has no such guest, or its XML cannot be read.
    :raises errors.HypervisorUnavailable: libvirt cannot be asked.
    """
    domain = described(bench, instance)
    cpu = domain.find("cpu")
    is_host = cpu is not None and cpu.get("mode") in ("host-passthrough", "maximum")
    if is_host:
        told = inspection.host_cpu(bench.versions().capabilities)
    else:
        told = "" if cpu is None else ElementTree.tostring(cpu, encoding="unicode")
    machine = domain.find("os/type")
    return contract.Guest(
        instance=instance, cpu=told, cpu_is_host=is_host, is_kvm=domain.get("type") == "kvm",
        bridges=guest_xml.interfaces(domain), networks=guest_xml.networks(domain),
        graphics=tuple(dict.fromkeys(filter(None, (
            graphics.get("listen") for graphics in domain.findall("devices/graphics"))))),
        machine="" if machine is None else machine.get("machine", ""),
        architecture="" if machine is None else machine.get("arch", ""),
        memory=domain_xml.memory_bytes(ElementTree.tostring(domain, encoding="unicode")),
        huge_pages=guest_xml.huge_page_bytes(domain),
        local_paths=guest_xml.open_paths(domain, directory_of(bench, instance)))


def described(bench: Bench, instance: str) -> ElementTree.Element:
    """The XML of a guest of this host; raises as :func:`of`."""
    text = bench.hypervisor.description(instance)
    if text is None:
        raise errors.BadInput(what=f"instance {instance}",
                              reason=f"libvirt on {bench.settings.host} has no such guest: ask "
                                     "the host that has it, with --source")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as e:
        raise errors.BadInput(what=f"the XML of {instance}", reason=e) from e


def directory_of(bench: Bench, instance: str) -> str:
    return f"{bench.settings.instances_path.rstrip('/')}/{instance}"
