# SPDX-License-Identifier: Apache-2.0
"""Casts that nobody should send: each is refused by its kind, without a word of its content."""

import json

import hypothesis
import pytest
from hypothesis import strategies as st

from rbd_worker import errors
from rbd_worker.triggers import casts
from tests.fixtures import wire
from tests.unit.triggers.messages import ABORTED, INSTANCE, icehouse


def parse(message: wire.Message, host: str = "nv1") -> casts.Heard | None:
    return casts.parse(wire.enveloped(message), host=host)


def refused(message: wire.Message, host: str = "nv1") -> casts.BadCast:
    with pytest.raises(casts.BadCast) as caught:
        parse(message, host)
    return caught.value


@pytest.mark.parametrize("uuid", [
    None, "", 5, [], {}, True, INSTANCE.upper(), "{" + INSTANCE + "}", INSTANCE.replace("-", ""),
    f"../{INSTANCE}", f"{INSTANCE}/..", f"/var/lib/nova/instances/{INSTANCE}", f"{INSTANCE}\n",
    f" {INSTANCE}", f"{INSTANCE}\0", "..", "a" * 100_000, INSTANCE.replace("a", "а")])
def test_an_instance_without_a_canonical_uuid_is_refused(uuid):
    message = icehouse(instance={"uuid": uuid})
    assert isinstance(refused(message), casts.BadCastInstance)


@pytest.mark.parametrize("instance", [None, "x", [], 3, {"nova_object.data": []},
                                      {"nova_object.data": {"uuid": {}}}])
def test_an_instance_of_another_shape_is_refused(instance):
    assert isinstance(refused(icehouse(instance=instance)), casts.BadCastInstance)


@pytest.mark.parametrize("destination", [
    None, "", "nv2/../nv3", "nv2;reboot", "nv 2", "nv2\n", "-nv2", ".", "..", "n" * 300, 7, {},
    "nv2#compute", "*", "#", "nv2@nv3", "nv2:16509", "qemu+tcp://nv2/system", "nv2?x=1", "nvÿ"])
def test_a_destination_that_is_no_host_name_is_refused(destination):
    assert isinstance(refused(icehouse(dest=destination)), casts.BadCastDestination)


def test_a_destination_that_is_this_host_is_refused():
    assert isinstance(refused(icehouse(dest="old1"), host="old1"), casts.DestinationIsHere)


def test_a_migration_of_another_instance_is_refused():
    message = wire.message("success/live_migration")
    message["args"]["migration"]["nova_object.data"]["instance_uuid"] = ABORTED
    assert isinstance(refused(message), casts.BadCastMigration)


@pytest.mark.parametrize("number", [None, "6", 0, -1, True, 2 ** 63, 6.0])
def test_an_abort_without_a_usable_migration_id_is_refused(number):
    message = wire.message("abort/abort")
    message["args"]["migration_id"] = number
    assert isinstance(refused(message), casts.BadCastMigration)


@pytest.mark.parametrize("uuid", ["..", "a/b", INSTANCE.upper(), "x" * 200, 5, [INSTANCE]])
def test_a_strange_migration_uuid_never_becomes_the_key(uuid):
    heard = parse(icehouse(migration={"id": 9, "uuid": uuid}), host="old1")
    assert isinstance(heard, casts.LiveMigrationCast)
    assert heard.migration_key == f"id-9-{INSTANCE}"


@pytest.mark.parametrize("source", ["../x", "", 5, None, "a b", "n" * 300])
def test_a_strange_source_is_only_a_missing_hint(source):
    heard = parse(icehouse(instance={"uuid": INSTANCE, "host": source}), host="old1")
    assert isinstance(heard, casts.LiveMigrationCast)
    assert heard.source_hint is None


@pytest.mark.parametrize("args", [None, [], "x", 3])
def test_arguments_that_are_no_object_are_refused(args):
    assert isinstance(refused(icehouse() | {"args": args}), casts.BadCast)


@pytest.mark.parametrize("message", [
    {}, {"method": None}, {"method": ["live_migration"]},
    {"oslo.version": "2.0", "oslo.message": wire.enveloped({"method": "live_migration"}).decode()},
], ids=["none", "null", "a list", "an envelope in an envelope"])
def test_a_message_without_a_method_is_refused(message):
    with pytest.raises(casts.BadEnvelope, match="names no method"):
        parse(message)


def test_a_message_of_50_mib_is_refused_by_its_length_alone():
    body = wire.enveloped(icehouse(padding="x" * (50 << 20)))
    with pytest.raises(casts.MessageTooLarge) as caught:
        casts.parse(body, host="old1")
    assert caught.value.data["size"] == len(body)


def test_a_refusal_names_the_message_so_that_it_can_be_found():
    assert refused(icehouse(dest="*")).data["unique_id"] == "0f3e0c5ddcb74e0f9c3f6a0c8d8c1a11"


def everything_said(e: BaseException | None) -> str:
    """Text, data and all exceptions that hang on to ``e``."""
    said = ""
    while e is not None:
        said += f"{e!r} {e} {vars(e)} {e.args}"
        e = e.__context__ or e.__cause__
    return said


@pytest.mark.parametrize("name", wire.NAMES)
def test_what_leaves_a_captured_message_holds_none_of_its_secrets(name):
    body = wire.body(name)
    assert wire.SECRET.encode() in body
    assert wire.SECRET not in repr(casts.parse(body, host="elsewhere"))


@pytest.mark.parametrize("change", [
    lambda a: a["instance"].update({"nova_object.data": {"uuid": wire.SECRET}}),
    lambda a: a.update(dest=wire.SECRET + "/"),
    lambda a: a["migration"]["nova_object.data"].update(instance_uuid=wire.SECRET),
    lambda a: a.update(instance=wire.SECRET),
])
def test_a_refused_value_is_never_quoted(change):
    message = wire.message("success/live_migration")
    change(message["args"])
    assert wire.SECRET not in everything_said(refused(message))


@pytest.mark.parametrize("cut", [1, 2, 10, 500, 3000])
def test_a_torn_message_is_refused_without_a_word_of_it(cut):
    with pytest.raises(errors.BadInput) as caught:
        casts.parse(wire.body("success/live_migration")[:-cut], host="nv1")
    assert wire.SECRET not in everything_said(caught.value)
    assert INSTANCE not in everything_said(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from([INSTANCE, wire.SECRET, "nv2", "live-migration", "../x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["uuid", "host", "id", "instance_uuid", "migration_type",
                         "source_compute", "nova_object.data", "versioned_object.data"])
        | st.text(max_size=5), inner, max_size=4), max_leaves=12)
METHODS = st.sampled_from([
    "live_migration", "live_migration_abort", "live_migration_force_complete",
    "check_can_live_migrate_destination", "rollback_live_migration_at_destination",
    "post_live_migration_at_destination"])
ARGS = st.dictionaries(st.sampled_from(["instance", "dest", "migration", "migration_id",
                                        "migrate_data", "block_migration"]), JSON)


def check_that_only_bad_input_is_raised(body: bytes) -> None:
    try:
        heard = casts.parse(body, host="nv1")
    except errors.BadInput as e:
        assert wire.SECRET not in everything_said(e)
    else:
        assert heard is None or wire.SECRET not in f"{heard.instance}{heard.unique_id}"


@hypothesis.given(METHODS, ARGS | JSON, JSON.filter(lambda value: value != wire.SECRET))
def test_no_argument_raises_anything_but_bad_input(method, args, unique_id):
    check_that_only_bad_input_is_raised(wire.enveloped(
        {"method": method, "args": args, "_unique_id": unique_id,
         "_context_auth_token": wire.SECRET}))


@hypothesis.given(JSON)
def test_no_json_raises_anything_but_bad_input(value):
    check_that_only_bad_input_is_raised(json.dumps(value).encode())


@hypothesis.given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_bad_input(body):
    check_that_only_bad_input_is_raised(body)


@hypothesis.given(st.data())
def test_no_damage_to_a_real_message_raises_anything_but_bad_input(data):
    body = bytearray(wire.body("success/live_migration"))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(body) - 1))
        body[position:position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    check_that_only_bad_input_is_raised(bytes(body))


@pytest.mark.parametrize("depth", [100, 900, 950, 970, 980, 985, 990, 100_000])
def test_a_value_of_any_depth_is_refused_as_bad_input(depth):
    body = json.dumps(wire.message("success/live_migration")).replace(
        f'"{INSTANCE}"', "[" * depth + "]" * depth)
    with pytest.raises(errors.BadInput):
        casts.parse(wire.enveloped(body), host="nv1")
