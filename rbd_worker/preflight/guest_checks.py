# SPDX-License-Identifier: Apache-2.0
"""A guest at its destination: does this host have what it needs?"""

import ipaddress
import os
import pathlib
import socket

from rbd_worker.host import inspection, libvirt_conf
from rbd_worker.model import Executor, GuestState
from rbd_worker.preflight.bench import Bench, Check, Rows, Say
from rpcapi import preflight as contract

#: Bridges that os-vif makes for a port of its own accord.
_MADE_BY_OS_VIF = ("qbr", "brq")
_MIB = 1 << 20


def _comes(bench: Bench, request: contract.SurveyRequest) -> contract.Guest | None:
    """The guest, where this host is the one that it is to come to."""
    return request.guest if request.asker != bench.settings.host else None


def _place(bench: Bench, request: contract.SurveyRequest, say: Say) -> Rows:
    coming = _comes(bench, request)
    if coming is None:
        return
    state = bench.hypervisor.state(coming.instance)
    if state is GuestState.ABSENT:
        yield say.ok("libvirt here does not know the guest yet")
    else:
        yield say.failed(f"libvirt here has the guest already, {state.value}",
                         "See on which host it really runs (rbd-workerctl status); where it is "
                         f"only defined: virsh undefine {coming.instance}")


def _cpu(bench: Bench, request: contract.SurveyRequest, say: Say) -> Rows:
    coming = _comes(bench, request)
    if coming is None:
        return
    if not coming.is_kvm:
        yield say.ok("the guest runs without KVM: it brings its CPU along")
    elif not coming.cpu:
        yield say.unknown("the guest names no CPU")
    else:
        refusal = inspection.cpu_refusal(bench.hypervisor.connection, coming.cpu,
                                         is_host=coming.cpu_is_host)
        whose = "the source's own CPU" if coming.cpu_is_host else "the guest's CPU"
        if refusal:
            yield say.failed(f"{whose} cannot run here: {refusal}",
                             "Choose a host with a CPU as new, give the guest a model that all "
                             "hosts have ([libvirt] cpu_models), or update microcode and libvirt "
                             "here")
        else:
            yield say.ok(f"{whose} can run here")


def _machine(bench: Bench, request: contract.SurveyRequest, say: Say) -> Rows:
    coming = _comes(bench, request)
    if coming is None:
        return
    known = inspection.machines(bench.versions().capabilities,
                                coming.architecture or "x86_64")
    if not coming.machine or not known:
        yield say.unknown("the guest names no machine type" if known else
                          f"libvirt here tells no machine type of {coming.architecture}")
    elif coming.machine in known:
        yield say.ok(f"QEMU here has {coming.machine}")
    else:
        yield say.failed(f"QEMU here does not have the machine type {coming.machine}",
                         "Upgrade QEMU here, or choose a host with one as new as the source's")


def _graphics(bench: Bench, request: contract.SurveyRequest, say: Say) -> Rows:
    """Guests that come get this host's ``server_listen``; where it is empty they keep theirs."""
    listen = bench.settings.vnc_listen
    addresses: tuple[str, ...] = (listen,)
    coming = _comes(bench, request)
    if listen:
        fix = "Set [vnc] server_listen to an IP address of this host, or to 0.0.0.0"
        what = f"[vnc] server_listen {listen}"
    elif coming is not None:
        fix = "Set [vnc] server_listen here, so that the guest's is replaced when it comes"
        what, addresses = "the guest's own address", coming.graphics
    else:
        yield say.ok("[vnc] server_listen is empty: guests keep the address they have")
        return
    for address in addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            yield say.failed(f"{what}: {address} is not an IP address", fix)
            return
        if not libvirt_conf.is_own_address(address):
            yield say.failed(f"{what}: {address} is not an address of this host: QEMU cannot "
                             "listen there", fix)
            return
    yield say.ok(f"{what} can be listened on" if addresses else "the guest has no console server")


def _interfaces(bench: Bench, request: contract.SurveyRequest, say: Say) -> Rows:
    coming = _comes(bench, request)
    if coming is None:
        return
    missing = missing_interfaces(coming.bridges)
    networks = (inspection.inactive_networks(bench.hypervisor.connection, coming.networks)
                if coming.networks else [])
    for network in networks:
        yield say.failed(f"libvirt's network {network} is not there, or not started",
                         f"virsh net-start {network}; virsh net-autostart {network}")
    by_nova = bench.settings.executor is Executor.NOVA
    for name in missing:
        if by_nova and name.startswith(_MADE_BY_OS_VIF):
            yield say.ok(f"{name} is not here yet: Nova's os-vif makes it for the guest")
        elif by_nova:
            yield say.warning(f"{name} is not here", "See that the network agent of this host "
                              "runs; os-vif plugs the guest into what it has set up")
        else:
            yield say.failed(f"{name} is not here, and nobody makes it: libvirt fails with "
                             f"'Cannot get interface MTU on {name!r}'",
                             f"Make the bridge {name} here, as it is on the source")
    if not missing and not networks:
        names = ", ".join((*coming.bridges, *coming.networks))
        yield say.ok(f"{names} is here" if names else "the guest needs no interface of a host")


def _memory(bench: Bench, request: contract.SurveyRequest, say: Say) -> Rows:
    coming = _comes(bench, request)
    if coming is None:
        return
    wanted = f"the guest may have {coming.memory / _MIB:.0f} MiB"
    if coming.huge_pages:
        size = f"hugepages-{coming.huge_pages >> 10}kB"
        try:
            count = int(pathlib.Path(f"/sys/kernel/mm/hugepages/{size}/free_hugepages")
                        .read_text())
        except FileNotFoundError:
            count = 0
        free, kind = count * coming.huge_pages, f"in {size}"
    else:
        free, kind = available(pathlib.Path("/proc/meminfo").read_text()), "available"
    found = f"{wanted}; {free / _MIB:.0f} MiB are {kind}"
    if not coming.memory:
        yield say.unknown("the guest's XML does not say how much memory it may have")
    elif free >= coming.memory:
        yield say.ok(found)
    elif coming.huge_pages:
        yield say.failed(found, "Set vm.nr_hugepages higher here, or choose another host")
    else:
        yield say.warning(found, "Choose another host, or move something away: the kernel may "
                                 "end guests when it runs out")


def _local_files(bench: Bench, request: contract.SurveyRequest, say: Say) -> Rows:
    coming = _comes(bench, request)
    if coming is None:
        return
    missing, hidden = [], []
    for path in coming.local_paths:
        try:
            os.stat(path)
        except PermissionError:
            hidden.append(path)
        except OSError:
            missing.append(path)
    if missing:
        yield say.failed(f"QEMU has {', '.join(missing)} open, which is not here",
                         "Install the same packages as on the source, connect the volume, or "
                         "eject the medium")
    elif hidden:
        yield say.unknown(f"this worker may not look at {', '.join(hidden)}")
    else:
        yield say.ok(f"{len(coming.local_paths)} looked for, all here")


CHECKS = (Check("graphics.listen", _graphics), Check("guest.place", _place),
          Check("guest.cpu", _cpu), Check("guest.machine", _machine),
          Check("guest.interfaces", _interfaces), Check("guest.memory", _memory),
          Check("guest.local-files", _local_files))


def missing_interfaces(names: tuple[str, ...]) -> list[str]:
    """Of these network interfaces, those that the kernel does not have here."""
    present = {name for _, name in socket.if_nameindex()}
    return [name for name in names if name not in present]


def available(meminfo: str) -> int:
    """Bytes that the kernel could give without swapping, from ``/proc/meminfo``."""
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0
