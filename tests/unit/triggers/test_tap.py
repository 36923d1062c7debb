# SPDX-License-Identifier: Apache-2.0
"""The tap on kombu's memory transport, as the embedded demo runs it.

What a real RabbitMQ does to it is in tests/functional/test_tap.py.
"""

import collections.abc
import time
import typing as ty
import uuid

import kombu
import pytest

from devstack.lab import processes
from rbd_worker import errors
from rbd_worker.triggers import broker, tap
from tests.fixtures import wire

LIVE_MIGRATION = wire.enveloped({"method": "live_migration", "args": {}})
REBOOT = wire.enveloped({"method": "reboot_instance", "args": {}})


class Handler:
    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.problems: list[Exception] = []

    def __call__(self, body: bytes) -> None:
        if self.problems:
            raise self.problems.pop(0)
        self.bodies.append(body)


class Nova:
    """Owns an exchange of its own, so that tests do not meet."""

    def __init__(self) -> None:
        self.exchange = f"nova-{uuid.uuid4()}"
        self._connection = kombu.Connection("memory://")
        self.channel = self._connection.channel()

    def make_exchange(self) -> None:
        self.channel.exchange_declare(self.exchange, "topic")

    def publish(self, key: str, body: bytes) -> None:
        self.channel.basic_publish(self.channel.prepare_message(body), self.exchange, key)

    def close(self) -> None:
        self.channel.exchange_delete(self.exchange)
        self._connection.release()


@pytest.fixture
def nova() -> collections.abc.Iterator[Nova]:
    one = Nova()
    yield one
    one.close()


@pytest.fixture
def start(nova: Nova) -> collections.abc.Iterator[collections.abc.Callable[..., tap.Tap]]:
    taps: list[tap.Tap] = []
    settings = broker.BrokerSettings(hosts=(broker.BrokerHost("localhost", 0),), is_memory=True,
                                     control_exchange=nova.exchange)

    def started(host: str, handler: tap.Handler) -> tap.Tap:
        taps.append(tap.Tap(settings, host, tap.TapOptions(probe_interval=1), handler))
        taps[-1].start()
        return taps[-1]
    yield started
    for one in taps:
        assert one.stop()
        assert one.status().state is tap.TapState.STOPPED


def wait_until(is_so: ty.Callable[[], bool]) -> None:
    processes.wait_until(is_so, 5, "what the tap does")


def test_two_hosts_in_one_process_hear_their_own_messages_only(start, nova):
    nova.make_exchange()
    handlers = {"node1": Handler(), "node2": Handler()}
    taps = [start(host, handler) for host, handler in handlers.items()]
    assert all(one.wait_hearing(5) for one in taps)
    nova.publish("compute-alt.node1", LIVE_MIGRATION)
    nova.publish("compute.node2", REBOOT)
    nova.publish("compute.node2", LIVE_MIGRATION + b" ")
    wait_until(lambda: all(handler.bodies for handler in handlers.values()))
    assert handlers["node1"].bodies == [LIVE_MIGRATION]
    assert handlers["node2"].bodies == [LIVE_MIGRATION + b" "]
    assert (taps[1].status().counters.dropped, taps[1].status().counters.handed_on) == (1, 1)


def test_the_exchange_is_waited_for(start, nova):
    one = start("node1", Handler())
    wait_until(lambda: one.status().state is tap.TapState.WAITING)
    assert not one.wait_hearing(0.3)
    assert nova.exchange in one.status().reason
    nova.make_exchange()
    assert one.wait_hearing(5)


def test_the_journals_trouble_keeps_a_message_and_another_error_ends_it(start, nova):
    nova.make_exchange()
    handler = Handler()
    handler.problems = [errors.JournalUnusable(path="/j", reason="full", fix=""),
                        ValueError("x")]
    one = start("node1", handler)
    assert one.wait_hearing(5)
    nova.publish("compute.node1", LIVE_MIGRATION)
    wait_until(lambda: one.status().counters.refused == 1)
    nova.publish("compute.node1", LIVE_MIGRATION)
    wait_until(lambda: handler.bodies == [LIVE_MIGRATION])


def test_the_last_probe_is_told_with_its_time(start, nova):
    nova.make_exchange()
    one = start("node1", Handler())
    assert one.wait_hearing(5)
    first = one.status().last_probe
    assert first is not None
    assert abs(first - time.time()) < 5
    wait_until(lambda: one.status().last_probe not in (None, first))


def test_probes_are_sent_at_their_interval_and_not_more_often(start, nova):
    nova.make_exchange()
    assert start("node1", Handler()).wait_hearing(5)
    nova.channel.queue_declare("all-probes")
    nova.channel.queue_bind("all-probes", nova.exchange, "rbd_worker.tap.node1.probe")
    time.sleep(2.5)
    probes = 0
    while nova.channel.basic_get("all-probes", no_ack=True):
        probes += 1
    assert 2 <= probes <= 3


def test_a_tap_that_never_started_can_be_stopped():
    settings = broker.BrokerSettings(hosts=(broker.BrokerHost("localhost", 0),), is_memory=True)
    assert tap.Tap(settings, "node1", tap.TapOptions(), Handler()).stop()


def test_consumers_are_unknown_where_there_is_no_queue():
    settings = broker.BrokerSettings(hosts=(broker.BrokerHost("localhost", 0),), is_memory=True)
    assert tap.consumers_of(settings, f"compute.{uuid.uuid4()}") is None
