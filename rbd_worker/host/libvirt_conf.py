# SPDX-License-Identifier: Apache-2.0
"""What libvirt's own configuration files say, and what of it really listens.

A setting is only a wish: ``listen_tcp`` is ignored without ``--listen`` and
where systemd holds the sockets.  So the files explain, and the kernel's tables
of listening sockets tell.
"""

import ipaddress
import pathlib
import re
import socket
import sys
import typing as ty

DIRECTORY = pathlib.Path("/etc/libvirt")
#: In which libvirt keeps remote connections: the one daemon, or its modular heir.
LIBVIRTD, PROXY = "libvirtd", "virtproxyd"
#: Where QEMU listens for an arriving guest, unless qemu.conf says otherwise.
DATA_PORTS = range(49152, 49216)

_SETTING = re.compile(r"^\s*(\w+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|(-?\d+))\s*(?:#.*)?$")
#: State of a listening socket in /proc/net/tcp.
_LISTEN = "0A"


class Listener(ty.NamedTuple):
    """:ivar address: as text; ``0.0.0.0`` or ``::`` for all."""

    address: str
    port: int


def settings(text: str) -> dict[str, str]:
    """The plain settings of one of libvirt's files; the last one counts, lists are left out."""
    found = {}
    for line in text.splitlines():
        if match := _SETTING.match(line):
            found[match[1]] = next(value for value in match.groups()[1:] if value is not None)
    return found


def read(name: str, directory: pathlib.Path = DIRECTORY) -> dict[str, str] | None:
    """The settings in ``name`` (as ``qemu.conf``); empty where there is no such file.

    :returns: None where this worker may not read it.
    """
    try:
        return settings((directory / name).read_text(errors="replace"))
    except FileNotFoundError:
        return {}
    except OSError:
        return None


def data_ports(qemu: ty.Mapping[str, str] | None) -> range:
    """The ports that qemu.conf gives to arriving guests.

    :param qemu: its settings; libvirt's defaults where it cannot be read.
    """
    def number(name: str, default: int) -> int:
        value = (qemu or {}).get(name, "")
        return int(value) if value.isdigit() else default
    return range(number("migration_port_min", DATA_PORTS.start),
                 number("migration_port_max", DATA_PORTS.stop - 1) + 1)


def listeners(*tables: str) -> frozenset[Listener]:
    """Who listens, from the texts of ``/proc/net/tcp`` and ``/proc/net/tcp6``."""
    found = set()
    for table in tables:
        for line in table.splitlines()[1:]:
            fields = line.split()
            if len(fields) > 3 and fields[3] == _LISTEN:
                address, _, port = fields[1].partition(":")
                found.add(Listener(_address(address), int(port, 16)))
    return frozenset(found)


def listening_now() -> frozenset[Listener]:
    """The TCP sockets that listen in this network namespace.

    :raises OSError: the kernel does not tell.
    """
    tables = [pathlib.Path("/proc/net/tcp").read_text()]
    six = pathlib.Path("/proc/net/tcp6")
    if six.exists():  # not where IPv6 is switched off
        tables.append(six.read_text())
    return listeners(*tables)


def command_line(daemon: str, proc: pathlib.Path = pathlib.Path("/proc")) -> list[str] | None:
    """The arguments of a running daemon; None where none runs."""
    for entry in proc.glob("[0-9]*/cmdline"):
        try:
            argv = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it ended meanwhile
        if pathlib.PurePath(argv[0]).name == daemon:
            return [word for word in argv[1:] if word]
    return None


def is_own_address(address: str) -> bool:
    """Whether this host can receive on ``address``, an IP address of its own or a wildcard."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _address(digits: str) -> str:
    """The kernel prints the address as 32-bit words in the machine's own byte order."""
    raw = bytes.fromhex(digits)
    if sys.byteorder == "little":
        raw = b"".join(raw[n:n + 4][::-1] for n in range(0, len(raw), 4))
    return str(ipaddress.ip_address(raw))
