# SPDX-License-Identifier: Apache-2.0
"""A directory that stands at the destination before the guest comes (LP 1414895, 1761062)."""

import time

from devstack import gate
from tests.gate.scene import Scene

#: Nova writes the one, then the other, and rests in between.
FAILED = ("error", "failed")


def _precious(scene: Scene) -> list[str]:
    """What the removed directories on node2 hold."""
    return [(item / "console.log").read_text() for item in scene.trash(scene.two)]


def _migrated(scene: Scene, server: str, destination: str) -> gate.Migration:
    migration = scene.cloud.live_migrate(server, destination)
    assert migration is not None
    return migration


def test_nova_alone_fails_and_its_rollback_deletes_the_files(scene: Scene):
    server = scene.cloud.boot("alone", "node1")
    scene.leave_leftover(scene.two, server)
    assert _migrated(scene, server, "node2").status in FAILED
    assert scene.cloud.show(server).host == "node1"
    log = scene.cloud.compute_log("node2").read_text(errors="replace")
    assert "DestinationDiskExists" in log
    scene.until(lambda: not scene.directory(scene.two, server).exists(), "Nova's rollback")
    scene.cloud.reset_state(server)
    assert _migrated(scene, server, "node2").status == "completed"


def test_a_leftover_that_appears_a_second_before_does_not_stop_the_migration(scene: Scene):
    scene.start_workers()
    server = scene.cloud.boot("late", "node1")
    scene.leave_leftover(scene.two, server)
    time.sleep(1)
    migration = _migrated(scene, server, "node2")
    assert migration.status == "completed"
    scene.outcomes(server, migration)
    scene.assert_whole(server, scene.two)
    assert _precious(scene) == ["precious\n"]


def test_a_leftover_that_the_audit_finds_is_gone_before_anybody_migrates(scene: Scene):
    scene.start_workers(audit_min_age=1, audit_pause=1)
    server = scene.cloud.boot("early", "node1")
    scene.leave_leftover(scene.two, server)
    scene.assert_audit_trashes(server, scene.two)
    assert _precious(scene) == ["precious\n"]
    assert _migrated(scene, server, "node2").status == "completed"


def test_nova_alone_leaves_a_directory_where_a_stale_del_directory_stands(scene: Scene):
    server = scene.cloud.boot("alone", "node1")
    _leave_stale_del(scene, server)
    assert _migrated(scene, server, "node2").status == "completed"
    assert scene.cloud.directories(server) == ["node1", "node2"]
    assert _migrated(scene, server, "node1").status in FAILED


def test_with_the_worker_a_stale_del_directory_costs_nothing(scene: Scene):
    scene.start_workers()
    server = scene.cloud.boot("again", "node1")
    _leave_stale_del(scene, server)
    for destination in (scene.two, scene.one, scene.two):
        migration = _migrated(scene, server, destination.name)
        assert migration.status == "completed"
        scene.outcomes(server, migration)
        scene.assert_whole(server, destination)


def _leave_stale_del(scene: Scene, server: str) -> None:
    """What a broken removal left: Nova's own rename to it fails at every move."""
    stale = scene.one.nova_instances / f"{server}_del"
    stale.mkdir()
    (stale / "console.log").write_text("of long ago\n")
