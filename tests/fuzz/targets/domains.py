# SPDX-License-Identifier: Apache-2.0
"""XML of domains, arriving or known, and the file that names the monitors."""

import dataclasses

from rbd_worker import errors, model
from rbd_worker.host import arriving_xml, ceph_conf, domain_xml
from tests.fuzz import oracle
from tests.fuzz.targets import Target

_GUEST = b"""<domain type='kvm' xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>
  <name>instance-1</name><uuid>a05482ec-d71a-48c7-bf99-94d829b20aef</uuid>
  <metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'/></metadata>
  <memory unit='KiB'>65536</memory>
  <os><kernel>/var/lib/nova/instances/a05482ec-d71a-48c7-bf99-94d829b20aef/kernel</kernel></os>
  <devices>
    <disk type='network' device='disk'>
      <auth username='nova'>
        <secret type='ceph' uuid='3F0B5C1E-6a52-4c0f-9a4e-9b6f0a2d71c8'/>
      </auth>
      <source protocol='rbd' name='vms/a05482ec-d71a-48c7-bf99-94d829b20aef_disk'>
        <host name='10.0.0.1' port='6789'/>
        <host name='[fd00::2]' port='6789'></host>
        <config file='/etc/ceph/ceph.conf'/>
      </source>
    </disk>
    <disk><source protocol='rbd' name='vol/ns/v@snap'><host name='m'/></source></disk>
    <graphics type='vnc' listen='10.0.0.1'><listen type='address' address='10.0.0.1'/></graphics>
    <serial type='file'><log file='/var/lib/nova/instances/x/console.log'/></serial>
  </devices>
</domain>
"""
_BOMB = b"""<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY e SYSTEM "file:///etc/passwd">]>
<domain><uuid>&c;&e;</uuid></domain>"""
_NASTY = (b"", b"<domain/>", _BOMB, b"<a>" * 200, b"<domain>" + b"<disk/>" * 300 + b"</domain>",
          _GUEST.replace(b"10.0.0.1", b"\xc3\xa4"), _GUEST.replace(b"\n", b"\r\n"),
          b"\xef\xbb\xbf" + _GUEST, _GUEST.decode().encode("utf-16"),
          b"<?xml version='1.0' encoding='utf-7'?>" + _GUEST,
          _GUEST.replace(b"65536", "²".encode()), _GUEST.replace(b"65536", b"9" * 5000),
          _GUEST.replace(b"'6789'", "'²'".encode()))
_WORDS = (b"<domain>", b"</domain>", b"<uuid>", b"<devices>", b"<disk>", b"</disk>", b"<source ",
          b"protocol='rbd'", b"<host ", b"name='", b"port='", b"<auth>", b"<secret ", b"uuid='",
          b"<config/>", b"transport='unix'", b"<!DOCTYPE d", b"<!ENTITY", b"<![CDATA[", b"]]>",
          b"<!--", b"-->", b"&amp;", b"&#0;", b"&#x10ffff;", b"xmlns='u'", b"/>", b"<memory>",
          b"unit='TiB'", b"<graphics ", b"listen='", b"type='address'", b"<?xml version='1.0'?>")
_MONITORS = (("10.9.9.1", 6789), ("fd00::9", 3300))


def arriving() -> Target:
    """The XML of an arriving guest, read and changed."""
    return Target(_arriving, (_GUEST, *_NASTY), _WORDS, 8192)


def domain() -> Target:
    """The XML of a guest that this host's libvirt knows."""
    return Target(_domain, (_GUEST, *_NASTY), _WORDS, 8192)


def _arriving(xml: bytes) -> None:
    guest = oracle.outcome_of(lambda: arriving_xml.read(xml), errors.BadInput)
    if isinstance(guest, Exception):
        return
    model.canonical_uuid(guest.uuid)
    oracle.require(all(path.startswith("/") for path in guest.paths), "a path is not absolute")
    disks = [disk for disk in guest.disks if disk.hosts]
    for host in (host for disk in disks for host in disk.hosts):
        oracle.require(xml[host.begin:host.begin + 5] == b"<host" and xml[host.end - 1:host.end]
                       == b">", "an element is not where it is said to be")
    changed = arriving_xml.with_monitors(xml, disks, _MONITORS)
    if changed != xml:
        _check_changed(guest, arriving_xml.read(changed))


def _check_changed(before: arriving_xml.ArrivingGuest, after: arriving_xml.ArrivingGuest) -> None:
    """Nothing but the monitors is another one."""
    def without_hosts(guest: arriving_xml.ArrivingGuest) -> object:
        return guest.uuid, guest.is_novas, [dataclasses.replace(d, hosts=()) for d in guest.disks]
    oracle.require(without_hosts(before) == without_hosts(after), "another guest came out")
    for old, new in zip(before.disks, after.disks, strict=True):
        found = [(h.name, h.port) for h in new.hosts]
        oracle.require(
            found in ([(h.name, h.port) for h in old.hosts], [(h, str(p)) for h, p in _MONITORS]),
            "a disk has neither its old monitors nor the new ones")


def _domain(data: bytes) -> None:
    xml = data.decode("utf-8", "replace")  # libvirt-python hands out text
    oracle.outcome_of(lambda: domain_xml.rbd_images(xml), errors.BadInput)
    size = oracle.outcome_of(lambda: domain_xml.memory_bytes(xml), errors.BadInput)
    oracle.require(isinstance(size, Exception) or size >= 0, "a guest has less than no memory")
    changed = oracle.outcome_of(lambda: domain_xml.with_graphics_listen(xml, "10.9.9.1"),
                                errors.BadInput)
    if isinstance(changed, str):
        oracle.require(domain_xml.with_graphics_listen(changed, "10.9.9.1") is None,
                       "a second change finds something left to change")


def monitors() -> Target:
    """A ceph.conf."""
    seeds = (b"[global]\nmon_host = 10.0.0.1,10.0.0.2:6789\n",
             b"[global]\nmon host = [v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0] [v2:[fd00::1]:3300]\n",
             b"[mon.a]\nmon addr = a.example.org:6789\n[client.nova]\nmon-host = \"m1, m2\"\n",
             b"mon_host = \\\n 10.0.0.1 ; comment\n[global\n]]\n= =\n",
             "mon_host = ²:³, ١٢:٣٤\n".encode(), b"mon_host = a:99999\n", b"\0\xff\n=")
    words = (b"mon_host", b"mon addr", b"[global]", b"[mon.a]", b"[client.nova]", b"v1:", b"v2:",
             b"any:", b"[", b"]", b"fd00::1", b":6789/0", b",", b";", b"#", b"\\\n", b"=")
    box = oracle.Sandbox()
    path = str(box.inside / "ceph.conf")

    def one(data: bytes) -> None:
        with open(path, "wb") as file:
            file.write(data)
        for monitor in ceph_conf.monitors(path, "nova"):
            oracle.require(monitor.host and not set(monitor.host) & set(" '\"<>&/\n"),
                           "a monitor's name is none")
            oracle.require(all(0 < port < 65536 for port in (monitor.port, *monitor.ports)),
                           "a port is out of range")
            monitor.is_at(monitor.host, monitor.port)
        box.check()
    return Target(one, seeds, words, 1024)
