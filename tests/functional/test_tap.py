# SPDX-License-Identifier: Apache-2.0
"""The tap on a real RabbitMQ: what it hears, and that nothing is lost on the way."""

import collections.abc
import gc
import logging
import pathlib
import threading
import time
import zlib

import amqp
import pytest

from devstack import lab as labs
from devstack.lab import processes
from rbd_worker import errors
from rbd_worker.triggers import broker, tap
from tests.fixtures import wire
from tests.functional.tapping import (
    BRIDGE,
    EXCHANGE,
    HOST,
    QUEUE,
    Handler,
    Nova,
    cast,
    irrelevant,
    options,
    settings_for,
    wait_until,
)

Start = collections.abc.Callable[..., tap.Tap]


@pytest.fixture
def settings(lab: labs.Lab) -> broker.BrokerSettings:
    return settings_for(lab.broker_url)


@pytest.fixture
def nova(settings: broker.BrokerSettings) -> collections.abc.Iterator[Nova]:
    one = Nova(settings)
    one.make_exchange()
    yield one
    one.close()


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def start(settings: broker.BrokerSettings,
          handler: Handler) -> collections.abc.Iterator[Start]:
    """Starts taps that hear, and stops them at the end."""
    taps: list[tap.Tap] = []

    def started(is_heard: bool = True, **changes: object) -> tap.Tap:
        one = tap.Tap(settings, HOST, options(**changes), handler)
        taps.append(one)
        one.start()
        assert not is_heard or one.wait_hearing(processes.patience(20))
        return one
    yield started
    for one in taps:
        assert one.stop()


def test_casts_of_both_topics_are_handed_on_and_others_are_not(start, nova, handler):
    one = start()
    nova.publish(cast("old"), "compute")
    nova.publish(irrelevant())
    nova.publish(cast("new"), "compute-alt")
    assert handler.wait_for(2) == ["old", "new"]
    wait_until(lambda: nova.queue(QUEUE).message_count == 0)
    counters = one.status().counters
    assert (counters.heard, counters.dropped, counters.handed_on, counters.refused) == (3, 1, 2, 0)


def test_nova_loses_nothing(start, nova, handler):
    nova.channel.queue_declare(f"compute.{HOST}", durable=False, auto_delete=False)
    nova.channel.queue_bind(f"compute.{HOST}", EXCHANGE, f"compute.{HOST}")
    start()
    for number in range(200):
        nova.publish(cast(number))
    handler.wait_for(200)
    wait_until(lambda: nova.queue(f"compute.{HOST}").message_count == 200)


def test_the_exchange_is_waited_for_and_never_made(start, settings, caplog, lab):
    caplog.set_level(logging.INFO)
    one = start(is_heard=False)
    early = Nova(settings)
    wait_until(lambda: one.status().state is tap.TapState.WAITING)
    time.sleep(3)
    assert not early.has_exchange()
    assert sum("waiting for the exchange" in line for line in caplog.messages) == 1
    early.make_exchange()
    assert one.wait_hearing(processes.patience(10))
    early.close()


def test_what_is_sent_while_the_worker_is_away_is_heard_later(start, nova, handler):
    start().stop()
    for number in range(5):
        nova.publish(cast(number))
    assert handler.calls == 0
    start()
    assert handler.wait_for(5) == ["0", "1", "2", "3", "4"]


def test_a_restart_of_the_broker_loses_neither_queue_nor_binding(start, settings, lab, handler):
    """RabbitMQ forgets the exchange, which is not durable, and with it all bindings."""
    before = Nova(settings)
    before.make_exchange()
    one = start()
    lab.broker.restart()
    after = Nova(settings)
    assert not after.has_exchange()
    after.make_exchange()
    wait_until(lambda: one.is_hearing and one.status().counters.reconnects > 0, 30)
    after.publish(cast("after"))
    assert handler.wait_for(1) == ["after"]
    after.close()


@pytest.mark.parametrize("is_told", [True, False], ids=["returned", "swallowed"])
def test_a_lost_binding_is_noticed_and_made_again(start, nova, handler, caplog, is_told):
    """RabbitMQ says so only where no other queue takes the probe."""
    if not is_told:
        nova.channel.queue_declare("catch-all", durable=False, auto_delete=False)
        nova.channel.queue_bind("catch-all", EXCHANGE, "#")
    one = start()
    nova.unbind()
    nova.publish(cast("missed"))
    wait_until(lambda: one.status().counters.rebinds > 0)
    assert one.wait_hearing(processes.patience(5))
    assert "casts may have been missed" in caplog.text
    nova.publish(cast("heard"))
    assert handler.wait_for(1) == ["heard"]


def test_a_queue_that_was_deleted_is_made_again(start, nova, handler):
    one = start()
    nova.channel.queue_delete(QUEUE)
    wait_until(lambda: one.status().counters.reconnects > 0 and one.is_hearing)
    nova.publish(cast("heard"))
    assert handler.wait_for(1) == ["heard"]


def test_changed_options_replace_the_queue_and_lose_nothing(start, nova, handler, lab):
    start(message_ttl=600).stop()
    for number in range(200):
        nova.publish(cast(number))
    one = start(message_ttl=700)
    for number in range(200, 400):
        nova.publish(cast(number))
    handler.wait_for(400)
    wait_until(lambda: nova.queue(BRIDGE) is None and one.status().queue == QUEUE)
    nova.publish(cast(400))
    wait_until(lambda: "400" in handler.numbers)
    assert set(map(int, handler.numbers)) == set(range(401))
    assert one.is_hearing
    assert '"x-message-ttl">>,signedint,700000' in queue_arguments(lab)


def test_two_outdated_queues_are_both_emptied_and_replaced(start, nova, handler):
    """As a kill amid one replacement and another change of options leave them."""
    for number, queue in enumerate((QUEUE, BRIDGE)):
        nova.channel.queue_declare(queue, durable=True, auto_delete=False,
                                   arguments={"x-message-ttl": 60000 + number})
        nova.channel.queue_bind(queue, EXCHANGE, f"compute.{HOST}")
    nova.publish(cast("in both"))
    one = start()
    nova.publish(cast("now"))
    wait_until(lambda: nova.queue(BRIDGE) is None and one.is_hearing)
    nova.publish(cast("later"))
    wait_until(lambda: "later" in handler.numbers)
    assert set(handler.numbers) == {"in both", "now", "later"}
    assert one.status().queue == QUEUE


def test_a_message_is_kept_until_the_journal_takes_it(start, nova, handler):
    one = start()
    full = errors.JournalUnusable(path="/j", reason="full", fix="Free space")
    handler.problems = [full] * 1000
    for number in range(100):
        nova.publish(cast(number))
    wait_until(lambda: one.status().state is tap.TapState.HELD and handler.calls > 2)
    assert "Free space" in one.status().reason
    handler.problems = []
    assert sorted(map(int, handler.wait_for(100))) == list(range(100))
    assert handler.numbers[0] == "0"
    assert one.wait_hearing(processes.patience(5))
    assert one.status().counters.refused == 0


def test_a_message_that_the_journal_never_took_is_delivered_to_the_next_worker(
        start, nova, handler):
    one = start()
    handler.problems = [errors.JournalUnusable(path="/j", reason="full", fix="")] * 1000
    nova.publish(cast("kept"))
    wait_until(lambda: one.status().state is tap.TapState.HELD)
    assert one.stop()
    handler.problems = []
    start()
    assert handler.wait_for(1) == ["kept"]


def test_a_message_that_cannot_be_handled_does_not_come_back(start, nova, handler, caplog):
    one = start()
    handler.problems = [RuntimeError(f"bug with {wire.SECRET}"),
                        errors.BadInput(what="a message", reason="it is strange")]
    for number in range(3):
        nova.publish(cast(number))
    assert handler.wait_for(1) == ["2"]
    one.stop()
    assert (nova.queue(QUEUE).message_count, one.status().counters.refused) == (0, 2)
    refusals = [line for line in caplog.messages if "was refused" in line]
    assert "RuntimeError at " in refusals[0]
    assert "it is strange" in refusals[1]
    assert wire.SECRET not in caplog.text
    assert "live_migration" not in caplog.text
    assert "Traceback" not in caplog.text


def test_stop_waits_for_the_message_in_hand_and_gives_the_others_back(settings, nova):
    entered, leave = threading.Event(), threading.Event()
    done: list[bytes] = []

    def slow(body: bytes) -> None:
        entered.set()
        leave.wait(processes.patience(60))
        done.append(body)
    one = tap.Tap(settings, HOST, options(), slow)
    one.start()
    assert one.wait_hearing(processes.patience(20))
    for number in range(3):
        nova.publish(cast(number))
    assert entered.wait(processes.patience(10))
    assert not one.stop(timeout=0.5)  # it is told, and waits
    assert done == []
    leave.set()
    assert one.stop(timeout=processes.patience(30))
    assert done == [cast(0)]
    wait_until(lambda: nova.queue(QUEUE).message_count == 2)


def test_a_stop_takes_no_time_when_nothing_is_in_hand(start, nova):
    one = start()
    begin = time.monotonic()
    assert one.stop()
    assert time.monotonic() - begin < processes.patience(0.5)


def test_a_message_of_50_mib_reaches_the_handler_and_the_next_one_too(start, nova, handler):
    start()
    huge = wire.enveloped({"method": "live_migration", "_unique_id": "huge",
                           "args": {"padding": "x" * (50 << 20)}})
    nova.publish(huge)
    nova.publish(cast("next"))
    assert handler.wait_for(2, 60) == ["huge", "next"]


def test_compressed_messages_are_read_and_a_bomb_is_not_unpacked(start, nova, handler):
    start()
    packed = {"compression": "application/x-gzip"}
    for body in (zlib.compress(cast("small")), zlib.compress(bytes(1 << 28))):
        nova.channel.basic_publish(amqp.Message(body, application_headers=packed),
                                   EXCHANGE, f"compute.{HOST}")
    wait_until(lambda: len(handler.bodies) == 2, 60)
    assert handler.bodies[0] == cast("small")
    assert len(handler.bodies[1]) < 5 << 20


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "no-such-encoding"])
def test_a_body_reaches_the_handler_as_the_bytes_that_were_sent(start, nova, handler, encoding):
    start()
    body = cast("x").replace(b"{}", b'{"name": "\xe4\xff"}')
    nova.channel.basic_publish(
        amqp.Message(body, content_type="application/json", content_encoding=encoding),
        EXCHANGE, f"compute.{HOST}")
    wait_until(lambda: handler.bodies == [body])


@pytest.mark.timeout(420)
def test_a_flood_of_irrelevant_messages_needs_no_memory(start, nova, handler):
    """At most ``tap_prefetch`` (50) bodies are here at a time; all of them would be 60 MiB.

    The bound leaves room for what the allocator does not give back at once.
    """
    one = start(max_length=200_000)
    body = irrelevant(padding=500)
    before = _resident_mib()
    for number in range(100_000):
        nova.publish(body)
        if number % 10_000 == 0:  # a broker that is far behind lets publishers wait too long
            wait_until(lambda n=number: one.status().counters.dropped > n - 20_000, 60)
    nova.publish(cast("after"))
    assert handler.wait_for(1, 240) == ["after"]
    gc.collect()
    assert one.status().counters.dropped == 100_000
    assert _resident_mib() - before < 15


def test_the_oldest_leave_first_where_the_queue_is_full(start, nova, settings, handler):
    start(max_length=100).stop()
    sure = Nova(settings, confirms=True)  # all are in the queue before the first is heard
    for number in range(150):
        sure.publish(cast(number))
    sure.close()
    start(max_length=100)
    assert handler.wait_for(100) == [str(number) for number in range(50, 150)]


def test_the_queue_is_durable_and_bounded_in_time_and_length(start, nova, lab):
    start(queue_expires=3600, message_ttl=300, max_length=1234)
    arguments = queue_arguments(lab)
    for piece in ('"x-expires">>,signedint,3600000', '"x-message-ttl">>,signedint,300000',
                  '"x-max-length">>,signedint,1234', '"drop-head"', '"classic"'):
        assert piece in "".join(arguments.split())


def test_a_quorum_queue_is_used_where_nova_uses_them(lab, nova, handler):
    settings = settings_for(lab.broker_url, rabbit_quorum_queue=True)
    one = tap.Tap(settings, HOST, options(), handler)
    one.start()
    try:
        assert one.wait_hearing(processes.patience(20))
        nova.publish(cast("heard"))
        assert handler.wait_for(1) == ["heard"]
        assert '"quorum"' in queue_arguments(lab)
    finally:
        one.stop()


def test_consumers_of_a_queue_are_counted(start, nova, settings):
    assert tap.consumers_of(settings, QUEUE) is None
    one = start()
    assert tap.consumers_of(settings, QUEUE) == 1
    one.stop()
    wait_until(lambda: tap.consumers_of(settings, QUEUE) == 0)


def queue_arguments(lab: labs.Lab) -> str:
    """Of the tap's queue, which is the only one of the vhost, as Erlang writes them."""
    return lab.broker.evaluate(
        "lists:flatten(io_lib:format(\"~0p\", "
        "[[element(6, Q) || Q <- rabbit_amqqueue:list(<<\"rbdw\">>)]]))").replace('\\"', '"')


def _resident_mib() -> int:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 >> 20
