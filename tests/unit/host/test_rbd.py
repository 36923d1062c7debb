# SPDX-License-Identifier: Apache-2.0
"""Ceph's addresses, and what happens without Ceph."""

import pathlib
import sys
import time

import pytest

from devstack.lab import processes
from rbd_worker import errors
from rbd_worker.conf import CephSettings
from rbd_worker.host.rbd import ImageStore, addresses_in
from rbd_worker.model import RbdImage

IMAGE = RbdImage("vms", "a_disk")


@pytest.mark.parametrize(("text", "expected"), [
    ("198.18.77.11:0/816151124", {"198.18.77.11"}),
    ("v1:198.18.77.11:0/816151124", {"198.18.77.11"}),
    ("v2:198.18.77.11:0/816151124", {"198.18.77.11"}),
    ("[v2:198.18.77.11:3300/1,v1:198.18.77.12:6789/2]", {"198.18.77.11", "198.18.77.12"}),
    ("[fd00::11]:0/816151124", {"fd00::11"}),
    ("v2:[fd00:0:0::11]:0/816151124", {"fd00::11"}),
    ("[v2:[fd00::11]:0/1,v1:[fd00::11]:0/1]", {"fd00::11"}),
    ("198.18.77.11:0/1,198.18.77.12:0/2", {"198.18.77.11", "198.18.77.12"}),
    ("", set()),
])
def test_addresses_are_read_in_every_form_of_ceph(text: str, expected: set[str]):
    assert addresses_in(text) == expected


@pytest.mark.parametrize("text", ["-", ":/0", "node1:0/1", "198.18.77.11", "198.18.77.11:0/1 x",
                                  "198.18.77.256:0/1", "[fd00::zz]:0/1"])
def test_an_address_that_cannot_be_read_never_looks_like_nobody(text: str):
    with pytest.raises(ValueError):
        addresses_in(text)


def test_missing_bindings_are_told_with_their_packages(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "rados", None)
    store = ImageStore(CephSettings("/etc/ceph/ceph.conf", "nova", ""), 1.0)
    with pytest.raises(errors.CephBindingsMissing) as caught:
        store.watchers(IMAGE)
    assert "python3-rados" in caught.value.sentence


def test_a_missing_ceph_conf_is_told_with_its_path(tmp_path: pathlib.Path):
    pytest.importorskip("rados")
    path = str(tmp_path / "ceph.conf")
    store = ImageStore(CephSettings(path, "nova", ""), 1.0)
    with pytest.raises(errors.CephUnavailable) as caught:
        store.own_addresses()
    assert path in caught.value.sentence and "client.nova" in caught.value.sentence


def test_a_monitor_that_is_not_there_is_unavailable_in_time(tmp_path: pathlib.Path):
    pytest.importorskip("rados")
    keyring = tmp_path / "keyring"
    keyring.write_text("[client.nova]\nkey = AQDnmo9lAAAAABAAdDmZ3lPzyd8o2ZO0V4gTWQ==\n")
    path = tmp_path / "ceph.conf"
    # 198.51.100.0/24 is reserved for documents: nobody answers there
    path.write_text(f"[global]\nmon host = 198.51.100.1\nkeyring = {keyring}\n")
    store = ImageStore(CephSettings(str(path), "nova", ""), 1.0)
    began = time.monotonic()
    with pytest.raises(errors.CephUnavailable, match="watchers"):
        store.watchers(IMAGE)
    assert time.monotonic() - began < processes.patience(2.0)


def test_a_closed_store_refuses(tmp_path: pathlib.Path):
    pytest.importorskip("rados")
    store = ImageStore(CephSettings(str(tmp_path / "ceph.conf"), "nova", ""), 1.0)
    store.close()
    with pytest.raises(errors.CephUnavailable, match="stopping"):
        store.watchers(IMAGE)
