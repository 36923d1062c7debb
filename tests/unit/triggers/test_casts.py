# SPDX-License-Identifier: Apache-2.0
import copy
import typing as ty

import pytest

from rbd_worker.triggers import casts
from tests.fixtures import wire
from tests.unit.triggers.messages import ABORTED, INSTANCE, icehouse


def parse(message: wire.Message, host: str = "nv1") -> casts.Heard | None:
    return casts.parse(wire.enveloped(message), host=host)


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
        unique_id="22ee6d59dacf4c95940be4de076b9cc5", asked=1795488837.624188,
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


@pytest.mark.parametrize("sent", [
    None, "", "yesterday", "2026-13-24T02:53:57", "2026-11-24T02:53:57+05:00", 1795488837,
    "2026-11-24T02:53:57.6241881", {}])
def test_a_time_in_another_form_than_novas_is_none(sent):
    message = wire.message("success/check_destination")
    heard = parse({**message, "_context_timestamp": sent}, "nv2")
    assert isinstance(heard, casts.CheckDestination)
    assert heard.asked is None


def test_a_forced_completion_needs_no_migration_id():
    message = wire.derived("live_migration_force_complete", {})
    heard = parse(message)
    assert isinstance(heard, casts.ForceCompleteCast)
    assert (heard.instance, heard.migration_id) == (INSTANCE, None)


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


@pytest.mark.parametrize("migrate_data", [None, {}, {"is_shared_block_storage": True},
                                          {"nova_object.name": "LibvirtLiveMigrateData",
                                           "nova_object.data": {}}])
def test_the_instance_may_be_a_plain_dict_and_the_migration_absent(migrate_data):
    heard = parse(icehouse(migrate_data=migrate_data), host="old1")
    assert isinstance(heard, casts.LiveMigrationCast)
    assert (heard.instance, heard.source_hint, heard.destination) == (INSTANCE, "old1", "old2")
    assert (heard.migration_id, heard.image_type) == (None, None)


@pytest.mark.parametrize("name", ["2001:db8::2", "10.98.0.2", "CMP-2.Rack1.example.org", "cmp_2"])
def test_a_host_has_whatever_name_novas_option_takes(name):
    heard = parse(icehouse(dest=name, instance={"uuid": INSTANCE, "host": name[:-1] + "3"}))
    assert isinstance(heard, casts.LiveMigrationCast)
    assert (heard.destination, heard.source_hint) == (name, name[:-1] + "3")


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
