# SPDX-License-Identifier: Apache-2.0
"""The ways from this host to the destination, each of them tried."""

import concurrent.futures
import ipaddress
import os
import socket
import time
import typing as ty

from rbd_worker import errors
from rbd_worker.host import move_options, names
from rbd_worker.preflight import certificates, refusals
from rbd_worker.preflight.bench import Bench, Rows, Say
from rbd_worker.preflight.listener_checks import PORTS, way
from rpcapi import preflight as contract

#: Seconds that one connection may take; a busy host answers within them, a firewall does not.
CONNECT_SECONDS = 3.0
#: Seconds for a connection through ssh, which has to start a shell there.
SSH_SECONDS = 4.0


class Try(ty.NamedTuple):
    """:ivar name: of its rows."""

    name: str
    measure: ty.Callable[[Say], Rows]


def rows(bench: Bench, destination: str, traits: contract.Traits | None) -> Rows:
    """Rows about the name, libvirt's own connection and the data port; tried together.

    :param traits: of the destination; None where its worker does not answer.
    """
    try:
        tries = _tries(bench, destination, traits)
    except errors.BadHostName as e:
        say = Say("route.name", bench.settings.host)
        yield say.failed(f"{destination} told an address that is none: {e}",
                         "Correct live_migration_inbound_addr there")
        return
    with concurrent.futures.ThreadPoolExecutor(len(tries)) as pool:
        found = [pool.submit(_tried, one, bench.settings.host) for one in tries]
        for tried in found:
            yield from tried.result()


def _tries(bench: Bench, destination: str, traits: contract.Traits | None) -> list[Try]:
    order = move_options.MoveOrder(destination, (traits and traits.inbound_address) or None)
    address = order.address
    uri = move_options.connection_uri(bench.settings.libvirt, order)
    transport, port = way(bench.settings.libvirt, destination)
    tries = [Try("route.name", lambda say: _name(address, say)),
             Try("route.libvirt", lambda say: _libvirt(bench, uri, address, transport, say))]
    if transport == "tls":
        tries.append(Try("route.certificate", lambda say: certificates.rows(
            address, port or PORTS["tls"], CONNECT_SECONDS, say)))
    if bench.settings.libvirt.live_migration_tunnelled:
        return tries  # everything goes through libvirt's own connection
    if traits is None or order.inbound_address:
        tries.append(Try("route.data-port", lambda say: _data_port(address, traits, say)))
    else:
        tries += [Try("route.data-name", lambda say: _data_name(address, traits, say)),
                  Try("route.data-port", lambda say: _data_port(traits.own_name or address,
                                                                traits, say))]
    return tries


def _tried(one: Try, host: str) -> list[contract.Row]:
    say = Say(one.name, host)
    try:
        return list(one.measure(say))
    except errors.NameUnresolved as e:
        return [say.unknown(f"not tried: {e}", "See the row route.name")]


def _name(address: str, say: Say) -> Rows:
    try:
        found = names.addresses(address)
    except errors.NameUnresolved as e:
        yield say.failed(str(e), e.remedy.format(**e.data))
        return
    if any(ipaddress.ip_address(one).is_loopback for one in found):
        yield say.failed(f"{address} resolves to {', '.join(found)}, which is this host itself",
                         f"Correct {address} in DNS or /etc/hosts, to the address of its "
                         "migration network")
    else:
        plain = [address.strip("[]")]
        yield say.ok(f"{address} is an address" if found == plain else
                     f"{address} is {', '.join(found)}")


def _libvirt(bench: Bench, uri: str, address: str, transport: str, say: Say) -> Rows:
    names.addresses(address)  # libvirt would wait for a silent name server
    began = time.monotonic()
    try:
        bench.hypervisor.try_uri(uri, SSH_SECONDS if transport == "ssh" else CONNECT_SECONDS)
    except errors.HypervisorUnavailable as e:
        remedy = refusals.remedy(str(e), transport)
        if os.geteuid() != 0 and transport in ("tls", "ssh"):  # root's key files, not this user's
            yield say.unknown(f"{e}; tried as user {os.geteuid()}, while libvirt moves guests as "
                              "root, whose keys may do", f"Try as root: virsh -c {uri} version. "
                              + remedy)
        else:
            yield say.failed(str(e), remedy)
        return
    yield say.ok(f"{uri} opens in {time.monotonic() - began:.2f} s")


def _data_name(address: str, traits: contract.Traits, say: Say) -> Rows:
    """The destination's libvirt says its own name; QEMU here has to find the same host by it."""
    if not traits.own_name:
        yield say.unknown(f"{traits.host} did not tell its own name")
        return
    fix = (f"Have {traits.own_name} resolve here to the migration address of {traits.host}, or "
           "set live_migration_inbound_addr there")
    try:
        theirs = names.addresses(traits.own_name)
    except errors.NameUnresolved as e:
        yield say.failed(f"libvirt on {traits.host} sends guests to {traits.own_name}, but here "
                         f"{e}", fix)
        return
    if any(ipaddress.ip_address(one).is_loopback for one in theirs):
        yield say.failed(f"libvirt on {traits.host} sends guests to {traits.own_name}, which is "
                         f"{', '.join(theirs)} here: this host itself", fix)
        return
    ours = names.addresses(address)
    if not set(ours) & set(theirs):
        yield say.warning(f"{address} is {', '.join(ours)}, but libvirt there sends guests to "
                          f"{traits.own_name}, {', '.join(theirs)}", fix)
    else:
        yield say.ok(f"libvirt there sends guests to {traits.own_name}, {', '.join(theirs)}")


def _data_port(address: str, traits: contract.Traits | None, say: Say) -> Rows:
    if traits is None:
        yield say.unknown("the destination opened no port to try")
        return
    ports = traits.data_ports or "49152-49215"
    if not traits.data_port:
        yield say.unknown(f"{traits.host} opened no port of {ports} to try",
                          "Ask again; if it stays so, all of them are taken there: widen "
                          "migration_port_min and migration_port_max in its qemu.conf")
        return
    port = traits.data_port
    names.addresses(address)  # which the socket would ask without a time limit
    try:
        with socket.create_connection((address.strip("[]"), port), CONNECT_SECONDS):
            yield say.ok(f"{address} port {port} can be reached, one of {ports}")
    except OSError as e:
        yield say.failed(f"{address} port {port} cannot be reached: {e}",
                         f"Open the TCP ports {ports} between the compute hosts")
