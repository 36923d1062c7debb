# SPDX-License-Identifier: Apache-2.0
"""Directories that no live migration left, and directories that only look as if."""

import time

from devstack import lab as labs
from tests.gate.scene import Scene

QUICK = {"audit_min_age": 1, "audit_pause": 1}


def test_evacuation_and_the_return_of_the_old_host(scene: Scene):
    """LP 1414895."""
    scene.start_workers(**QUICK)
    server = scene.cloud.boot("refugee", "node1")
    _break_down(scene, server)
    scene.cloud.evacuate(server, "node2")
    _come_back(scene, server)
    assert scene.cloud.directories(server) == ["node1", "node2"]  # what Nova leaves
    _mended_by_audit(scene, server, scene.one)
    back = scene.cloud.live_migrate(server, "node1")
    assert back and back.status == "completed"
    scene.outcomes(server, back)
    scene.assert_whole(server, scene.one)


def _break_down(scene: Scene, server: str) -> None:
    """node1 loses everything that runs there, its worker too."""
    scene.workers["node1"].kill9()
    scene.cloud.compute("node1").kill9()
    scene.one.kill9(scene.cloud.guest(server).qemu_pid(scene.one))
    scene.cloud.api.force_down("node1", True)


def _come_back(scene: Scene, server: str) -> None:
    """nova-compute removes the evacuated guest; only then may the host be up again."""
    scene.restart_worker(scene.one)
    scene.cloud.compute("node1").start()
    scene.until(lambda: scene.cloud.migrations(server)[-1].status == "completed",
                "Nova's removal of the evacuated guest")
    assert scene.cloud.guest(server).state(scene.one) is None
    scene.cloud.api.force_down("node1", False)


def test_a_reverted_cold_migration(scene: Scene):
    """LP 1761062."""
    scene.start_workers(**QUICK)
    server = scene.cloud.boot("undecided", "node1")
    scene.cloud.migrate_cold(server, "node2")
    scene.cloud.revert(server)
    assert scene.cloud.directories(server) == ["node1", "node2"]  # what Nova leaves
    _mended_by_audit(scene, server, scene.two)
    there = scene.cloud.live_migrate(server, "node2")
    assert there and there.status == "completed"
    scene.outcomes(server, there)
    scene.assert_whole(server, scene.two)


def test_the_audit_touches_no_directory_of_a_server_that_only_rests(scene: Scene):
    scene.start_workers(**QUICK)
    off, paused, shelved, resizing = (
        scene.cloud.boot(name, "node1") for name in ("off", "paused", "shelved", "resizing"))
    scene.cloud.stop(off)
    scene.cloud.pause(paused)
    scene.cloud.shelve(shelved)
    scene.cloud.migrate_cold(resizing, "node2")
    building = scene.cloud.boot("building", "node1", wait=False)
    scene.until(lambda: scene.directory(scene.one, building).exists(), "the new directory")
    scene.cloud.compute("node1").pause()  # libvirt may know it, or may not
    try:
        before = _everything(scene)
        time.sleep(2)
        for host in scene.hosts:
            verdicts = {verdict for verdict, _ in scene.audit(host).values()}
            assert verdicts <= {"kept"}
        assert _everything(scene) == before
        assert f"node1 {resizing}_resize" in before and f"node2 {resizing}" in before
    finally:
        scene.cloud.compute("node1").resume()
    scene.cloud.wait_status(building, "ACTIVE")
    scene.cloud.confirm(resizing)
    scene.cloud.start(off)
    scene.cloud.unpause(paused)


def _everything(scene: Scene) -> set[str]:
    return {f"{host.name} {path.name}" for host in scene.hosts
            for path in host.nova_instances.iterdir() if path.name[8:9] == "-"}


def _mended_by_audit(scene: Scene, server: str, host: labs.Host) -> None:
    scene.assert_audit_trashes(server, host)
    assert scene.cloud.directories(server) == [
        other.name for other in scene.hosts if other is not host]
