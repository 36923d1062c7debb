# SPDX-License-Identifier: Apache-2.0
"""What two hosts' Ceph has to agree in, keys that stay where they are, and addresses."""

import base64
import struct

import msgspec
import pytest

from rbd_worker.host import rbd
from rbd_worker.preflight import ceph_checks, ceph_traits, comparisons
from rpcapi.preflight import Row, Traits

KEY = struct.pack("<HIIH", 1, 1_700_000_000, 0, 16) + bytes(range(16))
SALT = "0f" * 16
ONE = Traits(host="node1", images_type="rbd", fsid="f1", pool="vms", pool_id=3, ceph_user="nova",
             secret_uuid="s1", key_digest=ceph_traits.digest(KEY, SALT),
             instances_path="/var/lib/nova/instances", sees_nonce=False)
TWO = msgspec.structs.replace(ONE, host="node2")


def row(name: str, **theirs: object) -> Row:
    (found,) = [r for r in comparisons.compare(ONE, msgspec.structs.replace(TWO, **theirs))
                if r.name == name]
    return found


@pytest.mark.parametrize(("name", "field", "other", "empty"), [
    ("ceph.images-type", "images_type", "qcow2", ""),
    ("ceph.fsid", "fsid", "f2", ""),
    ("ceph.pool-name", "pool", "images", ""),
    ("ceph.pool-id", "pool_id", 4, -1),
    ("ceph.user-name", "ceph_user", "cinder", ""),
    ("ceph.secret-uuid", "secret_uuid", "s2", ""),
    ("ceph.secret-key", "key_digest", "another", ""),
    ("files.same-path", "instances_path", "/srv", ""),
])
def test_equal_is_ok_another_fails_and_silence_is_not_known(name: str, field: str, other: object,
                                                            empty: object) -> None:
    assert row(name).state == "ok"
    differing = row(name, **{field: other})
    assert differing.state == "failed" and differing.remedy
    assert row(name, **{field: empty}).state == "unknown"


@pytest.mark.parametrize(("sees", "state", "found"), [
    (True, "ok", "shared with node2"), (False, "ok", "not shared"), (None, "unknown", "cannot")])
def test_a_path_that_was_not_compared_is_not_told_as_separate(sees: bool | None, state: str,
                                                              found: str) -> None:
    told = row("files.shared", sees_nonce=sees)
    assert told.state == state and found in told.found


def test_no_digest_is_shown() -> None:
    assert ONE.key_digest not in row("ceph.secret-key", key_digest="another").found


def test_a_digest_depends_on_the_salt_and_holds_no_key() -> None:
    digest = ceph_traits.digest(KEY, SALT)
    assert digest != ceph_traits.digest(KEY, "1f" * 16)
    assert digest == ceph_traits.digest(bytes(KEY), SALT)
    assert KEY.hex() not in digest


@pytest.mark.parametrize("value", [
    b"", b"short", KEY[:-1], KEY + b"\n", base64.b64encode(KEY), b"x" * 28])
def test_what_is_no_key_is_never_given_to_librados(value: bytes) -> None:
    assert ceph_checks._as_key(value) == ""


def test_a_key_is_given_as_ceph_writes_it() -> None:
    assert ceph_checks._as_key(KEY) == base64.b64encode(KEY).decode()


@pytest.mark.parametrize("written", [
    "192.0.2.1:0/77", "v1:192.0.2.1:0/77", "v2:192.0.2.1:0/77", "any:192.0.2.1:0/77",
    "[v2:192.0.2.1:0/77]"])
def test_a_client_is_the_same_whatever_messenger_it_uses(written: str) -> None:
    assert rbd.clients_in([written]) == {"192.0.2.1:0/77"}


def test_clients_with_ipv6_are_told_apart_by_their_nonce() -> None:
    assert rbd.clients_in(["v2:[2001:db8::1]:0/1,v1:[2001:db8::1]:0/2"]) == {
        "[2001:db8::1]:0/1", "[2001:db8::1]:0/2"}


def test_an_address_that_is_none_is_not_taken_for_nobody() -> None:
    with pytest.raises(ValueError, match="not the address"):
        rbd.clients_in(["somewhere"])
