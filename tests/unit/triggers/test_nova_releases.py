# SPDX-License-Identifier: Apache-2.0
"""The messages of a live migration in each version of Nova's compute RPC API.

Arguments and objects are those that the release of the version sends; only what the worker
reads has its true value, and what a release leaves out is left out.
"""

import typing as ty

import pytest

from rbd_worker.triggers import casts
from tests.fixtures import wire
from tests.unit.triggers.messages import INSTANCE

Fields = dict[str, ty.Any]
UUID = "dad3cb9c-d37d-4e97-8267-cb4231051f73"


def versioned(name: str, version: str, **data: ty.Any) -> Fields:
    """As nova.objects writes one; what was changed since it was loaded is named beside."""
    return {"nova_object.name": name, "nova_object.namespace": "nova",
            "nova_object.version": version, "nova_object.data": data,
            "nova_object.changes": sorted(data)}


def instance(version: str) -> Fields:
    return versioned("Instance", version, uuid=INSTANCE, host="nv1", node="nv1.example.org", id=2,
                     task_state="migrating", fault=None, metadata={}, pci_devices=versioned(
                         "PciDeviceList", "1.3", objects=[]))


def migration(version: str, **more: ty.Any) -> Fields:
    return versioned("Migration", version, id=5, instance_uuid=INSTANCE, source_compute="nv1",
                     dest_compute="nv2", status="accepted", migration_type="live-migration",
                     memory_total=None, **more)


PLAIN = {"uuid": INSTANCE, "host": "nv1", "id": 2, "name": "instance-00000002",
         "system_metadata": [], "metadata": []}
SENT_DATA = {"is_shared_block_storage": True, "is_volume_backed": False, "image_type": "rbd",
             "pre_live_migration_result": {"graphics_listen_addrs": {"vnc": "127.0.0.1"}}}
DATA = versioned("LibvirtLiveMigrateData", "1.0", image_type="rbd", bdms=[])

#: Version; instance, migration and migrate_data as it sends them; the key of the entry.
#: Of Havana, Icehouse, Juno, Kilo, Liberty, Mitaka, Newton, Pike, Queens, Train, Wallaby.
RELEASES = [
    ("2.47", PLAIN, None, {}, "msg-u"),
    ("3.0", PLAIN, None, {"is_volume_backed": False}, "msg-u"),
    ("3.26", instance("1.16"), None, SENT_DATA, "msg-u"),
    ("4.0", instance("1.20"), None, SENT_DATA, "msg-u"),
    ("4.2", instance("2.0"), migration("1.2"), SENT_DATA, f"id-5-{INSTANCE}"),
    ("4.8", instance("2.0"), migration("1.3"), DATA, f"id-5-{INSTANCE}"),
    ("4.8", instance("2.2"), migration("1.4", uuid=None), DATA, f"id-5-{INSTANCE}"),
    ("4.8", instance("2.3"), migration("1.6", uuid=UUID), DATA, UUID),
    ("5.0", instance("2.4"), migration("1.6", uuid=UUID), DATA, UUID),
    ("5.0", instance("2.7"), migration("1.7", uuid=UUID, user_id="u"), None, UUID),
    ("6.0", instance("2.7"), migration("1.7", uuid=UUID, cross_cell_move=False), DATA, UUID),
]


def parse(method: str, version: str, args: Fields, host: str) -> casts.Heard | None:
    return casts.parse(wire.enveloped({
        "method": method, "version": version, "args": args, "_unique_id": "u",
        "_context_timestamp": "2016-11-24T02:53:57.624188", "_context_request_id": None,
        "_context_roles": ["admin"]}), host=host)


@pytest.mark.parametrize(("version", "guest", "record", "data", "key"), RELEASES)
@pytest.mark.parametrize("block", [None, False, "auto"])
def test_each_release_is_understood(version, guest, record, data, key, block):
    args = {"instance": guest, "dest": "nv2", "block_migration": block, "migrate_data": data}
    if record is not None:
        args["migration"] = record
    heard = parse("live_migration", version, args, "nv1")
    assert isinstance(heard, casts.LiveMigrationCast)
    assert (heard.instance, heard.source_hint, heard.destination) == (INSTANCE, "nv1", "nv2")
    assert (heard.migration_key, heard.request_id) == (key, "")


@pytest.mark.parametrize(("version", "guest", "record", "data", "key"), RELEASES)
@pytest.mark.parametrize("is_told", [True, False])
def test_the_check_is_understood_with_the_record_or_without(version, guest, record, data, key,
                                                            is_told):
    """The record came with 5.3, and is left out for an older service."""
    args = {"instance": guest, "block_migration": None, "disk_over_commit": None}
    if is_told:
        args |= {"migration": record, "limits": None}
    heard = parse("check_can_live_migrate_destination", version, args, "nv2")
    assert isinstance(heard, casts.CheckDestination)
    assert (heard.instance, heard.source_hint) == (INSTANCE, "nv1")
    assert heard.migration_key == (key if is_told else "msg-u")
    assert heard.asked == 1479956037.624188


@pytest.mark.parametrize(("method", "version", "more", "host", "kind"), [
    ("live_migration_abort", "4.10", {"migration_id": 5}, "nv1", casts.AbortCast),
    ("live_migration_force_complete", "4.9", {"migration_id": 5}, "nv1", casts.ForceCompleteCast),
    ("live_migration_force_complete", "4.12", {}, "nv1", casts.ForceCompleteCast),
    ("post_live_migration_at_destination", "3.0", {"block_migration": False}, "nv2",
     casts.PostAtDestination),
    ("rollback_live_migration_at_destination", "3.0", {}, "nv2", casts.RollbackAtDestination),
    ("rollback_live_migration_at_destination", "4.8",
     {"destroy_disks": True, "migrate_data": DATA}, "nv2", casts.RollbackAtDestination)])
@pytest.mark.parametrize("guest", [PLAIN, instance("1.16"), instance("2.8")])
def test_what_follows_is_understood(method, version, more, host, kind, guest):
    heard = parse(method, version, {"instance": guest} | more, host)
    assert type(heard) is kind
    assert heard.instance == INSTANCE


def test_a_list_of_instances_is_none():
    many = versioned("InstanceList", "2.3", objects=[instance("2.3")])
    with pytest.raises(casts.BadCastInstance):
        parse("live_migration", "5.0", {"instance": many, "dest": "nv2"}, "nv1")
