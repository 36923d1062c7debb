# SPDX-License-Identifier: Apache-2.0
"""Pieces of large files that come as messages of their own, through a real broker."""

import collections.abc
import os
import time

import amqp
import pytest

from devstack import lab as labs
from devstack.lab import processes
from rbd_worker.triggers import broker, parcels
from rpcapi import payloads
from tests.functional.fleet import Fleet, states
from tests.functional.tapping import settings_for, wait_until

SECONDS = processes.patience(10)


@pytest.fixture
def settings(lab: labs.Lab) -> broker.BrokerSettings:
    return settings_for(lab.broker_url)


@pytest.fixture
def receiver(settings: broker.BrokerSettings) -> parcels.Receiver:
    return parcels.Receiver(settings, "node2")


@pytest.fixture
def sender(settings: broker.BrokerSettings) -> parcels.Sender:
    return parcels.Sender(settings, "node1")


@pytest.fixture
def forger(settings: broker.BrokerSettings) -> collections.abc.Iterator[amqp.Channel]:
    """Somebody else with RabbitMQ's password."""
    host = settings.hosts[0]
    with amqp.Connection(str(host), host.username, host.password,
                         virtual_host=settings.virtual_host) as connection:
        yield connection.channel()


def expected(receiver: parcels.Receiver) -> parcels.Parcel:
    parcel = receiver.expect()
    assert parcel is not None
    return parcel


def test_what_is_sent_comes_byte_for_byte_and_to_the_one_who_expects_it(receiver, sender):
    one, two = expected(receiver), expected(receiver)
    first, second = os.urandom(1 << 20), b"\0\xff" * 7
    assert sender.send(two.queue, two.token, second)
    assert sender.send(one.queue, one.token, first)
    assert (one.content(SECONDS), two.content(SECONDS)) == (first, second)


def test_a_forged_or_oversized_parcel_is_taken_by_nobody(receiver, sender, forger):
    parcel = expected(receiver)
    for body, token in ((b"forged", "0" * 32), (b"no token", ""),
                        (b"x" * (payloads.MAX_PARCEL_BYTES + 1), parcel.token)):
        forger.basic_publish(amqp.Message(body, correlation_id=token),
                             routing_key=parcel.queue)
    assert parcel.content(1) is None
    other = expected(receiver)
    assert sender.send(other.queue, other.token, b"true")
    assert other.content(SECONDS) == b"true"


def test_a_queue_that_is_gone_is_no_error_and_the_next_pieces_come_otherwise(receiver, sender):
    parcel = expected(receiver)
    assert sender.send(f"{payloads.PARCEL_QUEUE}.{'0' * 32}", parcel.token, b"lost")
    assert parcel.content(0.5) is None
    receiver.forget(parcel)
    assert receiver.expect() is None


def test_a_killed_broker_ends_the_waiting_at_once_and_the_sender_says_so(
        receiver, sender, lab):
    parcel = expected(receiver)
    assert sender.send(parcel.queue, parcel.token, b"first")
    assert parcel.content(SECONDS) == b"first"
    waiting = expected(receiver)
    lab.broker.kill9()
    began = time.monotonic()
    assert waiting.content(processes.patience(60)) is None
    assert time.monotonic() - began < processes.patience(30)
    wait_until(lambda: not sender.send(waiting.queue, waiting.token, b"x" * (1 << 20)))
    receiver.forget(waiting)
    assert receiver.expect() is None
    lab.broker.start()


def test_both_connections_end_when_nothing_is_pulled_any_more(
        receiver, sender, lab, monkeypatch):
    def connections() -> int:
        return int(lab.broker.evaluate("length(rabbit_networking:connections())"))
    before = connections()
    # no shorter, for they have to be seen before
    monkeypatch.setattr(parcels, "IDLE_SECONDS", processes.patience(3))
    parcel = expected(receiver)
    assert sender.send(parcel.queue, parcel.token, b"last")
    assert parcel.content(SECONDS) == b"last"
    receiver.forget(parcel)
    assert connections() == before + 2
    wait_until(lambda: connections() == before)
    again = expected(receiver)
    assert sender.send(again.queue, again.token, b"again")
    assert again.content(SECONDS) == b"again"


@pytest.mark.parametrize("cap", [None, "1.0"], ids=["with parcels", "with a peer of 1.0"])
def test_a_large_file_arrives_whole(fleet: Fleet, cap: str | None):
    options = {} if cap is None else {"rpc_version_cap": cap}
    fleet.start(**options)
    guest = fleet.lab.define_guest(fleet.one)
    file = guest.directory(fleet.one) / "disk.config"
    file.write_bytes(os.urandom(9 << 20) + bytes(5 << 20) + os.urandom((3 << 20) + 17))
    before = states(guest.directory(fleet.one))["disk.config"]
    fleet.moved(guest, fleet.one, fleet.two)
    assert states(guest.directory(fleet.two))["disk.config"] == before
    log = fleet.workers["node2"].log_text
    assert ("come by a queue of their own" in log) is (cap is None)
