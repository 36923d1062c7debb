# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus and a real listener watch real workers, and see the guest that moved."""

import collections.abc
import contextlib
import json
import pathlib
import re
import shutil
import socket
import subprocess
import time
import typing as ty
import urllib.parse
import urllib.request

import kombu
import pytest
import yaml

from devstack import lab as labs
from devstack.conductor import LiveMigration
from devstack.lab import processes, worker
from rbd_worker.insight import notices
from tests import lab_session
from tests.functional.fleet import METRICS_PORT, Fleet, answer

pytestmark = pytest.mark.lab

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "etc/prometheus/rbd-worker.rules.yml"
SECONDS = 60.0
DRIVER = {"driver": "messagingv2"}
#: A busy guest never arrives by itself then.
SLOW = {"live_migration_bandwidth": 4}


class Prometheus:
    """A server of this test's own."""

    def __init__(self, home: pathlib.Path, targets: list[str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._address = f"127.0.0.1:{free.getsockname()[1]}"
        self.log = home / "prometheus.log"
        config = home / "prometheus.yml"
        config.write_text(yaml.safe_dump({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "rbd-worker",
                                "static_configs": [{"targets": targets}]}]}))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={home}/data",
                 f"--web.listen-address={self._address}"], stdout=log, stderr=log)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(processes.patience(SECONDS))

    def ask(self, path: str, **query: str) -> ty.Any:
        """What its API answers; None while it does not."""
        url = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with contextlib.suppress(OSError), _opened(url) as reply:
            return json.load(reply)["data"]
        return None

    def value(self, expression: str) -> float | None:
        """Of an expression with one result."""
        found = self.ask("query", query=expression)
        return float(found["result"][0]["value"][1]) if found and found["result"] else None

    def rules(self) -> list[dict[str, ty.Any]]:
        """Those of all groups, as it knows them."""
        found = self.ask("rules")
        return [rule for group in found["groups"] for rule in group["rules"]] if found else []

    def until(self, expression: str, wanted: float) -> None:
        processes.wait_until(lambda: self.value(expression) == wanted, SECONDS,
                             f"{expression} == {wanted}", self.log)


def _opened(url: str) -> ty.Any:
    return urllib.request.urlopen(url, timeout=processes.patience(10))


@pytest.fixture
def watched(fleet: Fleet) -> Fleet:
    """Two workers whose metrics are offered to the lab's network."""
    for host in (fleet.one, fleet.two):
        fleet.lab.write_config(host, metrics_listen=f"{host.address}:{METRICS_PORT}",
                               notifications=DRIVER)
        fleet.workers[host.name] = fleet.lab.start_worker(host)
    for one in fleet.workers.values():
        one.wait_ready()
    return fleet


@pytest.fixture
def prometheus(watched: Fleet, tmp_path: pathlib.Path) -> collections.abc.Iterator[Prometheus]:
    lab_session.demand("" if shutil.which("prometheus") else
                       "no Prometheus is installed (apt-get install prometheus)")
    one = Prometheus(tmp_path, [f"{h.address}:{METRICS_PORT}" for h in (watched.one, watched.two)])
    yield one
    one.stop()


def test_prometheus_sees_the_migration_that_was_just_made(
        watched: Fleet, prometheus: Prometheus) -> None:
    guest = watched.lab.define_guest(watched.one)
    watched.moved(guest, watched.one, watched.two)
    prometheus.until('sum(rbd_worker_migrations_total{outcome="completed"})', 2)
    prometheus.until('sum(rbd_worker_directories_trashed_total{cause="plan"})', 1)
    at_source = f'{{instance="{watched.one.address}:{METRICS_PORT}"}}'
    prometheus.until(f"rbd_worker_downtime_seconds_count{at_source}", 1)
    prometheus.until("sum(rbd_worker_staged_bytes_total) > bool 0", 1)
    prometheus.until('sum(rbd_worker_tap_state{state="hearing"})', 2)
    prometheus.until("sum(rbd_worker_open_migrations)", 0)
    answered = 'rbd_worker_rpc_calls_total{method="pre_live_migration",result="ok"}'
    prometheus.until(f"sum({answered})", 1)
    processes.wait_until(lambda: {rule["health"] for rule in prometheus.rules()} == {"ok"},
                         SECONDS, "that each rule is evaluated", prometheus.log)
    rules = prometheus.rules()
    assert [r["name"] for r in rules if r["state"] != "inactive"] == []


def test_the_time_in_which_both_hosts_watch_the_disk_is_measured(fleet: Fleet) -> None:
    fleet.start(libvirt=SLOW)
    guest = fleet.lab.define_guest(fleet.one, busy=True)
    guest.wait_for_console(fleet.one)
    order = fleet.move(guest, fleet.one, fleet.two)
    both = {fleet.one.address, fleet.two.address}
    fleet.until(lambda: set(guest.watchers()) == both, "both hosts at the disk")
    time.sleep(processes.patience(6))
    fleet.one.run([worker.program("rbd-workerctl"), *worker.CONFIG_FILES, "migration", "abort",
                   order.uuid])
    fleet.closed(order)
    fleet.until(lambda: overlaps(fleet.one)["count"] == 1, "the end of the measurement", SECONDS)
    assert overlaps(fleet.one)["sum"] > 0
    assert overlaps(fleet.two)["count"] == 0


def overlaps(host: labs.Host) -> dict[str, float]:
    """How many were measured on that host, and their seconds together."""
    _, text = answer(host, "/metrics")
    return {part: float(value) for part, value in re.findall(
        r"^rbd_worker_watcher_overlap_seconds_(count|sum) (\S+)$", text, re.MULTILINE)}


def test_health_is_well_and_a_taken_port_ends_nothing(fleet: Fleet) -> None:
    fleet.lab.write_config(fleet.one)
    first = fleet.workers["node1"] = fleet.lab.start_worker(fleet.one).wait_ready()
    status, health = answer(fleet.one, "/healthz")
    assert (status, json.loads(health)["state"]) == (200, "well")
    assert json.loads(health)["hearing"].startswith("hearing")
    status, metrics = answer(fleet.one, "/metrics")
    assert status == 200
    assert 'rbd_worker_build_info{executor="libvirt"' in metrics
    first.stop()
    with occupied(fleet.one):
        second = fleet.restart(fleet.one)
        second.wait_log("there are no metrics and no /healthz")
        assert second.is_running()


@contextlib.contextmanager
def occupied(host: labs.Host) -> collections.abc.Iterator[None]:
    """Somebody else listens at the worker's default address on that host."""
    script = ("import socket\n"
              f"s = socket.create_server(('127.0.0.1', {METRICS_PORT}))\n"
              "print('listening', flush=True)\n"
              "input()")
    with subprocess.Popen(host.command(["python3", "-c", script]), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdin
        assert other.stdout.readline() == b"listening\n"
        yield
        other.stdin.close()


def test_a_listener_hears_of_the_migration_from_both_hosts(fleet: Fleet) -> None:
    with listening(fleet.lab) as heard:
        for host in (fleet.one, fleet.two):
            fleet.lab.write_config(host, notifications=DRIVER)
            fleet.workers[host.name] = fleet.lab.start_worker(host)
        for one in fleet.workers.values():
            one.wait_ready()
        order = fleet.moved(fleet.lab.define_guest(fleet.one), fleet.one, fleet.two)
        wanted = {("rbd_worker.node1", notices.START), ("rbd_worker.node1", notices.END),
                  ("rbd_worker.node2", notices.START), ("rbd_worker.node2", notices.END),
                  ("rbd_worker.node1", notices.TRASHED)}
        fleet.until(lambda: {(m["publisher_id"], m["event_type"]) for m in heard()}
                    >= {(who, event.type) for who, event in wanted}, "the notifications",
                    SECONDS, heard())
        found = heard()
    ends = [m for m in found if m["event_type"] == notices.END.type]
    assert {m["payload"]["outcome"] for m in ends} == {"completed"}
    assert {m["payload"]["request_id"] for m in ends} == {order.request_id}
    assert {m["priority"] for m in ends} == {"INFO"}
    assert "token" not in json.dumps(found)


def test_each_line_of_a_migration_is_found_by_the_id_of_its_request(fleet: Fleet) -> None:
    fleet.start()
    order: LiveMigration = fleet.moved(fleet.lab.define_guest(fleet.one), fleet.one, fleet.two)
    for name, role in (("node1", "source"), ("node2", "destination")):
        fleet.workers[name].wait_log(f"completed as {role}")  # its journal is closed before
        log = fleet.workers[name].log_text
        lines = [line for line in log.splitlines() if order.instance in line]
        assert any(f"completed as {role}" in line for line in lines)
        assert [line for line in lines if f"[None {order.request_id} " not in line] == []


@contextlib.contextmanager
def listening(lab: labs.Lab) -> collections.abc.Iterator[ty.Callable[[], list[dict[str, ty.Any]]]]:
    """A queue for notifications of priority info, as a consumer of OpenStack's makes it."""
    found: list[dict[str, ty.Any]] = []
    exchange = kombu.Exchange("nova", "topic", durable=False)
    queue = kombu.Queue("notifications.info", exchange, "notifications.info", durable=False,
                        auto_delete=False)
    url = lab.broker_url.replace("rabbit://", "amqp://", 1)
    with kombu.Connection(url) as connection, connection.channel() as channel:
        bound = queue(channel)
        bound.declare()

        def heard() -> list[dict[str, ty.Any]]:
            while (message := bound.get(no_ack=True)) is not None:
                found.append(json.loads(json.loads(message.body)["oslo.message"]))
            return found
        yield heard
        bound.delete()
