# SPDX-License-Identifier: Apache-2.0
"""The ways from this host to the destination, each of them tried."""

import ipaddress
import logging
import socket
import time

from rbd_worker import errors
from rbd_worker.host import move_options
from rbd_worker.preflight.bench import Bench, Rows, Say
from rpcapi import preflight as contract

LOG = logging.getLogger(__name__)

#: Seconds that one connection may take.
CONNECT_SECONDS = 1.5


def rows(bench: Bench, destination: str, traits: contract.Traits | None) -> Rows:
    """Rows about the name, libvirt's own connection and the data port.

    :param traits: of the destination; None where its worker does not answer.
    """
    order = move_options.MoveOrder(destination, (traits and traits.inbound_address) or None)
    host = bench.settings.host
    yield from _name(order.address, Say("route.name", host))
    yield from _libvirt(bench, order, Say("route.libvirt", host))
    yield from _data_port(order.address, traits, Say("route.data-port", host))


def _name(address: str, say: Say) -> Rows:
    fix = f"Add {address} to DNS or /etc/hosts, with the address of its migration network"
    try:
        answers = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)
    except OSError as e:
        yield say.failed(f"{address} does not resolve: {e}", fix)
        return
    found = sorted({str(answer[4][0]) for answer in answers})
    if any(ipaddress.ip_address(one.partition("%")[0]).is_loopback for one in found):
        yield say.failed(f"{address} resolves to {', '.join(found)}, which is this host itself",
                         fix)
    else:
        yield say.ok(f"{address} is {', '.join(found)}")


def _libvirt(bench: Bench, order: move_options.MoveOrder, say: Say) -> Rows:
    uri = move_options.connection_uri(bench.settings.libvirt, order)
    began = time.monotonic()
    try:
        bench.hypervisor.try_uri(uri, CONNECT_SECONDS)
    except errors.HypervisorUnavailable as e:
        yield say.failed(str(e), "See that libvirtd listens there (listen_tcp, port 16509; "
                                 "listen_tls, port 16514) and that nothing between blocks it")
        return
    yield say.ok(f"{uri} opens in {time.monotonic() - began:.2f} s")


def _data_port(address: str, traits: contract.Traits | None, say: Say) -> Rows:
    if traits is None or not traits.data_port:
        yield say.unknown("the destination opened no port to try")
        return
    port = traits.data_port
    try:
        with socket.create_connection((address, port), CONNECT_SECONDS):
            yield say.ok(f"{address} port {port} can be reached")
    except OSError as e:
        yield say.failed(f"{address} port {port} cannot be reached: {e}",
                         "Open the ports 49152 to 49215 between the compute hosts")
