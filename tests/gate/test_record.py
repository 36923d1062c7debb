# SPDX-License-Identifier: Apache-2.0
"""Nova's record beside the running guest, for workers with credentials for nova-api."""

import re

import pytest

from devstack import lab as labs
from rbd_worker.model import Outcome
from tests.gate.scene import Scene
from tests.gate.under_way import let_arrive, on_its_way, send

#: nova.conf of a compute host has them for Nova's own use.
WITH_RECORD = {"os_auth_section": "service_user", "audit_min_age": 1, "audit_pause": 1,
               "settle_interval": 1, "unresolved_retry_max": 2}

TRUE = ("Nova's record says node1 (vm_state active, task_state none, last migration error, node1 "
        "to node2), but the guest runs on node2.")


@pytest.mark.timeout(600)
def test_where_the_record_is_wrong_nothing_is_touched_and_what_is_said_mends_it(scene: Scene):
    """nova-compute was killed while the guest moved: a hard reboot would start a second one."""
    scene.start_workers(**WITH_RECORD)
    server = on_its_way(scene)
    scene.cloud.compute("node1").kill9()
    let_arrive(scene, server)
    scene.until(lambda: "Nova's record says node1" in _open_reason(scene, server),
                "the source's doubt")
    scene.cloud.start_compute("node1")
    before = _directories(scene, server)
    for host, column in ((scene.one, "Reason"), (scene.two, "Nova")):
        scene.until(lambda at=host, told=column: TRUE in scene.findings(at)[server][told],
                    "the audit's word", shown=lambda at=host: scene.findings(at))
        row = scene.findings(host)[server]
        assert row["Verdict"] == "kept"
        assert "would start a second guest on the same disks" in row[column]
    assert _directories(scene, server) == before
    assert scene.trash(scene.one) == scene.trash(scene.two) == []
    _do_what_is_said(scene, server, scene.findings(scene.two)[server]["Nova"])
    _assert_mended(scene, server)


def _open_reason(scene: Scene, server: str) -> str:
    entry = scene.entries(scene.one, server)[-1]
    return entry.reason if entry.outcome is Outcome.UNRESOLVED else ""


def _directories(scene: Scene, server: str) -> list[int]:
    """Which directories stand on either host."""
    return [scene.directory(host, server).stat().st_ino for host in scene.hosts]


def _do_what_is_said(scene: Scene, server: str, sentence: str) -> None:
    """The operator's hands: the commands, as they stand in the sentence."""
    host, move = re.search(r"on (node\d): virsh (migrate .*?) 3\.", sentence).groups()
    scene.lab.host(host).virsh(*move.split())
    booked = re.search(r"nova-manage (placement heal_allocations .*?);", sentence).group(1)
    scene.cloud.nova_manage(*booked.split())


def _assert_mended(scene: Scene, server: str) -> None:
    """Record, guest and placement agree; what virsh left is a leftover; Nova can move it again."""
    assert scene.cloud.allocations(server) == {"node1"}
    first = scene.cloud.migrations(server)[-1]
    assert set(scene.outcomes(server, first).values()) == {Outcome.COMPLETED}
    scene.assert_audit_trashes(server, scene.two)  # what virsh left
    scene.assert_whole(server, scene.one)
    assert server not in scene.findings(scene.one)
    send(scene, server)
    let_arrive(scene, server)
    again = scene.cloud.ended_migration(server, before=1)
    assert again.status == "completed"
    scene.outcomes(server, again)
    scene.assert_whole(server, scene.two)


def test_without_an_answer_of_nova_the_audit_says_so_and_acts_as_without(scene: Scene):
    scene.start_workers(**WITH_RECORD)
    server = scene.cloud.boot("quiet", "node1")
    scene.leave_leftover(scene.two, server)
    scene.cloud.inject(scene.two, "POST /identity/v3/auth/tokens")
    row = _settled(scene, scene.two, server)
    assert "nova-api cannot be asked with section [service_user] of nova.conf" in row["Nova"]
    assert scene.cloud.directories(server) == ["node1"]
    assert "standin" not in scene.workers["node2"].log_text  # the password


def test_a_record_that_agrees_has_nothing_to_say(scene: Scene):
    scene.start_workers(**WITH_RECORD)
    server = scene.cloud.boot("plain", "node1")
    scene.leave_leftover(scene.two, server)
    assert _settled(scene, scene.two, server)["Nova"] == ""
    assert scene.cloud.directories(server) == ["node1"]


def _settled(scene: Scene, host: labs.Host, server: str) -> dict[str, str]:
    """The finding by which the leftover went; until then it is too young."""
    rows: list[dict[str, str]] = []

    def trashed() -> bool:
        rows.append(scene.findings(host).get(server, {}))
        return rows[-1].get("Verdict") == "trashed"

    scene.until(trashed, "the audit's verdict", shown=lambda: rows[-1:])
    return rows[-1]
