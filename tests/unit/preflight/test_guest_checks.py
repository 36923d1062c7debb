# SPDX-License-Identifier: Apache-2.0
"""What a host says of a guest that is to come, or to leave."""

import dataclasses
import types
import typing as ty

import pytest

from rbd_worker.host.hypervisor import Versions
from rbd_worker.model import Executor
from rbd_worker.preflight import bench as benches
from rbd_worker.preflight import guest_checks, survey
from rpcapi import preflight as contract
from tests.unit.conftest import MakeWorld
from tests.unit.preflight.test_guest_xml import CAPABILITIES

GUEST = contract.Guest(instance="a05482ec-d71a-48c7-bf99-94d829b20aef", machine="pc-q35-7.2",
                       architecture="x86_64", memory=64 << 20)
#: The host that is asked.
HERE = "node01"


@pytest.fixture
def bench(make_world: MakeWorld) -> benches.Bench:
    host = make_world("libvirt").hosts[0]
    ports = host.alive.coordinator.ports
    described = types.SimpleNamespace(
        connection=None, versions=lambda: Versions(9_000_000, 7_002_000, "1", CAPABILITIES))
    return benches.Bench(settings=ports.settings, hypervisor=ty.cast(ty.Any, described),
                         images=host.ceph, directories=ports.directories,
                         secrets=ty.cast(ty.Any, None), journal=ports.journal,
                         hearing=lambda: benches.Hearing(True, "hearing"))


def row(bench: benches.Bench, name: str, **guest: object) -> contract.Row:
    (check,) = [one for one in guest_checks.CHECKS if one.name == name]
    request = contract.SurveyRequest(asker="node02", salt="0" * 32, guest=contract.Guest(
        **{**{f: getattr(GUEST, f) for f in GUEST.__struct_fields__}, **guest}))
    (found,) = survey.Surveyor(bench, [check], 10).survey(request).rows
    return found


def with_settings(bench: benches.Bench, **settings: object) -> benches.Bench:
    return dataclasses.replace(bench, settings=dataclasses.replace(
        bench.settings, **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(("guest", "state", "found"), [
    ({}, "ok", "64 MiB; "),
    ({"memory": 1 << 49}, "warning", "may have 536870912 MiB"),
    ({"memory": 0}, "unknown", "does not say"),
    ({"huge_pages": 3 << 20}, "failed", "0 MiB are in hugepages-3072kB"),
])
def test_memory_is_what_the_kernel_could_give(bench: benches.Bench, guest: dict[str, object],
                                              state: str, found: str) -> None:
    told = row(bench, "guest.memory", **guest)
    assert told.state == state and found in told.found


@pytest.mark.parametrize(("guest", "state"), [
    ({}, "ok"), ({"machine": "pc-q35-99.0"}, "failed"), ({"machine": ""}, "unknown"),
    ({"architecture": "riscv64"}, "unknown")])
def test_a_machine_type_is_known_or_not(bench: benches.Bench, guest: dict[str, object],
                                        state: str) -> None:
    assert row(bench, "guest.machine", **guest).state == state


def test_a_guest_without_kvm_brings_its_processor(bench: benches.Bench) -> None:
    assert row(bench, "guest.cpu", is_kvm=False).state == "ok"
    assert row(bench, "guest.cpu", is_kvm=True).state == "unknown"


@pytest.mark.parametrize(("executor", "name", "state"), [
    (Executor.LIBVIRT, "qbr-not-here", "failed"), (Executor.NOVA, "qbr-not-here", "ok"),
    (Executor.NOVA, "br-not-here", "warning"), (Executor.LIBVIRT, "lo", "ok")])
def test_a_bridge_is_missed_where_nobody_makes_it(bench: benches.Bench, executor: Executor,
                                                  name: str, state: str) -> None:
    told = row(with_settings(bench, executor=executor), "guest.interfaces", bridges=(name,))
    assert told.state == state and name in told.found


@pytest.mark.parametrize(("listen", "graphics", "state", "found"), [
    ("", ("192.0.2.1",), "failed", "not an address of this host"),
    ("", ("127.0.0.1",), "ok", "can be listened on"), ("", (), "ok", "no console server"),
    ("0.0.0.0", ("192.0.2.1",), "ok", "server_listen"),
    ("node01", (), "failed", "not an IP address")])
def test_a_console_address_has_to_be_this_hosts(bench: benches.Bench, listen: str,
                                                graphics: tuple[str, ...], state: str,
                                                found: str) -> None:
    told = row(with_settings(bench, vnc_listen=listen), "graphics.listen", graphics=graphics)
    assert told.state == state and found in told.found


def test_files_that_the_guest_has_open_are_looked_for(bench: benches.Bench) -> None:
    assert row(bench, "guest.local-files", local_paths=("/dev/null",)).state == "ok"
    told = row(bench, "guest.local-files", local_paths=("/dev/null", "/dev/not-here"))
    assert told.state == "failed" and "/dev/not-here" in told.found
    assert "/dev/null" not in told.found


def test_libvirt_describes_itself_once_a_survey_however_many_ask(bench: benches.Bench) -> None:
    asked = []

    def versions() -> Versions:
        asked.append(1)
        return Versions(9_000_000, 7_002_000, "1", CAPABILITIES)
    counted = dataclasses.replace(bench, hypervisor=ty.cast(
        ty.Any, types.SimpleNamespace(connection=None, versions=versions)))
    one = survey.Surveyor(counted, [check for check in survey.CHECKS if check.name in (
        "libvirt.connection", "hook.installed", "hook.seen", "guest.machine")], 10)
    for _ in range(2):
        one.survey(contract.SurveyRequest(asker=HERE, salt="0" * 32))
    assert len(asked) == 2
