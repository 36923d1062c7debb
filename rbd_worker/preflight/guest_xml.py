# SPDX-License-Identifier: Apache-2.0
"""What of a running guest's XML its host has to have: pure functions."""

import pathlib
import typing as ty
from xml.etree import ElementTree

#: Elements besides disks that name a file which QEMU opens.
_FILES = ("os/loader", "os/kernel", "os/initrd", "devices/emulator")
_KIB: ty.Final = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class Disk(ty.NamedTuple):
    """A disk that is not reached over the network.

    :ivar target: as the guest sees it, ``vdb``.
    :ivar path: of the file or block device; empty where it is something else.
    :ivar kind: libvirt's type of it.
    """

    target: str
    path: str
    kind: str
    is_read_only: bool

    def is_in(self, directory: str) -> bool:
        return bool(self.path) and pathlib.PurePath(self.path).is_relative_to(directory)


def local_disks(domain: ElementTree.Element) -> tuple[Disk, ...]:
    """Every disk with a medium that is not on the network."""
    found = []
    for disk in domain.findall("devices/disk"):
        source, target = disk.find("source"), disk.find("target")
        kind = disk.get("type", "file")
        if source is None or kind == "network":
            continue  # an empty drive, or RBD and its like
        found.append(Disk("a disk" if target is None else target.get("dev", "a disk"),
                          source.get("file") or source.get("dev") or source.get("dir") or "",
                          kind, disk.find("readonly") is not None))
    return tuple(found)


def tied(domain: ElementTree.Element) -> tuple[str, ...]:
    """Devices that belong to one host, in words: passed through, or shared directories."""
    found = []
    for device in (*domain.findall("devices/hostdev"),
                   *domain.findall("devices/interface[@type='hostdev']")):
        address = device.find("source/address")
        words = [device.get("type", "device")] if device.tag == "hostdev" else ["network card"]
        if address is not None:
            words.append(address.get("uuid") or ":".join(
                (address.get(part) or "").removeprefix("0x")
                for part in ("domain", "bus", "slot", "function", "device")
                if address.get(part)))
        found.append(" ".join(words))
    for shared in domain.findall("devices/filesystem"):
        source = shared.find("source")
        found.append("shared directory " + ("" if source is None else source.get("dir", "")))
    return tuple(found)


def open_paths(domain: ElementTree.Element, directory: str) -> tuple[str, ...]:
    """Files and devices outside of the instance directory that QEMU has to find."""
    paths = [disk.path for disk in local_disks(domain) if not disk.is_in(directory)]
    for element in _FILES:
        text = (domain.findtext(element) or "").strip()
        if text and not pathlib.PurePath(text).is_relative_to(directory):
            paths.append(text)
    return tuple(dict.fromkeys(path for path in paths if path.startswith("/")))


def interfaces(domain: ElementTree.Element) -> tuple[str, ...]:
    """Names of the host's interfaces: bridges, and those below a macvtap."""
    return _attributes(domain, "bridge", "bridge") + _attributes(domain, "direct", "dev")


def networks(domain: ElementTree.Element) -> tuple[str, ...]:
    """Names of libvirt's own networks."""
    return _attributes(domain, "network", "network")


def huge_page_bytes(domain: ElementTree.Element) -> int:
    """Size of the huge pages that the guest's memory is made of; 0 for plain memory.

    Where none is named it is the default of the hosts, mostly 2 MiB.
    """
    pages = domain.find("memoryBacking/hugepages")
    if pages is None:
        return 0
    page = pages.find("page")
    if page is None or not (page.get("size") or "").isdigit():
        return 2 << 20
    return int(page.get("size") or 0) * _KIB.get(page.get("unit", "KiB"), 1 << 10)


def _attributes(domain: ElementTree.Element, kind: str, name: str) -> tuple[str, ...]:
    found = (source.get(name, "") for source in
             domain.findall(f"devices/interface[@type='{kind}']/source"))
    return tuple(dict.fromkeys(filter(None, found)))
