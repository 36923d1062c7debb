# SPDX-License-Identifier: Apache-2.0
"""With the worker beside it Nova's migrations take no longer."""

import statistics
import time

import pytest

from tests.gate.scene import Scene

PAIRS = 10
#: Most that the worker may cost, as a factor.
LIMIT = 1.05


@pytest.mark.timeout(900)
def test_migrations_take_no_longer_with_the_worker(scene: Scene, capsys):
    server = scene.cloud.boot("runner", "node1")
    places = [scene.two, scene.one]
    for destination in places:  # the first of each direction pays for connections
        scene.cloud.live_migrate(server, destination.name)
    ratios = []
    for pair in range(PAIRS):
        times = {}
        for with_worker in ((True, False) if pair % 2 else (False, True)):
            times[with_worker] = _timed(scene, server, places[0].name, with_worker)
            places.reverse()
        ratios.append(times[True] / times[False])
    median = statistics.median(ratios)
    with capsys.disabled():
        print(f"\nmigration time with / without the worker, {PAIRS} pairs: median {median:.3f}, "
              f"all {' '.join(f'{ratio:.2f}' for ratio in sorted(ratios))}")
    assert median <= LIMIT


def _timed(scene: Scene, server: str, destination: str, with_worker: bool) -> float:
    if with_worker:
        scene.start_workers()
    time.sleep(1)
    began = time.monotonic()
    migration = scene.cloud.live_migrate(server, destination)
    took = time.monotonic() - began
    assert migration and migration.status == "completed"
    if with_worker:
        scene.outcomes(server, migration)
        scene.stop_workers()
    return took
