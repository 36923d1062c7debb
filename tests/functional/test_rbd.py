# SPDX-License-Identifier: Apache-2.0
"""Watchers of real images: before, during and after a move, and with a silent cluster."""

import collections.abc
import json
import pathlib
import sys
import threading
import time

import pytest

from devstack import lab as labs
from devstack.lab import processes
from rbd_worker import errors
from rbd_worker.conf import CephSettings
from rbd_worker.host.rbd import ImageStore
from rbd_worker.model import RbdImage

CHECKOUT = pathlib.Path(__file__).parents[2]

LIMIT = processes.patience(5)
#: Run on a compute host, where the client of the worker would run.
ASK_THERE = """
import json, sys
from rbd_worker.conf import CephSettings
from rbd_worker.host.rbd import ImageStore
from rbd_worker.model import RbdImage
store = ImageStore(CephSettings("/etc/ceph/ceph.conf", "nova", ""), float(sys.argv[2]))
print(json.dumps([sorted(store.own_addresses()),
                  sorted(store.watchers(RbdImage(*sys.argv[1].split("/", 1))))]))
"""


def make_store(lab: labs.Lab, directory: pathlib.Path, seconds: float = LIMIT) -> ImageStore:
    """A store of this process, which reaches the lab's Ceph from outside."""
    keyring = directory / "keyring"
    keyring.write_text(lab.ceph.client_keyring())
    path = directory / "ceph.conf"
    path.write_text(f"{lab.ceph.client_conf()}\n[client.nova]\nkeyring = {keyring}\n")
    return ImageStore(CephSettings(str(path), "nova", ""), seconds)


@pytest.fixture
def store(lab: labs.Lab, tmp_path: pathlib.Path) -> collections.abc.Iterator[ImageStore]:
    one = make_store(lab, tmp_path)
    yield one
    one.close()


def image_of(guest: labs.Guest) -> RbdImage:
    pool, _, name = guest.image.partition("/")
    return RbdImage(pool, name)


def ask_there(host: labs.Host, guest: labs.Guest) -> tuple[list[str], list[str]]:
    answer = host.run([sys.executable, "-c", ASK_THERE, guest.image, str(LIMIT)],
                      env={"PYTHONPATH": str(CHECKOUT)}).stdout
    own, watchers = json.loads(answer)
    return own, watchers


def test_a_hosts_own_address_is_the_one_its_guests_watch_from(
        lab: labs.Lab, store: ImageStore) -> None:
    here, there = lab.host("node1"), lab.host("node2")
    guest = lab.define_guest(here)
    assert ask_there(here, guest) == ([here.address], [here.address])
    assert ask_there(there, guest) == ([there.address], [here.address])
    assert store.watchers(image_of(guest)) == {here.address}
    assert store.own_addresses() == {lab.ceph.host.lay.gateway}


def test_asking_adds_no_watcher(lab: labs.Lab, store: ImageStore) -> None:
    guest = lab.define_guest(lab.host("node1"), start=False)
    for _ in range(3):
        assert store.watchers(image_of(guest)) == frozenset()
    assert guest.watchers() == []


def test_the_watchers_follow_a_guest_that_moves(lab: labs.Lab, store: ImageStore) -> None:
    here, there = lab.host("node1"), lab.host("node2")
    guest = lab.define_guest(here, busy=True)
    guest.directory(there).mkdir()

    def wait_for(*hosts: labs.Host) -> None:
        processes.wait_until(
            lambda: store.watchers(image_of(guest)) == {host.address for host in hosts}, 15,
            "the watchers", seen=lambda: store.watchers(image_of(guest)))

    assert store.watchers(image_of(guest)) == {here.address}
    # a guest that is busy stays on its way
    moving = threading.Thread(target=guest.migrate, args=(here, there, "--bandwidth", "4"))
    moving.start()
    wait_for(here, there)
    here.virsh("migrate-setspeed", guest.uuid, "1000")
    here.virsh("suspend", guest.uuid)
    moving.join()
    wait_for(there)


def test_an_image_in_a_namespace_has_its_own_watchers(
        lab: labs.Lab, store: ImageStore, request: pytest.FixtureRequest) -> None:
    lab.rbd("namespace", "create", "vms/tenant")
    request.addfinalizer(lambda: lab.rbd("namespace", "remove", "vms/tenant"))
    lab.rbd("create", "--size", "1", "vms/tenant/one")
    request.addfinalizer(lambda: lab.rbd("rm", "--no-progress", "vms/tenant/one"))
    assert store.watchers(RbdImage("vms", "tenant/one")) == frozenset()
    with pytest.raises(errors.CephUnavailable):
        store.watchers(RbdImage("vms", "one"))


def test_what_is_not_there_is_no_answer(lab: labs.Lab, store: ImageStore) -> None:
    for image in (RbdImage("vms", "missing"), RbdImage("missing", "one")):
        with pytest.raises(errors.CephUnavailable, match="not found"):
            store.watchers(image)
    guest = lab.define_guest(lab.host("node1"), start=False)
    assert store.watchers(image_of(guest)) == frozenset()  # the client still works


def test_a_silent_cluster_is_unavailable_in_time_and_answers_again(
        lab: labs.Lab, store: ImageStore, tmp_path: pathlib.Path) -> None:
    guest = lab.define_guest(lab.host("node1"), start=False)
    limit = 2.0  # without patience: an OSD that was paused for long may never serve again
    impatient, cold = make_store(lab, tmp_path, limit), make_store(lab, tmp_path, limit)
    _wait_for_answer(impatient, guest)
    lab.ceph.pause()
    try:
        for one in (impatient, cold, impatient):
            began = time.monotonic()
            with pytest.raises(errors.CephUnavailable):
                one.watchers(image_of(guest))
            assert time.monotonic() - began < limit + processes.patience(1)
    finally:
        lab.ceph.resume()
    for one in (impatient, cold):
        _wait_for_answer(one, guest)


def _wait_for_answer(store: ImageStore, guest: labs.Guest) -> None:
    def answers() -> bool:
        try:
            return store.watchers(image_of(guest)) == frozenset()
        except errors.CephUnavailable:
            return False

    processes.wait_until(answers, 20, "an answer of Ceph's")


def test_a_wrong_key_is_told_with_its_remedy(lab: labs.Lab, tmp_path: pathlib.Path) -> None:
    keyring = tmp_path / "keyring"
    keyring.write_text("[client.nova]\nkey = AQDnmo9lAAAAABAAdDmZ3lPzyd8o2ZO0V4gTWQ==\n")
    path = tmp_path / "ceph.conf"
    path.write_text(f"{lab.ceph.client_conf()}\n[client.nova]\nkeyring = {keyring}\n")
    store = ImageStore(CephSettings(str(path), "nova", ""), LIMIT)
    with pytest.raises(errors.CephUnavailable) as caught:
        store.own_addresses()
    assert "keyring of client.nova" in caught.value.sentence
