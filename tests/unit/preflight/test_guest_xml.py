# SPDX-License-Identifier: Apache-2.0
"""What of a guest's XML its host has to have."""

from xml.etree import ElementTree

import pytest

from rbd_worker.host import inspection
from rbd_worker.preflight import guest_xml, moving_checks

DIRECTORY = "/var/lib/nova/instances/a05482ec-d71a-48c7-bf99-94d829b20aef"
DOMAIN = f"""
<domain type='kvm'>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <loader readonly='yes'>/usr/share/OVMF/OVMF_CODE.fd</loader>
    <kernel>{DIRECTORY}/kernel</kernel></os>
  <memoryBacking><hugepages><page size='1' unit='GiB'/></hugepages></memoryBacking>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='network' device='disk'><source protocol='rbd' name='vms/one'/>
      <target dev='vda'/></disk>
    <disk type='file' device='cdrom'><source file='{DIRECTORY}/disk.config'/>
      <target dev='sda'/><readonly/></disk>
    <disk type='file' device='cdrom'><target dev='sdb'/><readonly/></disk>
    <disk type='block' device='disk'><source dev='/dev/sdx'/><target dev='vdb'/></disk>
    <interface type='bridge'><source bridge='qbr1'/></interface>
    <interface type='bridge'><source bridge='qbr1'/></interface>
    <interface type='direct'><source dev='eno1' mode='bridge'/></interface>
    <interface type='network'><source network='default'/></interface>
    <interface type='hostdev'><source><address domain='0x0000' bus='0x05' slot='0x10'
      function='0x1'/></source></interface>
    <hostdev type='mdev'><source><address uuid='c2177883-f1bb-47f0-914d-32a22e3a8804'/>
      </source></hostdev>
    <filesystem><source dir='/srv/share'/></filesystem>
  </devices>
</domain>"""
PARSED = ElementTree.fromstring(DOMAIN)
CAPABILITIES = """
<capabilities><host><uuid>1</uuid><cpu><arch>x86_64</arch><model>EPYC</model></cpu></host>
  <guest><arch name='x86_64'><machine maxCpus='255'>pc-i440fx-7.2</machine>
    <machine canonical='pc-q35-7.2'>q35</machine><machine>pc-q35-7.2</machine></arch></guest>
  <guest><arch name='aarch64'><machine>virt-7.2</machine></arch></guest></capabilities>"""


def test_disks_on_the_network_and_empty_drives_stay_where_they_are() -> None:
    config, block = guest_xml.local_disks(PARSED)
    assert (config.target, config.is_in(DIRECTORY), config.is_read_only) == ("sda", True, True)
    assert (block.target, block.kind, block.path) == ("vdb", "block", "/dev/sdx")
    assert not config.is_in(f"{DIRECTORY}-other")


def test_files_outside_of_the_directory_have_to_be_at_the_destination() -> None:
    assert guest_xml.open_paths(PARSED, DIRECTORY) == (
        "/dev/sdx", "/usr/share/OVMF/OVMF_CODE.fd", "/usr/bin/qemu-system-x86_64")


def test_interfaces_are_named_once_each() -> None:
    assert guest_xml.interfaces(PARSED) == ("qbr1", "eno1")
    assert guest_xml.networks(PARSED) == ("default",)


def test_what_belongs_to_one_host_is_told_in_words() -> None:
    assert guest_xml.tied(PARSED) == (
        "mdev c2177883-f1bb-47f0-914d-32a22e3a8804", "network card 0000:05:10:1",
        "shared directory /srv/share")


@pytest.mark.parametrize(("xml", "size"), [
    ("<domain/>", 0),
    ("<domain><memoryBacking><hugepages/></memoryBacking></domain>", 2 << 20),
    ("<domain><memoryBacking><hugepages><page size='2048' unit='KiB'/></hugepages>"
     "</memoryBacking></domain>", 2 << 20),
    (DOMAIN, 1 << 30)])
def test_the_size_of_huge_pages_is_read_in_its_unit(xml: str, size: int) -> None:
    assert guest_xml.huge_page_bytes(ElementTree.fromstring(xml)) == size


def test_machine_types_and_the_processor_are_those_of_the_architecture() -> None:
    assert inspection.machines(CAPABILITIES, "x86_64") == {"pc-i440fx-7.2", "q35", "pc-q35-7.2"}
    assert inspection.machines(CAPABILITIES, "ppc64le") == frozenset()
    assert "<model>EPYC</model>" in inspection.host_cpu(CAPABILITIES)
    assert inspection.host_cpu("<capabilities><host/></capabilities>") == ""


@pytest.mark.parametrize(("path", "kind"), [
    ("/var/lib/nova/instances/a/disk", "nfs4"), ("/var/lib/nova/other", "ext4"),
    ("/srv/with space/disk", "xfs")])
def test_a_path_is_on_the_innermost_mount(path: str, kind: str) -> None:
    mounts = ("/dev/sda1 / ext4 rw 0 0\nserver:/i /var/lib/nova/instances nfs4 rw 0 0\n"
              "/dev/sdb1 /srv/with\\040space xfs rw 0 0\n")
    assert moving_checks.filesystem(path, mounts) == kind
