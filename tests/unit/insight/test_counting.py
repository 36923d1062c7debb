# SPDX-License-Identifier: Apache-2.0
"""Whole migrations on the fakes, and what the metrics say of them afterwards."""

import collections.abc
import pathlib

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from rbd_worker import news
from rbd_worker.insight.counting import Counting
from rbd_worker.insight.families import Families
from rbd_worker.model import Executor, Migration, Outcome, Phase, Role
from tests.world import World

MIGRATION = Migration("m-1", "instance", Role.SOURCE, "node01", "node02", Executor.NOVA)


class Metrics:
    """Counters of one host."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.counting = Counting(Families(self.registry))

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"rbd_worker_{name}", labels) or 0.0


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture(params=["nova", "libvirt"])
def world(request: pytest.FixtureRequest,
          tmp_path: pathlib.Path) -> collections.abc.Iterator[World]:
    one = World(tmp_path, request.param)
    yield one
    one.close()


def watched(world: World) -> list[Metrics]:
    both = [Metrics() for _ in world.hosts]
    for host, one in zip(world.hosts, both, strict=True):
        host.told.add(one.counting)
    return both


def test_a_migration_is_counted_on_both_hosts_with_its_phases(world: World) -> None:
    source, destination = watched(world)
    world.migrate(world.boot(world.hosts[0]), *world.hosts)
    for one, role in ((source, "source"), (destination, "destination")):
        assert one.value("migrations_begun_total", role=role) == 1
        assert one.value("migrations_total", role=role, outcome="completed") == 1
        assert one.value("migration_seconds_count", role=role, outcome="completed") == 1
        parts = [one.value("phase_seconds_sum", role=role, phase=p.value) for p in Phase]
        whole = one.value("migration_seconds_sum", role=role, outcome="completed")
        assert sum(parts) == pytest.approx(whole)
        assert whole > 0
    assert destination.value("staged_bytes_total") > 0
    assert source.value("journal_write_seconds_count") > 4


def test_a_failed_one_is_counted_as_failed_and_measured_to_the_end_of_its_rollback(
        world: World) -> None:
    source, _ = watched(world)
    world.migrate(world.boot(world.hosts[0]), *world.hosts, how="fail")
    assert source.value("migrations_total", role="source", outcome="failed") == 1
    assert source.value("migrations_total", role="source", outcome="completed") == 0
    assert source.value("phase_seconds_count", role="source", phase="rollback") == 1


def test_no_metric_names_an_instance_a_migration_or_a_host(world: World) -> None:
    source, destination = watched(world)
    instance = world.boot(world.hosts[0])
    order = world.migrate(instance, *world.hosts)
    text = (generate_latest(source.registry) + generate_latest(destination.registry)).decode()
    assert "rbd_worker_migrations_total{" in text
    for name in (instance, order.uuid, "node01", "node02"):
        assert name not in text


def test_a_directory_in_the_trash_is_counted_for_whom_it_left(tmp_path: pathlib.Path) -> None:
    world = World(tmp_path, "libvirt")
    source, _ = watched(world)
    world.migrate(world.boot(world.hosts[0]), *world.hosts)
    assert source.value("directories_trashed_total", cause="plan") == 1
    world.close()


def test_after_a_restart_a_migration_is_measured_from_its_beginning(metrics: Metrics) -> None:
    metrics.counting.resumed(MIGRATION, 100.0, False)
    metrics.counting.recorded(MIGRATION, (), Phase.LIVE, 150.0)
    metrics.counting.recorded(MIGRATION, (), Phase.POST, 160.0)
    metrics.counting.ended(MIGRATION, Outcome.COMPLETED, "", 161.0)
    assert metrics.value("migration_seconds_sum", role="source", outcome="completed") == 61
    assert metrics.value("phase_seconds_count", role="source", phase="live_migration") == 0
    assert metrics.value("phase_seconds_sum", role="source", phase="post_live_migration") == 1


def test_doubt_is_counted_once_for_as_long_as_it_lasts(metrics: Metrics) -> None:
    metrics.counting.begun(MIGRATION, 0.0)
    for reason in ("the peer is away", "the peer is still away"):
        metrics.counting.marked(MIGRATION, Outcome.UNRESOLVED, reason)
    assert metrics.value("migrations_unresolved_total", role="source") == 1
    metrics.counting.marked(MIGRATION, None, "")
    metrics.counting.marked(MIGRATION, Outcome.UNRESOLVED, "again")
    assert metrics.value("migrations_unresolved_total", role="source") == 2


def test_downtime_and_retries_come_from_what_the_steps_kept(metrics: Metrics) -> None:
    metrics.counting.recorded(MIGRATION, (
        ("ensure_destination_prepared", "done", {"attempts": 4}),
        ("ensure_guest_moved", "done", {"downtime_ms": 34}),
        ("ensure_guest_moved", "doing", {})), None, 1.0)
    assert metrics.value("prepare_retries_total") == 3
    assert metrics.value("downtime_seconds_sum") == pytest.approx(0.034)


def test_a_clock_that_was_set_back_measures_nothing_below_zero(metrics: Metrics) -> None:
    metrics.counting.begun(MIGRATION, 1000.0)
    metrics.counting.ended(MIGRATION, Outcome.FAILED, "", 900.0)
    assert metrics.value("migration_seconds_sum", role="source", outcome="failed") == 0


def test_a_listener_that_fails_ends_no_migration(world: World) -> None:
    class Failing(news.Listener):
        def recorded(self, *_: object) -> None:
            raise RuntimeError

        begun = ended = recorded  # type: ignore[assignment]

    for host in world.hosts:
        host.told.add(Failing())
    order = world.migrate(world.boot(world.hosts[0]), *world.hosts)
    assert {h.entry(order.uuid).outcome for h in world.hosts} == {Outcome.COMPLETED}
