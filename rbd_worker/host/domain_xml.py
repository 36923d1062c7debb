# SPDX-License-Identifier: Apache-2.0
"""What is read from and changed in a domain's XML; pure functions on text."""

import io
import ipaddress
import re
import typing as ty
from xml.etree import ElementTree

from rbd_worker import errors
from rbd_worker.model import RbdImage

#: Pool that librbd takes where a name has none.
DEFAULT_POOL = "rbd"
#: libvirt's unsigned long long; ``isdigit`` would take digits that ``int`` does not.
_NUMBER = re.compile(r"\s*[0-9]{1,20}\s*")


def rbd_images(xml: str) -> tuple[RbdImage, ...]:
    """The RBD images that the disks of ``xml`` are on, each once, in order.

    An image in a namespace is ``RbdImage(pool, "namespace/image")``.  Encrypted
    disks, CD-ROMs and volumes count like any other.

    :raises errors.BadInput: a name that does not say which image it is.
    """
    found: dict[RbdImage, None] = {}
    for source in _parsed(xml).findall("./devices/disk/source[@protocol='rbd']"):
        found[_image(source.get("name", ""))] = None
    return tuple(found)


def other_disks(xml: str) -> tuple[str, ...]:
    """The targets of disks with a medium that is not on RBD, as ``vdb``."""
    return tuple(
        target.get("dev", "") for disk in _parsed(xml).findall("./devices/disk")
        if (source := disk.find("source")) is not None and source.get("protocol") != "rbd"
        and (target := disk.find("target")) is not None)


def agent_trouble(xml: str) -> str:
    """Why the guest's agent cannot be asked, from its running XML; empty where it can."""
    target = _parsed(xml).find("./devices/channel/target[@name='org.qemu.guest_agent.0']")
    if target is None:
        return "it has no channel for a guest agent"
    if target.get("state") != "connected":
        return "no guest agent listens on its channel"
    return ""


def host_uuid(capabilities: str) -> str:
    """libvirt's UUID of a host, from its capabilities; empty where it tells none."""
    element = _parsed(capabilities).find("./host/uuid")
    return "" if element is None else (element.text or "").strip()


def memory_bytes(xml: str) -> int:
    """The memory a guest may have at most, in bytes; 0 where the XML does not say."""
    element = _parsed(xml).find("./memory")
    if element is None or not _NUMBER.fullmatch(element.text or ""):
        return 0
    return int(element.text or 0) * _UNITS.get(element.get("unit", "KiB"), 1024)


def with_graphics_listen(xml: str, address: str) -> str | None:
    """``xml`` with the VNC and SPICE servers listening on ``address``.

    :returns: None where nothing has to be changed.
    :raises errors.BadInput: ``address`` is neither an IP address nor empty.
    """
    try:
        wanted = str(ipaddress.ip_address(address))
    except ValueError as e:
        raise errors.BadInput(what="the graphics listen address of the destination",
                              reason="it is not an IP address") from e
    _keep_prefixes(xml)
    root = _parsed(xml)
    changed = False
    for graphics in root.findall("./devices/graphics"):
        if graphics.get("type") in ("vnc", "spice"):
            changed |= _listen(graphics, wanted)
    return ElementTree.tostring(root, encoding="unicode") if changed else None


def _listen(graphics: ElementTree.Element, wanted: str) -> bool:
    """Change both forms of the address; a socket or a network's address stays."""
    changed = False
    if graphics.get("listen") not in (None, wanted):
        graphics.set("listen", wanted)
        changed = True
    for listen in graphics.findall("./listen[@type='address']"):
        if listen.get("address") not in (None, wanted):
            listen.set("address", wanted)
            changed = True
    return changed


def _keep_prefixes(xml: str) -> None:
    """Have ElementTree write ``nova:`` and ``qemu:`` as they were, not ``ns0:``."""
    try:
        for _, (prefix, uri) in ElementTree.iterparse(io.StringIO(xml), events=("start-ns",)):
            if prefix and not re.fullmatch(r"ns\d+", prefix):
                ElementTree.register_namespace(prefix, uri)
    except ElementTree.ParseError:
        return  # the caller's parsing tells


def _image(name: str) -> RbdImage:
    """``pool/image``, ``pool/namespace/image``; a snapshot is its image's."""
    path = name.partition("@")[0]
    pool, separator, image = path.partition("/")
    if not separator:
        pool, image = DEFAULT_POOL, path
    if not pool or not all(image.split("/")) or image.count("/") > 1:
        raise errors.BadInput(what=f"RBD image {name[:128]!r} of a domain's XML",
                              reason="it is neither pool/image nor pool/namespace/image")
    return RbdImage(pool, image)


def _parsed(xml: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(xml)
    except ElementTree.ParseError as e:
        raise errors.BadInput(what="a domain's XML", reason=f"it cannot be read: {e}") from e


_UNITS: ty.Final = {
    "b": 1, "bytes": 1, "KB": 10 ** 3, "k": 1 << 10, "KiB": 1 << 10, "MB": 10 ** 6,
    "M": 1 << 20, "MiB": 1 << 20, "GB": 10 ** 9, "G": 1 << 30, "GiB": 1 << 30,
    "TB": 10 ** 12, "T": 1 << 40, "TiB": 1 << 40,
}
