# SPDX-License-Identifier: Apache-2.0
"""Directories that no live migration left, and directories that only look as if."""

import time

import pytest

from devstack import lab as labs
from tests.gate.scene import Scene

QUICK = {"audit_min_age": 1, "audit_pause": 1}


@pytest.mark.parametrize("with_worker", [False, True])
def test_evacuation_and_the_return_of_the_old_host(scene: Scene, with_worker: bool):
    """LP 1414895."""
    if with_worker:
        scene.start_workers(**QUICK)
    server = scene.cloud.boot("refugee", "node1")
    _evacuated(scene, server)
    assert scene.cloud.directories(server) == ["node1", "node2"]  # what Nova leaves
    if with_worker:
        _mended_by_audit(scene, server, scene.one)
    back = scene.cloud.live_migrate(server, "node1")
    assert back and back.status == ("completed" if with_worker else "failed")


def _evacuated(scene: Scene, server: str) -> None:
    """node1 breaks down, the server is rebuilt on node2, and node1 comes back."""
    scene.cloud.compute("node1").kill9()
    scene.one.kill9(scene.cloud.guest(server).qemu_pid(scene.one))
    scene.cloud.api.force_down("node1", True)
    try:
        scene.cloud.evacuate(server, "node2")
    finally:
        scene.cloud.api.force_down("node1", False)
        scene.cloud.start_compute("node1")
    scene.until(lambda: scene.cloud.guest(server).state(scene.one) is None,
                "Nova's removal of the evacuated guest")


@pytest.mark.parametrize("with_worker", [False, True])
def test_a_reverted_cold_migration(scene: Scene, with_worker: bool):
    """LP 1761062."""
    if with_worker:
        scene.start_workers(**QUICK)
    server = scene.cloud.boot("undecided", "node1")
    scene.cloud.migrate_cold(server, "node2")
    scene.cloud.revert(server)
    assert scene.cloud.directories(server) == ["node1", "node2"]  # what Nova leaves
    if with_worker:
        _mended_by_audit(scene, server, scene.two)
    there = scene.cloud.live_migrate(server, "node2")
    assert there and there.status == ("completed" if with_worker else "failed")


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
    scene.until(lambda: scene.audit(host).get(server, ("", ""))[0] == "trashed",
                "the audit's verdict", shown=lambda: scene.audit(host))
    assert len(scene.trash(host)) == 1
    assert scene.cloud.directories(server) == [
        other.name for other in scene.hosts if other is not host]
