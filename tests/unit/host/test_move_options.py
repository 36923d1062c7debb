# SPDX-License-Identifier: Apache-2.0
"""Nova's options as libvirt's flags, URIs and parameters."""

import pytest

from rbd_worker import errors
from rbd_worker.host import move_options
from rbd_worker.host.move_options import MoveOrder
from tests.unit.host import libvirt_settings

#: libvirt's bits (libvirt-domain.h), written out.
LIVE, PEER2PEER, TUNNELLED, PERSIST_DEST, UNDEFINE_SOURCE = 1, 2, 4, 8, 16
CHANGE_PROTECTION, COMPRESSED = 256, 2048
AUTO_CONVERGE, POSTCOPY, TLS = 1 << 13, 1 << 15, 1 << 16
BASE = LIVE | PEER2PEER | PERSIST_DEST | UNDEFINE_SOURCE

GIB = 1 << 30
PLAIN = "<domain><devices/></domain>"
VNC = ("<domain><devices><graphics type='vnc' listen='192.0.2.1'/></devices></domain>")


@pytest.mark.parametrize(("options", "expected"), [
    ({}, BASE),
    ({"live_migration_tunnelled": True}, BASE | TUNNELLED),
    ({"live_migration_with_native_tls": True}, BASE | TLS),
    ({"live_migration_permit_auto_converge": True}, BASE | AUTO_CONVERGE),
    ({"live_migration_permit_post_copy": True}, BASE | POSTCOPY),
    ({"live_migration_permit_post_copy": True, "live_migration_permit_auto_converge": True},
     BASE | POSTCOPY),
    ({"live_migration_flag": "VIR_MIGRATE_LIVE, VIR_MIGRATE_PEER2PEER"}, BASE),
    ({"live_migration_flag": "VIR_MIGRATE_UNDEFINE_SOURCE,VIR_MIGRATE_PEER2PEER,"
                             "VIR_MIGRATE_LIVE,VIR_MIGRATE_TUNNELLED"}, BASE | TUNNELLED),
    ({"live_migration_flag": "VIR_MIGRATE_COMPRESSED\n VIR_MIGRATE_CHANGE_PROTECTION"},
     BASE | COMPRESSED | CHANGE_PROTECTION),
])
def test_flags_are_novas(options: dict, expected: int):
    assert move_options.flags(libvirt_settings.make(**options)) == expected


@pytest.mark.parametrize("name", [
    "VIR_MIGRATE_TUNELLED", "VIR_MIGRATE_PARAM_URI", "VIR_DOMAIN_PAUSED", "LIVE", "__doc__",
    "VIR_MIGRATE_NON_SHARED_INC", "VIR_MIGRATE_NON_SHARED_DISK", "VIR_MIGRATE_OFFLINE",
    "VIR_MIGRATE_PAUSED"])
def test_a_flag_that_is_unknown_or_unfit_ends_the_start(name: str):
    settings = libvirt_settings.make(live_migration_flag=f"VIR_MIGRATE_LIVE, {name}")
    with pytest.raises(errors.BadConfiguration, match="live_migration_flag") as caught:
        move_options.check_options(settings)
    assert name in str(caught.value)
    assert caught.value.data["fix"]


@pytest.mark.parametrize(("options", "option"), [
    ({"live_migration_tunnelled": True, "live_migration_with_native_tls": True}, "tunnelled"),
    ({"live_migration_tunnelled": True, "live_migration_permit_post_copy": True}, "tunnelled"),
    ({"live_migration_flag": "VIR_MIGRATE_TUNNELLED", "live_migration_with_native_tls": True},
     "flag"),
    ({"live_migration_flag": "VIR_MIGRATE_TUNNELLED,VIR_MIGRATE_POSTCOPY"}, "flag"),
])
def test_options_that_contradict_each_other_end_the_start(options: dict, option: str):
    with pytest.raises(errors.BadConfiguration, match=f"live_migration_{option}"):
        move_options.check_options(libvirt_settings.make(**options))


def test_native_tls_with_post_copy_is_no_contradiction():
    move_options.check_options(libvirt_settings.make(
        live_migration_with_native_tls=True, live_migration_permit_post_copy=True))


@pytest.mark.parametrize(("options", "address", "uri"), [
    ({}, None, "qemu+tcp://node2/system"),
    ({"live_migration_scheme": "tls"}, None, "qemu+tls://node2/system"),
    ({"live_migration_uri": "qemu+ssh://nova@%s/system?keyfile=/k"}, None,
     "qemu+ssh://nova@node2/system?keyfile=/k"),
    ({"live_migration_uri": "qemu+tcp://%s/system", "live_migration_scheme": "tls"}, None,
     "qemu+tcp://node2/system"),
    ({}, "192.0.2.2", "qemu+tcp://192.0.2.2/system"),
    ({}, "fd00::2", "qemu+tcp://[fd00::2]/system"),
    ({}, "[fd00::2]", "qemu+tcp://[fd00::2]/system"),
    ({"live_migration_uri": "qemu+tcp://%s/system"}, "migration.node2.example",
     "qemu+tcp://migration.node2.example/system"),
])
def test_the_destinations_libvirtd_is_found(options: dict, address: str | None, uri: str):
    order = MoveOrder("node2", inbound_address=address)
    assert move_options.connection_uri(libvirt_settings.make(**options), order) == uri


@pytest.mark.parametrize("address", ["node2/system?x=", "a b", "%s", "user@host"])
def test_an_address_that_would_change_the_uri_is_refused(address: str):
    with pytest.raises(errors.BadInput):
        move_options.connection_uri(libvirt_settings.make(), MoveOrder("node2", address))


@pytest.mark.parametrize(("options", "order", "expected"), [
    ({}, MoveOrder("node2"), {}),
    ({"live_migration_bandwidth": 7}, MoveOrder("node2"), {"bandwidth": 7}),
    ({}, MoveOrder("node2", "192.0.2.2"), {"migrate_uri": "tcp://192.0.2.2"}),
    ({}, MoveOrder("node2", "fd00::2"), {"migrate_uri": "tcp://[fd00::2]"}),
    ({"live_migration_tunnelled": True}, MoveOrder("node2", "192.0.2.2"), {}),
    ({}, MoveOrder("node2", graphics_listen="192.0.2.2"), {}),
])
def test_parameters_are_only_those_that_are_needed(options: dict, order: MoveOrder,
                                                   expected: dict):
    settings = libvirt_settings.make(**options)
    assert move_options.parameters(settings, order, PLAIN, PLAIN) == expected


def test_graphics_addresses_change_in_the_running_and_in_the_kept_definition():
    kept = VNC.replace("<devices>", "<title>kept</title><devices>")
    chosen = move_options.parameters(
        libvirt_settings.make(), MoveOrder("node2", graphics_listen="192.0.2.2"), VNC, kept)
    assert set(chosen) == {"destination_xml", "persistent_xml"}
    assert all("192.0.2.2" in text and "192.0.2.1" not in text for text in chosen.values())
    assert "kept" in chosen["persistent_xml"] and "kept" not in chosen["destination_xml"]


@pytest.mark.parametrize(("memory", "seconds"), [
    (64 << 20, 1600), (2 * GIB, 1600), (3 * GIB, 2400), (0, 1600)])
def test_the_time_limit_is_per_gib_and_counts_two_at_least(memory: int, seconds: float):
    assert move_options.completion_timeout(libvirt_settings.make(), memory) == seconds
    never = libvirt_settings.make(live_migration_completion_timeout=0)
    assert move_options.completion_timeout(never, memory) == 0


def test_the_downtime_grows_as_the_example_in_novas_documentation():
    """3 GiB, 400 ms, 10 steps 30 s apart: 40 ms at once, 36 ms more every 90 s, 400 at 900 s."""
    settings = libvirt_settings.make(live_migration_downtime=400, live_migration_downtime_steps=10,
                                     live_migration_downtime_delay=30)
    assert move_options.downtime_steps(settings, 3 * GIB) == (
        (0, 40), (90, 76), (180, 112), (270, 148), (360, 184), (450, 220), (540, 256),
        (630, 292), (720, 328), (810, 364), (900, 400))
