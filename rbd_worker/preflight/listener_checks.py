# SPDX-License-Identifier: Apache-2.0
"""Does this host's libvirt listen for others, on what, and who may come in?"""

import ipaddress
import typing as ty
import urllib.parse

from rbd_worker import conf, errors
from rbd_worker.host import inspection, libvirt_conf, move_options, names
from rbd_worker.preflight.bench import Bench, Check, Rows, Say
from rpcapi import preflight as contract

#: By the transport of the migration URI: the port, and the settings that have to do with it.
PORTS: ty.Final = {"tcp": 16509, "tls": 16514, "ssh": 22}


class Way(ty.NamedTuple):
    """How others are to reach this host's libvirt, from this host's own options."""

    transport: str
    port: int | None


def way(settings: conf.LibvirtSettings, host: str) -> Way:
    """The transport and the port that the migration URI names; None for the default."""
    uri = move_options.connection_uri(settings, move_options.MoveOrder(host))
    parts = urllib.parse.urlsplit(uri)
    # libvirt's default for a remote host is TLS
    return Way(parts.scheme.partition("+")[2].partition("+")[0] or "tls", parts.port)


def _listener(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    chosen = way(bench.settings.libvirt, bench.settings.host)
    transport, port = chosen
    if transport not in PORTS:
        yield say.unknown(f"the transport {transport} of the migration URI is not looked into")
        return
    daemon, settings, arguments = _daemon()
    if port is None:
        port = _number(settings.get(f"{transport}_port")) or PORTS[transport]
    try:
        addresses = sorted(one.address for one in libvirt_conf.listening_now()
                           if one.port == port)
    except OSError as e:
        yield say.unknown(f"the kernel does not tell who listens: {e}")
        return
    if not addresses:
        yield say.failed(f"nothing listens on TCP port {port} ({transport}): "
                         + _why(daemon, settings, arguments, transport),
                         _remedy(daemon, settings, arguments, transport))
    elif all(ipaddress.ip_address(one).is_loopback for one in addresses):
        yield say.failed(f"port {port} is open on {', '.join(addresses)} only, which no other "
                         "host can reach",
                         f"Set listen_addr in {daemon}.conf, or ListenStream of "
                         f"{daemon}-{transport}.socket, to the migration network's address")
    else:
        yield say.ok(f"port {port} ({transport}) is open on {', '.join(addresses)}")


def _authentication(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    daemon, settings, _ = _daemon()
    port = _number(settings.get("tcp_port")) or PORTS["tcp"]
    try:
        addresses = sorted(one.address for one in libvirt_conf.listening_now()
                           if one.port == port)
    except OSError as e:
        yield say.unknown(f"the kernel does not tell who listens: {e}")
        return
    if libvirt_conf.read(f"{daemon}.conf") is None:
        yield say.unknown(f"{daemon}.conf cannot be read by this worker",
                          f"Let the worker's user read /etc/libvirt/{daemon}.conf")
    elif not addresses:
        yield say.ok(f"nothing listens on the unencrypted port {port}")
    elif settings.get("auth_tcp", "sasl") == "none":
        yield say.warning(f"auth_tcp = none in {daemon}.conf: who reaches {', '.join(addresses)} "
                          f"port {port} is root on this host",
                          "Use TLS (live_migration_scheme = tls) or SASL, or see that only "
                          "compute hosts reach that port")
    else:
        yield say.ok(f"port {port} asks for {settings.get('auth_tcp', 'sasl')}")


def _inbound_address(bench: Bench, request: contract.SurveyRequest, say: Say) -> Rows:
    """Others send guests to it, or else to the address that this host's name has there."""
    inbound = bench.settings.libvirt.live_migration_inbound_addr
    if inbound:
        what = f"live_migration_inbound_addr {inbound}"
        fix = "Set it to an address of this host on the migration network, or to a name of one"
        try:
            addresses = names.addresses(inbound)
        except errors.NameUnresolved as e:
            yield say.failed(f"live_migration_inbound_addr: {e}", fix)
            return
    else:
        addresses, what = list(request.found_at), f"the address that {request.asker} finds"
        fix = (f"Correct the name {bench.settings.host} in DNS or in /etc/hosts of "
               f"{request.asker}, or set live_migration_inbound_addr here")
        if not addresses:
            yield say.ok("live_migration_inbound_addr is not set: this host's name is used")
            return
    foreign = [one for one in addresses if not libvirt_conf.is_own_address(one)]
    if foreign:
        yield say.failed(f"{what}: {', '.join(foreign)} is not an address of this host", fix)
    elif any(_is_only_here(one) for one in addresses):
        yield say.failed(f"{what}: {', '.join(addresses)} is not one that others can reach", fix)
    else:
        yield say.ok(f"{what}: {', '.join(addresses)} is this host's")


def _own_name(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    """libvirt here tells the source where its QEMU is to connect: by this host's own name."""
    libvirt = bench.settings.libvirt
    if libvirt.live_migration_inbound_addr or libvirt.live_migration_tunnelled:
        yield say.ok("not used: live_migration_inbound_addr or live_migration_tunnelled is set")
        return
    chosen = (libvirt_conf.read("qemu.conf") or {}).get("migration_host")
    name = chosen or inspection.own_name(bench.hypervisor.connection)
    fix = ("Give this host a name that others resolve (hostnamectl, /etc/hosts without it on a "
           "127.* line), or set live_migration_inbound_addr")
    if name.startswith("localhost"):  # libvirt's own test
        yield say.failed(f"libvirt takes this host's name for {name} and refuses guests that "
                         "arrive", fix)
    elif chosen:
        yield say.ok(f"libvirt tells others to send guests to {name} (migration_host in "
                     "qemu.conf)")
    else:
        yield say.ok(f"libvirt tells others to send guests to {name}")


CHECKS = (Check("libvirt.listener", _listener), Check("libvirt.auth-tcp", _authentication),
          Check("libvirt.inbound-address", _inbound_address),
          Check("libvirt.own-name", _own_name))


def _is_only_here(address: str) -> bool:
    one = ipaddress.ip_address(address)
    return one.is_loopback or one.is_unspecified


def _daemon() -> tuple[str, dict[str, str], list[str] | None]:
    """Who takes remote connections, its settings, and its arguments (None: it does not run).

    The modular daemons start on demand, so that virtproxyd need not run.
    """
    arguments = libvirt_conf.command_line(libvirt_conf.LIBVIRTD)
    daemon = libvirt_conf.LIBVIRTD
    if arguments is None and (libvirt_conf.DIRECTORY / "virtproxyd.conf").exists():
        daemon = libvirt_conf.PROXY
        arguments = libvirt_conf.command_line(daemon)
    return daemon, libvirt_conf.read(f"{daemon}.conf") or {}, arguments


def _why(daemon: str, settings: ty.Mapping[str, str], arguments: list[str] | None,
         transport: str) -> str:
    if transport == "ssh":
        return "sshd does not run, or has another port"
    default = {"tcp": "0", "tls": "1"}[transport]
    wish = f"listen_{transport} = {settings.get(f'listen_{transport}', default)} in {daemon}.conf"
    if arguments is None:
        return f"{wish}; {daemon} does not run, so that only a systemd socket could listen for it"
    if not _is_told_to_listen(arguments):
        return f"{wish}; {daemon} runs without --listen and has no socket from systemd"
    return f"{wish}; {daemon} runs with --listen"


def _remedy(daemon: str, settings: ty.Mapping[str, str], arguments: list[str] | None,
            transport: str) -> str:
    if transport == "ssh":
        return "Start sshd here, or name its port in live_migration_uri"
    if arguments is not None and _is_told_to_listen(arguments):
        return (f"Set listen_{transport} = 1 in /etc/libvirt/{daemon}.conf and restart {daemon}"
                + (", whose certificates have to be in /etc/pki" if transport == "tls" else ""))
    return (f"systemctl enable --now {daemon}-{transport}.socket ({daemon} stopped meanwhile); "
            f"without systemd, start {daemon} with --listen and listen_{transport} = 1")


def _is_told_to_listen(arguments: list[str]) -> bool:
    return any(word == "--listen" or (word.startswith("-") and not word.startswith("--")
                                      and "l" in word) for word in arguments)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
