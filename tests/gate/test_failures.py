# SPDX-License-Identifier: Apache-2.0
"""Migrations that end badly: what Nova leaves on the disks, and what holds with the worker."""

import pytest

from devstack import lab as labs
from rbd_worker.model import Outcome
from tests.gate.scene import Scene

#: What the steps after a migration (or a rollback) ask of neutron first.
NEUTRON = "GET /network/v2.0/ports"


def _on_its_way(scene: Scene) -> str:
    """A server whose memory is under way from node1 to node2, and does not arrive by itself."""
    server = scene.cloud.boot("mover", "node1", image="busy")
    scene.cloud.guest(server).wait_for_console(scene.one)  # in its BIOS it would be at rest
    scene.cloud.live_migrate(server, "node2", wait=False)
    scene.cloud.wait_migrating(server)
    scene.until(lambda: "memory" in _job(scene, server).lower(), "the transfer")
    return server


def _job(scene: Scene, server: str) -> str:
    return scene.one.virsh("domjobinfo", server, check=False)


def _let_arrive(scene: Scene, server: str) -> None:
    """Lift the limit of the transfer: the guest then arrives at once."""
    scene.one.virsh("migrate-setspeed", server, "2000")
    scene.until(lambda: scene.cloud.guest(server).running_on() == ["node2"], "the arrival")


def test_an_aborted_migration_leaves_nothing_at_the_destination(scene: Scene):
    scene.start_workers()
    server = _on_its_way(scene)
    scene.cloud.abort(server)
    migration = scene.cloud.ended_migration(server, before=0)
    assert migration.status in ("cancelled", "error")  # Nova 34 stumbles over its own abort
    outcomes = scene.outcomes(server, migration)
    assert set(outcomes.values()) <= {Outcome.CANCELLED, Outcome.FAILED}, outcomes
    assert scene.cloud.guest(server).running_on() == ["node1"]
    assert scene.cloud.directories(server) == ["node1"]
    assert scene.staging() == [] and scene.trash(scene.one) == []


@pytest.mark.parametrize("with_worker", [False, True])
def test_an_abort_whose_rollback_fails(scene: Scene, with_worker: bool):
    if with_worker:
        scene.start_workers(audit_min_age=1, audit_pause=1)
    server = _on_its_way(scene)
    scene.cloud.inject(scene.two, NEUTRON)
    scene.cloud.abort(server)
    scene.until(lambda: scene.cloud.show(server).status == "ERROR", "Nova's failure")
    scene.cloud.end_fault()
    assert scene.cloud.guest(server).running_on() == ["node1"]
    assert scene.cloud.directories(server) == ["node1", "node2"]  # what Nova leaves
    if with_worker:
        _assert_audit_mends(scene, server, scene.two)
        assert scene.cloud.directories(server) == ["node1"]


def test_nova_compute_killed_at_the_destination_and_the_migration_aborted(scene: Scene):
    scene.start_workers(audit_min_age=1, audit_pause=1)
    server = _on_its_way(scene)
    scene.cloud.compute("node2").kill9()
    scene.cloud.abort(server)
    scene.until(lambda: scene.cloud.migrations(server)[-1].has_ended, "the abort")
    assert scene.cloud.guest(server).running_on() == ["node1"]
    assert scene.cloud.directories(server) == ["node1", "node2"]  # Nova's cast waits in its queue
    _assert_audit_mends(scene, server, scene.two)
    scene.cloud.start_compute("node2")
    assert scene.cloud.guest(server).running_on() == ["node1"]
    assert scene.cloud.directories(server) == ["node1"]


@pytest.mark.parametrize("with_worker", [False, True])
def test_an_error_in_novas_steps_after_the_migration(scene: Scene, with_worker: bool):
    if with_worker:
        scene.start_workers()
    server = _on_its_way(scene)
    scene.cloud.inject(scene.one, NEUTRON)
    _let_arrive(scene, server)
    scene.until(lambda: scene.cloud.show(server).is_at_rest, "Nova's failure")
    scene.cloud.end_fault()
    assert scene.cloud.show(server).status == "ERROR"
    assert scene.cloud.guest(server).running_on() == ["node2"]
    if not with_worker:
        assert scene.cloud.directories(server) == ["node1", "node2"]
        return
    outcomes = scene.outcomes(server, scene.cloud.migrations(server)[-1])
    assert set(outcomes.values()) == {Outcome.COMPLETED}
    assert scene.cloud.directories(server) == ["node2"]
    assert len(scene.trash(scene.one)) == 1
    scene.cloud.reset_state(server)
    back = scene.cloud.live_migrate(server, "node1")
    assert back and back.status in ("running", "completed"), back


def test_nova_compute_killed_at_the_source_leaves_a_wrong_record_and_a_guest_nobody_touches(
        scene: Scene):
    scene.start_workers(audit_min_age=1, audit_pause=1)
    server = _on_its_way(scene)
    scene.cloud.compute("node1").kill9()
    _let_arrive(scene, server)
    migration = scene.cloud.migrations(server)[-1]
    there = scene.directory(scene.two, server)
    inode = there.stat().st_ino
    outcomes = scene.outcomes(server, migration)
    scene.cloud.start_compute("node1")
    assert scene.cloud.show(server).host == "node1"  # Nova's record is wrong
    assert set(outcomes.values()) == {Outcome.COMPLETED}
    for host in scene.hosts:
        scene.audit(host)
    assert scene.cloud.guest(server).running_on() == ["node2"]
    assert there.stat().st_ino == inode and (there / "console.log").exists()
    assert scene.trash(scene.two) == []
    assert scene.cloud.directories(server) == ["node2"]


def test_a_guest_that_dies_on_its_way_is_unresolved_and_keeps_its_files(scene: Scene):
    scene.start_workers()
    server = _on_its_way(scene)
    scene.one.kill9(scene.cloud.guest(server).qemu_pid(scene.one))
    scene.until(lambda: scene.cloud.migrations(server)[-1].has_ended, "the end")
    scene.until(lambda: all(not e.is_open or e.outcome for h in scene.hosts
                            for e in scene.entries(h, server)), "the workers' conclusion")
    said = [e.reason for h in scene.hosts for e in scene.entries(h, server)]
    print(scene.cloud.migrations(server), scene.cloud.show(server), said)
    assert scene.trash(scene.one) == scene.trash(scene.two) == []


def _assert_audit_mends(scene: Scene, server: str, host: labs.Host) -> None:
    """The audit of that host finds the directory, once it is old enough, and trashes it."""
    def trashed() -> bool:
        return scene.audit(host).get(server, ("", ""))[0] == "trashed"

    scene.until(trashed, "the audit's verdict", shown=lambda: scene.audit(host))
    assert len(scene.trash(host)) == 1
