# SPDX-License-Identifier: Apache-2.0
"""Ceph as preflight sees it: each row broken on the real cluster and seen to fail."""

import base64
import collections.abc
import contextlib
import json

import pytest

from devstack import lab as labs
from devstack.lab import ceph as lab_ceph
from devstack.lab import processes
from tests.functional.fleet import Fleet
from tests.functional.preflights import Asked, Row, ask, changed, says

KEYRING = "/etc/ceph/ceph.client.nova.keyring"
CONF = "/etc/ceph/ceph.conf"
CAPS = ("mon", "profile rbd", "osd", "profile rbd pool=vms, profile rbd pool=volumes")
#: Opens an image for writing, as a QEMU would, and stays.
WATCH = """
import rados, rbd, sys, time
with rados.Rados(conffile="/etc/ceph/ceph.conf", name="client.nova") as cluster:
    with cluster.open_ioctx("vms") as ioctx, rbd.Image(ioctx, sys.argv[1]) as image:
        print("watching", flush=True)
        time.sleep(300)
"""


@contextlib.contextmanager
def caps(fleet: Fleet, *granted: str) -> collections.abc.Iterator[None]:
    """Other capabilities of client.nova; a client learns of them as it connects."""
    def grant(*to: str) -> None:
        fleet.lab.ceph.host.run(["ceph", "auth", "caps", "client.nova", *to])
    grant(*granted)
    try:
        yield
    finally:
        grant(*CAPS)


@contextlib.contextmanager
def secret(fleet: Fleet, host: labs.Host, value: str) -> collections.abc.Iterator[None]:
    uuid = fleet.lab.secret_uuid
    host.virsh("secret-set-value", uuid, "--base64", value)
    try:
        yield
    finally:
        host.virsh("secret-set-value", uuid, "--base64", fleet.lab.ceph.keys.nova)


def rows_of(asked: Asked, prefix: str) -> list[Row]:
    return [row for name, rows in asked.rows.items() if name.startswith(prefix) for row in rows]


def test_a_sound_pair_has_every_row_of_ceph_in_order(started: Fleet) -> None:
    guest = started.lab.define_guest(started.one)
    asked = ask(started.one, "node2", "--instance", guest.uuid)
    assert [row for row in rows_of(asked, "ceph.") if row["State"] != "ok"] == []
    assert {"ceph.conf", "ceph.monitors", "ceph.user", "ceph.secret", "ceph.pool", "ceph.caps",
            "ceph.blocklist", "ceph.images", "ceph.watchers", "ceph.locks", "ceph.images-type",
            "ceph.fsid", "ceph.pool-name", "ceph.pool-id", "ceph.user-name", "ceph.secret-uuid",
            "ceph.secret-key"} <= set(asked.rows)


def test_a_ceph_conf_without_monitors_is_told(started: Fleet) -> None:
    with changed(started.two, CONF, "[global]\n"):
        asked = ask(started.one, "node2")
    says(asked.one("ceph.conf", "node2"), "warning", "names no monitor", "mon_host")
    assert asked.one("ceph.monitors", "node2")["State"] == "unknown"
    assert asked.one("ceph.conf", "node1")["State"] == "ok"


def test_a_ceph_conf_that_is_missing_fails(started: Fleet) -> None:
    path = started.two.root / CONF.lstrip("/")
    with changed(started.two, CONF, ""):
        path.unlink()
        asked = ask(started.one, "node2")
    says(asked.one("ceph.conf", "node2"), "failed", "No such file", "ceph.conf")


def test_monitors_are_told_one_by_one(started: Fleet) -> None:
    conf = started.lab.ceph.client_conf().replace(
        "mon host = ", f"mon host = {started.one.address}:6789,")
    with changed(started.two, CONF, conf):
        lost, found = ask(started.one, "node2").rows["ceph.monitors"][1:]
    says(lost, "warning", f"{started.one.address}: port 6789: ", "Start that monitor")
    assert found["State"] == "ok"


def test_a_cluster_without_any_monitor_fails(started: Fleet) -> None:
    conf = started.lab.ceph.client_conf().replace(
        started.lab.ceph.monitor_address, started.one.address)
    with changed(started.two, CONF, conf):
        asked = ask(started.one, "node2")
    says(asked.one("ceph.monitors", "node2"), "failed", "refused", "Start that monitor")


def test_a_wrong_keyring_fails_although_the_worker_is_still_connected(started: Fleet) -> None:
    with changed(started.two, KEYRING, f"[client.nova]\n\tkey = {lab_ceph.new_key()}\n"):
        asked = ask(started.one, "node2")
    says(asked.one("ceph.user", "node2"), "failed", "client.nova", "ceph auth get client.nova")
    assert asked.one("ceph.user", "node1")["State"] == "ok"


def test_a_secret_with_another_key_fails_and_the_key_stays_where_it_is(started: Fleet) -> None:
    wrong = lab_ceph.new_key()
    with secret(started, started.two, wrong):
        asked = ask(started.one, "node2")
    says(asked.one("ceph.secret", "node2"), "failed", "libvirt's secret", "secret-set-value")
    says(asked.one("ceph.secret-key"), "failed", "differs on node2", "ceph auth get-key")
    told = json.dumps(asked.rows) + "".join(w.log_text for w in started.workers.values())
    for key in (wrong, started.lab.ceph.keys.nova):
        assert key not in told and base64.b64decode(key).hex() not in told


def test_a_secret_that_holds_no_key_is_not_tried(started: Fleet) -> None:
    with secret(started, started.two, base64.b64encode(b"not a key of Ceph's").decode()):
        row = ask(started.one, "node2").one("ceph.secret", "node2")
    says(row, "failed", "no key of Ceph's", "ceph auth get-key client.nova")


def test_a_secret_that_is_missing_fails(started: Fleet) -> None:
    host, uuid = started.two, started.lab.secret_uuid
    xml = host.virsh("secret-dumpxml", uuid)
    host.virsh("secret-undefine", uuid)
    try:
        asked = ask(started.one, "node2")
    finally:
        host.virsh("secret-define", "/dev/stdin", input=xml)
        host.virsh("secret-set-value", uuid, "--base64", started.lab.ceph.keys.nova)
    says(asked.one("ceph.secret", "node2"), "failed", "is not defined", "virsh secret-define")
    says(asked.one("ceph.secret-key"), "unknown", "node2 did not tell", "")


def test_options_that_differ_fail(fleet: Fleet) -> None:
    fleet.lab.write_config(fleet.one)
    fleet.lab.write_config(fleet.two, libvirt={
        "images_rbd_pool": "volumes", "rbd_secret_uuid": "11111111-1111-4111-8111-111111111111"})
    for host in (fleet.one, fleet.two):
        fleet.restart(host)
    asked = ask(fleet.one, "node2")
    says(asked.one("ceph.pool-name"), "failed", "vms here, volumes on node2", "images_rbd_pool")
    says(asked.one("ceph.pool-id"), "failed", "the number of the pool differs", "images_rbd_pool")
    says(asked.one("ceph.secret-uuid"), "failed", "rbd_secret_uuid differs", "rbd_secret_uuid")


def test_a_pool_that_does_not_exist_fails(fleet: Fleet) -> None:
    fleet.start(libvirt={"images_rbd_pool": "nowhere"})
    asked = ask(fleet.one, "node2")
    says(asked.one("ceph.pool", "node2"), "failed", "no pool nowhere", "images_rbd_pool")
    assert asked.one("ceph.pool-id")["State"] == "unknown"


@pytest.mark.parametrize(("osd", "state", "found"), [
    ("profile rbd pool=volumes", "failed", "read in pool vms"),
    ("profile rbd-read-only pool=vms", "warning", "write in pool vms"),
])
def test_lacking_capabilities_are_named(fleet: Fleet, osd: str, state: str, found: str) -> None:
    with caps(fleet, "mon", "profile rbd", "osd", osd):
        fleet.start()
        row = ask(fleet.one, "node2").one("ceph.caps", "node2")
    says(row, state, found, "profile rbd pool=vms")


def test_a_blocklisted_host_fails(started: Fleet) -> None:
    ceph, address = started.lab.ceph.host, started.two.address
    ceph.run(["ceph", "osd", "blocklist", "add", address])
    try:
        asked = ask(started.one, "node2")
    finally:
        ceph.run(["ceph", "osd", "blocklist", "rm", address])
    says(asked.one("ceph.blocklist", "node2"), "failed", address, "ceph osd blocklist rm")
    assert asked.one("ceph.blocklist", "node1")["State"] == "ok"


def test_a_client_left_at_the_destination_is_told(started: Fleet) -> None:
    guest = started.lab.define_guest(started.one)
    name = guest.image.partition("/")[2]
    stray = started.two.popen(["/usr/bin/python3", "-c", WATCH, name])
    try:
        processes.wait_until(lambda: started.two.address in guest.watchers(), 20.0, "the watcher")
        asked = ask(started.one, "node2", "--instance", guest.uuid)
    finally:
        stray.kill()
        stray.wait()
    says(asked.one("ceph.watchers", "node2"), "warning", "where the guest is not", "end it")
    says(asked.one("ceph.watchers", "node1"), "warning", "from elsewhere", "rbd-mirror")


def test_a_dead_clients_lock_is_told(started: Fleet) -> None:
    guest = started.lab.define_guest(started.one, start=False)
    started.lab.rbd("lock", "add", guest.image, "left-behind")
    (lock,) = json.loads(started.lab.rbd("lock", "ls", "--format", "json", guest.image))
    try:
        row = ask(started.one, "node2", "--instance", guest.uuid).one("ceph.locks", "node1")
    finally:
        started.lab.rbd("lock", "rm", guest.image, lock["id"], lock["locker"])
    says(row, "warning", "does not watch it any more", "rbd lock rm")


def test_an_image_that_the_destination_cannot_open_fails(started: Fleet) -> None:
    guest = started.lab.define_guest(started.one, start=False)
    started.lab.rbd("rename", guest.image, f"{guest.image}-gone")
    try:
        row = ask(started.one, "node2", "--instance", guest.uuid).one("ceph.images", "node2")
    finally:
        started.lab.rbd("rename", f"{guest.image}-gone", guest.image)
    says(row, "failed", guest.image, "Check /etc/ceph/ceph.conf")
