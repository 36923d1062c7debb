# SPDX-License-Identifier: Apache-2.0
"""The monitors' addresses in a ceph.conf.

Only what QEMU needs to find them: ``mon_host`` as each release wrote it, and
the ``mon addr`` of monitors with sections of their own.  Anything that is not
understood gives no monitors at all, since half a list would be worse.
"""

import dataclasses
import ipaddress
import pathlib
import re
import socket
import typing as ty

from rbd_worker import errors

#: What a monitor listens on where nothing else is said: messenger 1 and 2.
STANDARD_PORTS = (6789, 3300)
_MAX_BYTES = 1 << 20

_SECTION = re.compile(r"\[\s*([^\]]+?)\s*\]")
_ADDRESS = re.compile(
    r"(?:(?P<kind>v1|v2|any):)?(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9][\w.-]*))"
    r"(?::(?P<port>\d{1,5}))?(?:/\d+)?(?=[\s,;\[\]]|$)")


@dataclasses.dataclass(frozen=True)
class Monitor:
    """One monitor.

    :ivar host: a name or an IP address in its shortest form, without brackets.
    :ivar port: the port for a client's ``host:port``; messenger 1 where there is a choice,
        as Nova gives it.
    :ivar ports: every port that is said of it; empty where none is.
    """

    host: str
    port: int
    ports: frozenset[int]

    @property
    def is_address(self) -> bool:
        return _is_ip(self.host)

    def is_at(self, host: str, port: int | None) -> bool:
        """Whether a client that was told ``host`` and ``port`` reaches this monitor."""
        known = self.ports or frozenset(STANDARD_PORTS)
        if known & frozenset(STANDARD_PORTS):  # each messenger finds the other by itself
            known |= frozenset(STANDARD_PORTS)
        return address(host) == self.host and (port in known or port is None)


def monitors(path: str, user: str) -> tuple[Monitor, ...]:
    """The monitors that a client of this host is told, in order; none where that is not certain.

    :param user: the client's name without ``client.``; its own section counts most.
    :raises errors.CephUnavailable: the file cannot be read.
    """
    try:
        with pathlib.Path(path).open(encoding="utf-8", errors="replace") as file:
            text = file.read(_MAX_BYTES)
    except OSError as e:
        raise errors.CephUnavailable(what="its monitors", reason=e.strerror, conf=path,
                                     user=user) from e
    sections = _sections(text)
    for name in (f"client.{user}", "client", "global"):
        value = sections.get(name, {}).get("mon_host")
        if value:
            return _addresses(value)
    named = [values["mon_addr"] for name, values in sections.items()
             if name.startswith("mon.") and "mon_addr" in values]
    return _addresses(",".join(named))


def resolved(found: ty.Iterable[Monitor]) -> dict[str, frozenset[str]]:
    """The IP addresses of those that are given by name; asks DNS, so it may take its time.

    :raises errors.CephUnavailable: a name is not known now.
    """
    addresses = {}
    for monitor in found:
        if not monitor.is_address:
            try:
                answers = socket.getaddrinfo(monitor.host, None, type=socket.SOCK_STREAM)
            except OSError as e:
                raise errors.CephUnavailable(what=f"monitor {monitor.host}", reason=e,
                                             conf="ceph.conf and DNS", user="") from e
            addresses[monitor.host] = frozenset(str(answer[4][0]) for answer in answers)
    return addresses


def address(host: str) -> str:
    """A host as :class:`Monitor` has it."""
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return host.lower().rstrip(".")


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _sections(text: str) -> dict[str, dict[str, str]]:
    """Ceph reads ``mon host``, ``mon_host`` and ``mon-host`` alike; the last one counts."""
    sections: dict[str, dict[str, str]] = {}
    current = sections.setdefault("global", {})
    for written in text.replace("\\\n", " ").splitlines():
        line = re.split(r"[;#]", written, maxsplit=1)[0].strip()
        if match := _SECTION.fullmatch(line):
            current = sections.setdefault(match[1], {})
        elif "=" in line:
            key, _, value = line.partition("=")
            current[re.sub(r"[\s_-]+", "_", key.strip())] = value.strip().strip("\"'")
    return sections


def _addresses(value: str) -> tuple[Monitor, ...]:
    """``mon_host``: hosts, ``host:port`` or lists of ``v1:`` and ``v2:``, in any mixture."""
    if _ADDRESS.sub("", value).strip("[], \t;"):
        return ()
    ports: dict[str, dict[str, int]] = {}
    for match in _ADDRESS.finditer(value):
        if match["six"] and not _is_ip(match["six"]):
            return ()
        of_host = ports.setdefault(address(match["six"] or match["name"]), {})
        if match["port"]:
            of_host.setdefault(match["kind"] or "v1", int(match["port"]))
    if not all(0 < port < 1 << 16 for found in ports.values() for port in found.values()):
        return ()
    return tuple(Monitor(host, _preferred(found), frozenset(found.values()))
                 for host, found in ports.items())


def _preferred(ports: dict[str, int]) -> int:
    for kind in ("v1", "any", "v2"):
        if kind in ports:
            return ports[kind]
    return STANDARD_PORTS[0]
