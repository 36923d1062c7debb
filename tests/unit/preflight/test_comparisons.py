# SPDX-License-Identifier: Apache-2.0
"""What two hosts have to agree in; an empty field is never agreement."""

import msgspec
import pytest

from rbd_worker.preflight import comparisons
from rpcapi.preflight import Row, Traits

ONE = Traits(host="node1", clock=1000.0, worker_version="1", rpc_version="1.1",
             executor="nova", host_uuid="a", libvirt_version=9_000_000,
             hypervisor_version=7_002_000, native_tls=False, tunnelled=False)
TWO = msgspec.structs.replace(ONE, host="node2", host_uuid="b")


def row(name: str, **theirs: object) -> Row:
    found = [r for r in comparisons.compare(ONE, msgspec.structs.replace(TWO, **theirs))
             if r.name == name]
    return min(found, key=lambda row: row.state == "ok")  # what is wrong, if anything is


def test_hosts_that_agree_are_ok() -> None:
    assert {r.state for r in comparisons.compare(ONE, TWO)} <= {"ok", "unknown"}


@pytest.mark.parametrize(("name", "theirs", "state"), [
    ("libvirt.host-uuid", {"host_uuid": "a"}, "failed"),
    ("libvirt.host-uuid", {"host_uuid": ""}, "unknown"),
    ("libvirt.versions", {"hypervisor_version": 7_001_000}, "warning"),
    ("libvirt.versions", {"hypervisor_version": 8_000_000}, "ok"),
    ("libvirt.versions", {"libvirt_version": 8_000_000}, "warning"),
    ("libvirt.versions", {"hypervisor_version": 0}, "unknown"),
    ("libvirt.encryption", {"native_tls": True}, "failed"),
    ("libvirt.encryption", {"tunnelled": None}, "unknown"),
    ("worker.version", {"rpc_version": "2.0"}, "failed"),
    ("worker.version", {"worker_version": "2"}, "warning"),
    ("worker.executor", {"executor": "libvirt"}, "failed"),
])
def test_a_difference_is_told_with_its_remedy(name: str, theirs: dict[str, object],
                                              state: str) -> None:
    found = row(name, **theirs)
    assert found.state == state
    assert state == "unknown" or bool(found.remedy) == (state != "ok")


@pytest.mark.parametrize(("theirs", "state"), [
    (1000.0, "ok"), (1000.4, "ok"), (1002.4, "ok"), (1003.0, "warning"), (997.0, "warning"),
    (0.0, "unknown")])
def test_clocks_are_compared_within_the_time_the_question_took(theirs: float,
                                                               state: str) -> None:
    found = comparisons.clocks("node1", msgspec.structs.replace(TWO, clock=theirs),
                               before=1000.0, after=1000.5)
    assert found.state == state
