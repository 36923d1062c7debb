# SPDX-License-Identifier: Apache-2.0
"""What is read from, and changed in, the XML of a guest that is about to arrive.

The text comes from another host, so nothing in it is trusted: a document type
(and with it every entity) ends the reading, and so does more depth or more
elements than any guest has.  A change is made in the text itself, where expat
says that the elements are; every other byte stays as it was.
"""

import dataclasses
import re
import typing as ty
from xml.parsers import expat

from rbd_worker import errors, model

MAX_BYTES = 4 << 20
MAX_DEPTH = 64
MAX_ELEMENTS = 50_000

_NOVA = re.compile(r"http://openstack\.org/xmlns/libvirt/nova/[\w.]+ instance")
_DISK = ("domain", "devices", "disk")
_PLAIN = re.compile(r"[A-Za-z0-9.:_-]+")
_BLANK = re.compile(rb"\s*")
#: Bytes before an element that are looked at for its indentation.
_MAX_INDENTATION = 256


@dataclasses.dataclass(frozen=True)
class HostElement:
    """A ``<host>`` of a disk's source and where it stands in the text, in bytes."""

    name: str
    port: str
    transport: str
    begin: int
    end: int


@dataclasses.dataclass(frozen=True)
class RbdDisk:
    """A disk on RBD.

    :ivar image: ``pool/image`` as it stands there.
    :ivar has_auth, secret: whether the client has to prove who it is, and the
        UUID of libvirt's secret for that; empty where it is named otherwise.
    :ivar has_conf: it names a ceph.conf of its own.
    """

    image: str
    has_auth: bool
    secret: str
    has_conf: bool
    hosts: tuple[HostElement, ...]


@dataclasses.dataclass(frozen=True)
class ArrivingGuest:
    """:ivar paths: every absolute path that the XML names."""

    uuid: str
    is_novas: bool
    paths: frozenset[str]
    disks: tuple[RbdDisk, ...]


def read(xml: bytes) -> ArrivingGuest:
    """Read a domain's XML.

    :raises errors.BadInput: it is no domain of libvirt, or more than that.
    """
    if len(xml) > MAX_BYTES:
        raise _bad(f"it is longer than {MAX_BYTES} bytes")
    if b"\0" in xml:
        raise _bad("it is not in UTF-8")
    return _Reader(xml).guest()


def with_monitors(xml: bytes, disks: ty.Iterable[RbdDisk],
                  monitors: ty.Sequence[tuple[str, int]]) -> bytes:
    """``xml`` with other monitors in these disks; a disk whose list is odd stays as it is."""
    if not all(_PLAIN.fullmatch(host) for host, _ in monitors):
        return xml
    lines = [f"<host name='{host}' port='{port}'/>".encode() for host, port in monitors]
    pieces, done = [], 0  # joined once: thousands of disks must not copy the whole each time
    for disk in sorted(disks, key=lambda each: each.hosts[0].begin):
        between = zip(disk.hosts, disk.hosts[1:], strict=False)
        if all(_BLANK.fullmatch(xml, one.end, other.begin) for one, other in between):
            begin, end = disk.hosts[0].begin, disk.hosts[-1].end
            pieces += [xml[done:begin], _indentation(xml, begin).join(lines)]
            done = end
    return b"".join([*pieces, xml[done:]])


def _indentation(xml: bytes, begin: int) -> bytes:
    """What stands between the line before ``begin`` and ``begin``, the end of line included."""
    line = xml.rfind(b"\n", max(0, begin - _MAX_INDENTATION), begin)
    blank = xml[max(line, 0):begin]
    return blank if line >= 0 and not blank.strip() else b""


class _Disk:
    """A disk while it is read."""

    def __init__(self) -> None:
        self.is_rbd = False
        self.image = ""
        self.has_auth = False
        self.secret = ""
        self.has_conf = False
        self.hosts: list[HostElement] = []

    def frozen(self) -> RbdDisk:
        return RbdDisk(self.image, self.has_auth, self.secret, self.has_conf, tuple(self.hosts))


class _Reader:
    """One reading; expat calls it."""

    def __init__(self, xml: bytes) -> None:
        self._xml = xml
        self._path: list[str] = []
        self._elements = 0
        self._text: list[str] | None = None
        self._uuid = ""
        self._is_novas = False
        self._paths: set[str] = set()
        self._disk = _Disk()
        self._disks: list[RbdDisk] = []
        self._host: tuple[dict[str, str], int] | None = None
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.XmlDeclHandler = self._declaration
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters

    def guest(self) -> ArrivingGuest:
        try:
            self._parser.Parse(self._xml, True)
        except expat.ExpatError as e:
            raise _bad(str(e)) from e
        try:
            uuid = model.canonical_uuid(self._uuid)
        except errors.BadInstanceUUID as e:
            raise _bad(str(e)) from e
        return ArrivingGuest(uuid, self._is_novas, frozenset(self._paths), tuple(self._disks))

    # -- expat's events --------------------------------------------------------

    def _doctype(self, *_: object) -> None:
        raise _bad("it has a document type, which libvirt never writes")

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if (encoding or "utf-8").lower() not in ("utf-8", "us-ascii"):
            raise _bad("it is not in UTF-8")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name)
        self._elements += 1
        if len(self._path) > MAX_DEPTH or self._elements > MAX_ELEMENTS:
            raise _bad("it has more elements, or deeper ones, than a guest has")
        self._paths.update(v for v in attributes.values() if v.startswith("/"))
        path = tuple(self._path)
        if path[:1] != ("domain",):
            raise _bad("it is not a domain")
        if path in (("domain", "uuid"), ("domain", "os", "kernel"), ("domain", "os", "initrd")):
            self._text = []
        elif path[:2] == ("domain", "metadata") and _NOVA.fullmatch(name):
            self._is_novas = True
        elif path[:3] == _DISK:
            self._start_in_disk(path[3:], attributes)

    def _start_in_disk(self, path: tuple[str, ...], attributes: dict[str, str]) -> None:
        disk = self._disk
        if not path:
            self._disk = _Disk()
        elif path == ("source",):
            disk.is_rbd = attributes.get("protocol") == "rbd"
            disk.image = attributes.get("name", "")
        elif path in (("auth",), ("source", "auth")):
            disk.has_auth = True
        elif path in (("auth", "secret"), ("source", "auth", "secret")):
            disk.secret = attributes.get("uuid", "").lower()
        elif path == ("source", "config"):
            disk.has_conf = True
        elif path == ("source", "host"):
            self._host = attributes, self._parser.CurrentByteIndex

    def _end(self, name: str) -> None:
        path = tuple(self._path)
        if self._text is not None:
            text, self._text = "".join(self._text).strip(), None
            if path == ("domain", "uuid"):
                if self._uuid:
                    raise _bad("it has two UUIDs")
                self._uuid = text
            elif text.startswith("/"):
                self._paths.add(text)
        if path == (*_DISK, "source", "host") and self._host is not None:
            self._end_host(*self._host)
        elif path == _DISK and self._disk.is_rbd:
            self._disks.append(self._disk.frozen())
        self._path.pop()

    def _end_host(self, attributes: dict[str, str], begin: int) -> None:
        """expat stands behind an empty element, and before the end tag of another one."""
        end = self._parser.CurrentByteIndex
        if self._xml.startswith(b"</host", end):  # behind an empty one stands </source at most
            end = self._xml.index(b">", end) + 1
        self._disk.hosts.append(HostElement(
            attributes.get("name", ""), attributes.get("port", ""),
            attributes.get("transport", "tcp"), begin, end))

    def _characters(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)


def _bad(reason: str) -> errors.BadInput:
    return errors.BadInput(what="the XML of an arriving guest", reason=reason)
