# SPDX-License-Identifier: Apache-2.0
import copy
import json
import typing as ty

import hypothesis
import pytest
from hypothesis import strategies as st

from rbd_worker import errors
from rbd_worker.triggers import casts
from tests.fixtures import wire

INSTANCE = "a05482ec-d71a-48c7-bf99-94d829b20aef"
ABORTED = "5fc717eb-8add-4f06-a2a0-5126081deb02"


def parse(message: wire.Message, host: str = "nv1") -> casts.Heard | None:
    return casts.parse(wire.enveloped(message), host=host)


def refused(message: wire.Message, host: str = "nv1") -> casts.BadCast:
    with pytest.raises(casts.BadCast) as caught:
        parse(message, host)
    return caught.value


# -- what Nova 34 sends ---------------------------------------------------------


def test_a_captured_live_migration_is_read_field_by_field():
    heard = casts.parse(wire.body("success/live_migration"), host="nv1")
    assert heard == casts.LiveMigrationCast(
        instance=INSTANCE, destination="nv2", source_hint="nv1",
        migration_key="dad3cb9c-d37d-4e97-8267-cb4231051f73", migration_id=5,
        block_migration=None, image_type="rbd",
        unique_id="9c58db61b8a44dd2b773814d7009df44",
        request_id="req-d33930f8-44da-4d6a-a227-f47ca2792a37")


@pytest.mark.parametrize(("name", "host", "expected"), [
    ("success/check_destination", "nv2", casts.CheckDestination(
        instance=INSTANCE, source_hint="nv1", migration_id=5,
        migration_key="dad3cb9c-d37d-4e97-8267-cb4231051f73",
        unique_id="22ee6d59dacf4c95940be4de076b9cc5",
        request_id="req-d33930f8-44da-4d6a-a227-f47ca2792a37")),
    ("success/post_at_destination", "nv2", casts.PostAtDestination(
        instance=INSTANCE, source_hint="nv1", unique_id="464adba9b9034ab0bca3e25c34da99f9",
        request_id="req-d33930f8-44da-4d6a-a227-f47ca2792a37")),
    ("abort/abort", "nv1", casts.AbortCast(
        instance=ABORTED, migration_id=6, unique_id="04e482c3b955460d8aab3a7fe0db1f06",
        request_id="req-426e0c84-3944-46ea-b075-93e9f0ff7812")),
    ("abort/rollback_at_destination", "nv2", casts.RollbackAtDestination(
        instance=ABORTED, source_hint="nv1", unique_id="da4fb444bde147af91bccca1c2f81392",
        request_id="req-bf35c034-15c3-4be4-9b67-05df1dc6f508")),
    ("failure/rollback_at_destination", "nv1", casts.RollbackAtDestination(
        instance=INSTANCE, source_hint="nv2", unique_id="f8ffdad5161345c0a96296c92d1aeb43",
        request_id="req-aa113115-2383-42c2-98cf-4f96dd19eebf")),
])
def test_each_captured_message_becomes_its_own_type(name, host, expected):
    assert casts.parse(wire.body(name), host=host) == expected


@pytest.mark.parametrize("name", ["success/check_source", "success/pre_live_migration"])
def test_novas_messages_to_itself_are_not_ours(name):
    assert casts.parse(wire.body(name), host="nv2") is None


def test_a_forced_completion_needs_no_migration_id():
    message = wire.derived("live_migration_force_complete", {})
    heard = parse(message)
    assert isinstance(heard, casts.ForceCompleteCast)
    assert (heard.instance, heard.migration_id) == (INSTANCE, None)


# -- what is not a live migration -------------------------------------------------


@pytest.mark.parametrize("method", ["build_and_run_instance", "terminate_instance",
                                    "live_migration_", "LIVE_MIGRATION", "", "get_console_output"])
def test_other_methods_are_not_ours(method):
    assert parse(wire.derived(method, {"dest": "nv2"})) is None


@pytest.mark.parametrize("kind", ["resize", "migration"])
def test_a_resize_or_cold_migration_is_not_ours(kind):
    migration = copy.deepcopy(wire.message("success/live_migration")["args"]["migration"])
    migration["nova_object.data"]["migration_type"] = kind
    prep_resize = wire.derived("prep_resize", {
        "image": {}, "flavor": {}, "request_spec": {}, "filter_properties": {}, "node": "nv2",
        "clean_shutdown": True, "host_list": [], "migration": migration})
    assert parse(prep_resize, host="nv2") is None


@pytest.mark.parametrize("kind", ["resize", "migration", "evacuation", "anything-new", 7, []])
def test_our_method_with_another_kind_of_migration_is_not_ours(kind):
    message = wire.message("success/live_migration")
    message["args"]["migration"]["nova_object.data"]["migration_type"] = kind
    assert parse(message) is None


def test_a_method_in_a_namespace_is_not_novas_compute_api():
    assert parse(wire.message("success/live_migration") | {"namespace": "baseapi"}) is None


# -- older forms ------------------------------------------------------------------


def icehouse(**args: ty.Any) -> wire.Message:
    """``live_migration`` before objects: plain dicts, no migration record."""
    return {"method": "live_migration", "version": "3.0",
            "_unique_id": "0f3e0c5ddcb74e0f9c3f6a0c8d8c1a11",
            "args": {"instance": {"uuid": INSTANCE, "host": "old1", "id": 3, "name": "i-3"},
                     "dest": "old2", "block_migration": False, "migrate_data": {}} | args}


@pytest.mark.parametrize("migrate_data", [None, {}, {"is_shared_block_storage": True},
                                          {"nova_object.name": "LibvirtLiveMigrateData",
                                           "nova_object.data": {}}])
def test_the_instance_may_be_a_plain_dict_and_the_migration_absent(migrate_data):
    heard = parse(icehouse(migrate_data=migrate_data), host="old1")
    assert isinstance(heard, casts.LiveMigrationCast)
    assert (heard.instance, heard.source_hint, heard.destination) == (INSTANCE, "old1", "old2")
    assert (heard.migration_id, heard.image_type) == (None, None)


def test_without_a_migration_the_key_is_that_of_the_message_and_stays_the_same():
    first, again = parse(icehouse(), host="old1"), parse(icehouse(), host="old1")
    assert isinstance(first, casts.LiveMigrationCast)
    assert first.migration_key == "msg-0f3e0c5ddcb74e0f9c3f6a0c8d8c1a11"
    assert first == again


def test_a_migration_without_uuid_gives_a_key_of_its_id_and_the_instance():
    heard = parse(icehouse(migration={"id": 41, "migration_type": None}), host="old1")
    assert isinstance(heard, casts.LiveMigrationCast)
    assert heard.migration_key == f"id-41-{INSTANCE}"


@pytest.mark.parametrize(("sent", "read"), [(None, None), (True, True), (False, False),
                                            ("yes", None), (1, None)])
def test_block_migration_may_be_anything_and_only_a_boolean_counts(sent, read):
    heard = parse(icehouse(block_migration=sent), host="old1")
    assert isinstance(heard, casts.LiveMigrationCast)
    assert heard.block_migration is read


def test_juno_objects_carry_the_other_prefix():
    instance = {"versioned_object.name": "Instance",
                "versioned_object.data": {"uuid": INSTANCE, "host": "old1"}}
    heard = parse(icehouse(instance=instance), host="old1")
    assert heard is not None
    assert heard.instance == INSTANCE


def test_a_message_without_an_id_gets_the_same_one_whenever_it_comes():
    message = icehouse()
    del message["_unique_id"]
    first, again = parse(message, host="old1"), parse(message, host="old1")
    assert first is not None
    assert first == again
    assert first.unique_id.startswith("digest-")
    assert first.unique_id != ty.cast(casts.Heard, parse(
        message | {"version": "3.1"}, host="old1")).unique_id


# -- bad input ----------------------------------------------------------------------


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


def test_a_message_of_50_mib_is_refused_by_its_length_alone():
    body = wire.enveloped(icehouse(padding="x" * (50 << 20)))
    with pytest.raises(casts.MessageTooLarge) as caught:
        casts.parse(body, host="old1")
    assert caught.value.data["size"] == len(body)


def test_a_refusal_names_the_message_so_that_it_can_be_found():
    assert refused(icehouse(dest="*")).data["unique_id"] == "0f3e0c5ddcb74e0f9c3f6a0c8d8c1a11"


# -- secrets --------------------------------------------------------------------------


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


# -- anything at all --------------------------------------------------------------------

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
