# SPDX-License-Identifier: Apache-2.0
"""Images and graphics in a domain's XML."""

from xml.etree import ElementTree

import pytest

from rbd_worker import errors
from rbd_worker.host import domain_xml
from rbd_worker.model import RbdImage


def disk(name: str, protocol: str = "rbd", device: str = "disk") -> str:
    return (f"<disk type='network' device='{device}'>"
            f"<source protocol='{protocol}' name='{name}'><host name='mon' port='6789'/></source>"
            "<target dev='vda'/></disk>")


def domain(*devices: str, around: str = "") -> str:
    return f"<domain type='kvm'>{around}<devices>{''.join(devices)}</devices></domain>"


def test_every_rbd_disk_is_named_once_and_in_order():
    xml = domain(disk("vms/a_disk"), disk("volumes/volume-1"), disk("vms/a_disk.config",
                 device="cdrom"), disk("vms/a_disk"))
    assert domain_xml.rbd_images(xml) == (
        RbdImage("vms", "a_disk"), RbdImage("volumes", "volume-1"),
        RbdImage("vms", "a_disk.config"))


def test_other_disks_are_none_of_them():
    xml = domain("<disk type='file'><source file='/var/lib/x'/></disk>",
                 disk("iqn.2000-01.org:target/1", protocol="iscsi"),
                 "<disk type='block'><source dev='/dev/rbd0'/></disk>")
    assert domain_xml.rbd_images(xml) == ()


@pytest.mark.parametrize(("name", "pool", "image"), [
    ("vms/tenant/a_disk", "vms", "tenant/a_disk"),
    ("vms/a_disk@snap", "vms", "a_disk"),
    ("a_disk", "rbd", "a_disk"),
])
def test_namespaces_snapshots_and_the_default_pool(name: str, pool: str, image: str):
    assert domain_xml.rbd_images(domain(disk(name))) == (RbdImage(pool, image),)


@pytest.mark.parametrize("name", ["", "/a", "vms/", "vms//a", "vms/x/y/z", "@snap"])
def test_a_name_that_does_not_say_which_image_is_refused(name: str):
    with pytest.raises(errors.BadInput, match="RBD image"):
        domain_xml.rbd_images(domain(disk(name)))


def test_xml_that_cannot_be_read_is_refused():
    with pytest.raises(errors.BadInput, match="cannot be read"):
        domain_xml.rbd_images("<domain>")


@pytest.mark.parametrize(("memory", "size"), [
    ("<memory unit='KiB'>65536</memory>", 64 << 20),
    ("<memory>65536</memory>", 64 << 20),
    ("<memory unit='GiB'>3</memory>", 3 << 30),
    ("<memory unit='MB'>5</memory>", 5_000_000),
    ("", 0),
])
def test_memory_is_counted_in_bytes(memory: str, size: int):
    assert domain_xml.memory_bytes(domain(around=memory)) == size


VNC = ("<graphics type='vnc' port='5900' listen='192.0.2.1'>"
       "<listen type='address' address='192.0.2.1'/></graphics>")


def graphics_of(xml: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(xml).findall("./devices/graphics")


@pytest.mark.parametrize("address", ["192.0.2.2", "0.0.0.0", "fd00::2"])
def test_both_forms_of_the_listen_address_are_changed(address: str):
    spice = VNC.replace("vnc", "spice")
    changed = domain_xml.with_graphics_listen(domain(VNC, spice), address)
    assert changed is not None
    for graphics in graphics_of(changed):
        assert graphics.get("listen") == address
        assert graphics.find("listen").get("address") == address
        assert graphics.get("port") == "5900"


@pytest.mark.parametrize("devices", [
    "", VNC.replace("192.0.2.1", "192.0.2.2"),
    "<graphics type='vnc'><listen type='socket' socket='/run/vnc'/></graphics>",
    "<graphics type='vnc'><listen type='network' network='n' address='192.0.2.1'/></graphics>",
    "<graphics type='egl-headless'/>",
])
def test_what_needs_no_change_is_left_alone(devices: str):
    assert domain_xml.with_graphics_listen(domain(devices), "192.0.2.2") is None


def test_the_rest_of_the_definition_stays_with_its_namespaces():
    nova, qemu = ("http://openstack.org/xmlns/libvirt/nova/1.1",
                  "http://libvirt.org/schemas/domain/qemu/1.0")
    around = (f"<metadata><nova:instance xmlns:nova='{nova}'><nova:name>web</nova:name>"
              f"</nova:instance></metadata><q:commandline xmlns:q='{qemu}'><q:arg value='-S'/>"
              "</q:commandline>")
    before = domain(VNC, disk("vms/a_disk"), around=around)
    after = domain_xml.with_graphics_listen(before, "192.0.2.2")
    assert after is not None
    assert "<nova:name>web</nova:name>" in after and "<q:arg value=\"-S\"" in after
    assert ElementTree.canonicalize(after.replace("192.0.2.2", "192.0.2.1")) == (
        ElementTree.canonicalize(before))


@pytest.mark.parametrize("address", ["", "host", "192.0.2.2'/><evil/>", "192.0.2"])
def test_an_address_from_a_peer_that_is_none_is_refused(address: str):
    with pytest.raises(errors.BadInput, match="not an IP address"):
        domain_xml.with_graphics_listen(domain(VNC), address)


@pytest.mark.parametrize(("target", "said"), [
    ("<target type='virtio' name='org.qemu.guest_agent.0' state='connected'/>", ""),
    ("<target type='virtio' name='org.qemu.guest_agent.0' state='disconnected'/>", "listens"),
    ("<target type='virtio' name='org.qemu.guest_agent.0'/>", "listens"),
    ("<target type='virtio' name='com.redhat.spice.0' state='connected'/>", "no channel")])
def test_an_agent_can_be_asked_only_while_it_listens(target: str, said: str):
    xml = f"<domain><devices><channel type='unix'>{target}</channel></devices></domain>"
    trouble = domain_xml.agent_trouble(xml)
    assert (said in trouble) if said else (trouble == "")


def test_disks_elsewhere_than_on_rbd_are_told_by_their_target():
    xml = """<domain><devices>
      <disk type='network'><source protocol='rbd' name='vms/a'/><target dev='vda'/></disk>
      <disk type='file'><source file='/x/disk.config'/><target dev='vdb'/></disk>
      <disk type='network'><source protocol='iscsi' name='iqn'/><target dev='vdc'/></disk>
      <disk type='file' device='cdrom'><target dev='hda'/></disk>
    </devices></domain>"""
    assert domain_xml.other_disks(xml) == ("vdb", "vdc")
