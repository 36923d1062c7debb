# SPDX-License-Identifier: Apache-2.0
"""How far casts are kept when RabbitMQ or the worker is away: what doc/broker.md promises."""

import collections.abc
import threading
import time

import pytest

from devstack import lab as labs
from devstack.lab import processes
from rbd_worker.triggers import broker, tap
from tests.functional.tapping import (
    HOST,
    QUEUE,
    Handler,
    Nova,
    cast,
    options,
    settings_for,
    wait_until,
)

Start = collections.abc.Callable[..., tap.Tap]

DURABLE = pytest.mark.parametrize("durable", [False, True], ids=["transient", "durable"])


@pytest.fixture
def settings(lab: labs.Lab) -> broker.BrokerSettings:
    return settings_for(lab.broker_url)


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def start(settings: broker.BrokerSettings,
          handler: Handler) -> collections.abc.Iterator[Start]:
    """Starts taps that hear, and stops them at the end."""
    taps: list[tap.Tap] = []

    def started(**changes: object) -> tap.Tap:
        taps.append(tap.Tap(settings, HOST, options(**changes), handler))
        taps[-1].start()
        assert taps[-1].wait_hearing(processes.patience(30))
        return taps[-1]
    yield started
    for one in taps:
        assert one.stop()


@pytest.fixture
def nova(settings: broker.BrokerSettings) -> collections.abc.Iterator[
        collections.abc.Callable[[bool], Nova]]:
    """Connections of Nova; each makes the exchange anew where it is gone."""
    made: list[Nova] = []

    def connected(durable: bool) -> Nova:
        made.append(Nova(settings, durable, confirms=True))
        made[-1].make_exchange()
        return made[-1]
    yield connected
    made[-1].close()


@DURABLE
def test_a_cast_that_waits_for_the_worker_survives_a_killed_broker(
        start, nova, handler, lab, durable):
    before = nova(durable)
    start().stop()
    for number in range(5):
        before.publish(cast(number))
    lab.broker.kill_settled()
    lab.broker.start()
    nova(durable)
    start()
    assert handler.wait_for(5) == ["0", "1", "2", "3", "4"]


def test_with_a_durable_exchange_a_cast_is_heard_that_was_sent_before_the_worker_was_back(
        start, nova, handler, lab):
    nova(True)
    start().stop()
    lab.broker.kill_settled()
    lab.broker.start()
    nova(True).publish(cast("early"))
    start()
    assert handler.wait_for(1) == ["early"]


def test_without_one_a_cast_is_lost_until_the_worker_has_bound_its_queue_again(
        start, nova, handler, lab):
    """The limit that the manual states: RabbitMQ drops the binding with the exchange."""
    nova(False)
    start().stop()
    lab.broker.kill9()
    lab.broker.start()
    after = nova(False)
    after.publish(cast("too early"))
    start()
    after.publish(cast("in time"))
    assert handler.wait_for(1) == ["in time"]


def test_a_binding_lost_right_after_a_probe_is_noticed_within_a_minute_by_default(
        start, nova, caplog):
    """A queue that takes everything keeps RabbitMQ from telling that the probe had no place."""
    one = nova(False)
    one.channel.queue_declare("catch-all", durable=False, auto_delete=False)
    one.channel.queue_bind("catch-all", "nova", "#")
    listener = start(probe_interval=tap.TapOptions().probe_interval)
    one.unbind()
    began = time.monotonic()
    wait_until(lambda: listener.status().counters.rebinds > 0, 60)
    assert listener.wait_hearing(processes.patience(10))
    assert time.monotonic() - began < processes.patience(60)
    assert "casts may have been missed" in caplog.text


def test_what_was_delivered_and_not_yet_journaled_comes_again_after_the_broker_was_killed(
        settings, start, nova, lab):
    nova(False)
    entered: list[bytes] = []
    leave = threading.Event()

    def slow(body: bytes) -> None:
        entered.append(body)
        leave.wait(processes.patience(60))
    one = tap.Tap(settings, HOST, options(), slow)
    one.start()
    assert one.wait_hearing(processes.patience(30))
    nova(False).publish(cast("again"))
    wait_until(lambda: entered)
    lab.broker.kill_settled()
    lab.broker.start()
    nova(False)
    leave.set()
    wait_until(lambda: len(entered) == 2, 40, lambda: (one.status(), nova(False).queue(QUEUE)))
    assert one.wait_hearing(processes.patience(30))
    assert one.stop()
    assert entered == [cast("again")] * 2
    assert nova(False).queue(QUEUE).message_count == 0
