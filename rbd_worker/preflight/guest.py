# SPDX-License-Identifier: Apache-2.0
"""One guest of this host, as far as a destination has to know it beforehand."""

from xml.etree import ElementTree

from rbd_worker import errors
from rbd_worker.preflight.bench import Bench
from rpcapi import preflight as contract


def of(bench: Bench, instance: str) -> contract.Guest:
    """What is to be told of a guest that runs here.

    :raises errors.BadInput: libvirt here has no such guest, or its XML cannot be read.
    :raises errors.HypervisorUnavailable: libvirt cannot be asked.
    """
    text = bench.hypervisor.description(instance)
    if text is None:
        raise errors.BadInput(what=f"instance {instance}",
                              reason=f"libvirt on {bench.settings.host} has no such guest: ask "
                                     "the host that has it, with --source")
    try:
        domain = ElementTree.fromstring(text)
    except ElementTree.ParseError as e:
        raise errors.BadInput(what=f"the XML of {instance}", reason=e) from e
    cpu = domain.find("cpu")
    machine = domain.find("os/type")
    return contract.Guest(
        instance=instance,
        cpu="" if cpu is None else ElementTree.tostring(cpu, encoding="unicode"),
        bridges=tuple(dict.fromkeys(
            source.get("bridge", "") for source in domain.findall(
                "devices/interface[@type='bridge']/source") if source.get("bridge"))),
        graphics=tuple(dict.fromkeys(filter(None, (
            graphics.get("listen") for graphics in domain.findall("devices/graphics"))))),
        machine="" if machine is None else machine.get("machine", ""))
