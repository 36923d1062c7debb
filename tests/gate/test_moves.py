# SPDX-License-Identifier: Apache-2.0
"""Plain live migrations: Nova moves the guest, the worker carries its history along."""

import concurrent.futures

import pytest

from rbd_worker.model import Outcome
from tests.gate.scene import Scene, ticks

ROUNDS = 10
COMPLETED = {"node1": Outcome.COMPLETED, "node2": Outcome.COMPLETED}


def test_nova_alone_loses_the_console_history(scene: Scene):
    server = scene.cloud.boot("alone", "node1")
    scene.until(lambda: 2 in ticks(scene.cloud.console_output(server)), "two lines")
    scene.cloud.live_migrate(server, "node2")
    assert 1 not in ticks(scene.cloud.console_output(server))


@pytest.mark.timeout(600)
def test_there_and_back_ten_times_and_novas_reader_shows_the_whole_history(scene: Scene):
    scene.start_workers()
    server = scene.cloud.boot("traveller", "node1")
    scene.until(lambda: 2 in ticks(scene.cloud.console_output(server)), "two lines")
    for _ in range(ROUNDS):
        for destination in (scene.two, scene.one):
            migration = scene.cloud.live_migrate(server, destination.name)
            assert migration and migration.status == "completed"
            assert scene.outcomes(server, migration) == COMPLETED
            scene.assert_whole(server, destination)
    numbers = ticks(scene.cloud.console_output(server))
    # a guest that writes while it moves may have a line torn by the move, but none is lost
    assert numbers[0] == 1
    missing = set(range(1, numbers[-1] + 1)) - set(numbers)
    assert len(missing) <= 2 * ROUNDS, sorted(missing)
    assert scene.trash(scene.one) == scene.trash(scene.two) == []


def test_two_guests_cross(scene: Scene):
    scene.start_workers()
    servers = {scene.cloud.boot("east", "node1"): scene.two,
               scene.cloud.boot("west", "node2"): scene.one}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        migrations = dict(zip(servers, pool.map(
            lambda server: scene.cloud.live_migrate(server, servers[server].name), servers),
            strict=True))
    for server, migration in migrations.items():
        assert migration and migration.status == "completed"
        assert scene.outcomes(server, migration) == COMPLETED
        scene.assert_whole(server, servers[server])
