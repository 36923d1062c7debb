# SPDX-License-Identifier: Apache-2.0
"""Whatever happens to the worker, Nova's migrations go on."""

import time

from rbd_worker.model import Outcome
from tests.gate.scene import Scene

#: Nothing listens there.
NO_BROKER = "rabbit://nobody:nothing@127.0.0.1:1/"


def test_with_the_workers_stopped_nova_migrates_as_before(scene: Scene):
    scene.start_workers()
    server = scene.cloud.boot("stopped", "node1")
    scene.stop_workers()
    migration = scene.cloud.live_migrate(server, "node2")
    assert migration and migration.status == "completed"
    scene.assert_whole(server, scene.two)


def test_a_worker_without_a_broker_is_in_nobodys_way(scene: Scene):
    server = scene.cloud.boot("deaf", "node1")
    for host in scene.hosts:
        scene.workers[host.name] = scene.cloud.start_worker(host, transport_url=NO_BROKER)
    time.sleep(3)
    migration = scene.cloud.live_migrate(server, "node2")
    assert migration and migration.status == "completed"
    scene.assert_whole(server, scene.two)
    assert all(worker.is_running() for worker in scene.workers.values())


def test_workers_killed_in_the_middle_finish_their_part_after_their_return(scene: Scene):
    scene.start_workers()
    server = scene.cloud.boot("killed", "node1")
    scene.cloud.live_migrate(server, "node2", wait=False)
    scene.until(lambda: bool(scene.entries(scene.one, server)), "the source's entry")
    for worker in scene.workers.values():
        worker.kill9()
    migration = scene.cloud.ended_migration(server, before=0)
    assert migration.status == "completed"
    scene.assert_running_alone(server, scene.two)
    for host in scene.hosts:
        scene.restart_worker(host)
    for host in scene.hosts:
        scene.until(lambda host=host: all(  # type: ignore[misc]
            not entry.is_open for entry in scene.entries(host, server)), "closed entries")
        outcomes = {entry.outcome for entry in scene.entries(host, server)}
        assert outcomes <= {Outcome.COMPLETED}, outcomes
    scene.assert_whole(server, scene.two)
