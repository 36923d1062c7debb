# SPDX-License-Identifier: Apache-2.0
"""The XML of an arriving guest, as libvirt never writes it."""

import time

import pytest

from devstack.lab import processes
from rbd_worker import errors
from rbd_worker.host import arriving_xml

UUID = "a05482ec-d71a-48c7-bf99-94d829b20aef"
MONITORS = [("10.9.9.1", 6789), ("10.9.9.2", 6789)]


def domain(*hosts: str, before: str = "") -> bytes:
    disks = "".join(f"<disk><source protocol='rbd' name='vms/a'>{h}</source></disk>"
                    for h in hosts)
    return f"{before}<domain><uuid>{UUID}</uuid><devices>{disks}</devices></domain>".encode()


@pytest.mark.parametrize("hosts", [
    "<host name='m'/>", "<host name='m'></host>", "<host name='m'></host\n>",
    "<host name='m'/><host name='n'/>", "<host name='m'/><host name='n'></host>",
    "\n  <host name='m'/>\n  <host name='n'/>\n"])
def test_monitors_are_replaced_however_the_elements_are_closed(hosts: str) -> None:
    xml = domain(hosts, hosts)
    changed = arriving_xml.with_monitors(xml, arriving_xml.read(xml).disks, MONITORS)
    for disk in arriving_xml.read(changed).disks:
        assert [(h.name, h.port) for h in disk.hosts] == [(n, str(p)) for n, p in MONITORS]
    assert changed.count(b"</source>") == 2


@pytest.mark.parametrize("xml", [
    domain("<host name='m'/>", before="<!DOCTYPE domain [<!ENTITY a 'aaaa'>]>"),
    domain("<host name='m'/>", before="<!DOCTYPE domain SYSTEM 'file:///etc/passwd'>"),
    domain("<host name='m'/>", before="<?xml version='1.0' encoding='utf-7'?>"),
    domain("<host name='m'/>").decode().encode("utf-16"),
    b"<domain>" + b"<a>" * 100 + b"</a>" * 100 + b"</domain>",
    b"<domain>" + b"<a/>" * 60_000 + b"</domain>", b" " * (5 << 20), b"", b"\0"])
def test_what_no_guest_has_is_not_read(xml: bytes) -> None:
    with pytest.raises(errors.BadInput):
        arriving_xml.read(xml)


def test_thousands_of_disks_are_changed_in_one_go() -> None:
    """4 MiB of them, copied once for each disk, would hold up everybody for half a minute."""
    xml = domain(*["<host name='m'/>" + " " * 180] * 16_000)
    began = time.process_time()
    changed = arriving_xml.with_monitors(xml, arriving_xml.read(xml).disks, MONITORS)
    assert time.process_time() - began < processes.patience(3)
    assert changed.count(b"10.9.9.2") == 16_000
