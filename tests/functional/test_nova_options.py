# SPDX-License-Identifier: Apache-2.0
"""Nova's own end by oslo.messaging, under each option that changes what is on the wire."""

import collections.abc
import pathlib
import threading

import oslo_messaging
import pytest
from oslo_config import cfg

from devstack import lab as labs
from devstack.lab import processes
from rbd_worker.triggers import broker, casts, tap
from tests.fixtures import wire
from tests.functional.fleet import Fleet
from tests.functional.tapping import HOST, Handler, options, wait_until

CAST = wire.message("success/live_migration")

OPTIONS = [
    {},
    {"amqp_durable_queues": True},
    {"amqp_auto_delete": True},
    {"kombu_compression": "gzip"},
    {"kombu_compression": "bzip2"},
    {"kombu_compression": "xz"},
    {"rabbit_qos_prefetch_count": 5, "heartbeat_timeout_threshold": 0},
    {"enable_cancel_on_failover": True, "heartbeat_in_pthread": False},
    {"use_queue_manager": True, "hostname": "of-a-test", "processname": "nova-compute"},
    {"rabbit_quorum_queue": True, "rabbit_quorum_delivery_limit": 7},
    {"rabbit_quorum_queue": True, "rabbit_transient_quorum_queue": True},
    {"rabbit_quorum_queue": True, "rabbit_transient_quorum_queue": True,
     "rabbit_stream_fanout": True, "rabbit_qos_prefetch_count": 10, "use_queue_manager": True,
     "hostname": "of-a-test", "processname": "nova-compute"},
]


class Manager:
    """nova-compute's end."""

    target = oslo_messaging.Target(version="6.5")

    def __init__(self) -> None:
        self.heard = threading.Semaphore(0)

    def live_migration(self, _context: object, **_arguments: object) -> None:
        self.heard.release()


class Nova:
    """Its two RPC servers on this host, and whoever casts to them."""

    def __init__(self) -> None:
        self._transport = oslo_messaging.get_rpc_transport(cfg.CONF)
        self.manager = Manager()
        self._servers: list[oslo_messaging.MessageHandlingServer] = []
        self.start()

    def start(self) -> None:
        self._servers = [
            oslo_messaging.get_rpc_server(
                self._transport, oslo_messaging.Target(topic=topic, server=HOST), [self.manager])
            for topic in ("compute", "compute-alt")]
        for server in self._servers:
            server.start()

    def stop(self) -> None:
        for server in self._servers:
            server.stop()
            server.wait()

    def cast(self, topic: str) -> None:
        target = oslo_messaging.Target(topic=topic, server=HOST, version="6.0")
        oslo_messaging.get_rpc_client(self._transport, target).cast(
            {"request_id": CAST["_context_request_id"]}, "live_migration", **CAST["args"])

    def close(self) -> None:
        self.stop()
        self._transport.cleanup()


@pytest.fixture(params=OPTIONS, ids=lambda chosen: " ".join(map(str, chosen)) or "none")
def settings(request: pytest.FixtureRequest, lab: labs.Lab,
             tmp_path: pathlib.Path) -> broker.BrokerSettings:
    lines = ["[DEFAULT]", f"transport_url = {lab.broker_url}", "rpc_ping_enabled = true",
             "[oslo_concurrency]", f"lock_path = {tmp_path}", "[oslo_messaging_rabbit]",
             *(f"{name} = {value}" for name, value in request.param.items())]
    (tmp_path / "nova.conf").write_text("\n".join(lines))
    cfg.CONF(["--config-file", str(tmp_path / "nova.conf")], project="rbd-worker")
    return broker.from_conf(cfg.CONF)


@pytest.fixture
def nova(settings: broker.BrokerSettings) -> collections.abc.Iterator[Nova]:
    one = Nova()
    yield one
    one.close()


def test_the_casts_of_both_topics_are_heard_and_read_and_nova_loses_none(settings, nova):
    handler = Handler()
    one = tap.Tap(settings, HOST, options(), handler)
    one.start()
    try:
        assert one.wait_hearing(processes.patience(20))
        nova.cast("compute")
        nova.cast("compute-alt")
        nova.stop()
        nova.start()
        nova.cast("compute-alt")
        wait_until(lambda: len(handler.bodies) == 3)
        for _ in handler.bodies:
            assert nova.manager.heard.acquire(timeout=processes.patience(10))
        for body in handler.bodies:
            heard = casts.parse(body, host=HOST)
            assert isinstance(heard, casts.LiveMigrationCast)
            assert heard.request_id == CAST["_context_request_id"]
    finally:
        assert one.stop()


def test_the_workers_calls_and_questions_to_all_work_under_the_most_unusual_options(fleet: Fleet):
    fleet.start(rabbit=OPTIONS[-1] | {"kombu_compression": "bzip2"},
                audit_interval=3, audit_min_age=1, audit_pause=1)
    guest, other = (fleet.lab.define_guest(fleet.one) for _ in range(2))
    fleet.moved(guest, fleet.one, fleet.two)
    (fleet.two.nova_instances / other.uuid).mkdir()
    fleet.until(lambda: len(fleet.trash(fleet.two)) == 1, "the audit of a leftover")
