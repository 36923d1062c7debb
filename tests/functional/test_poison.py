# SPDX-License-Identifier: Apache-2.0
"""Messages on the workers' own exchange that are none: the next call is answered all the same."""

import collections.abc
import json
import time

import kombu
import pytest

import rpcapi
from devstack import lab as labs
from rpcapi import client, payloads
from tests.functional.fleet import Fleet
from tests.functional.test_rpcapi import transport_to

pytestmark = pytest.mark.lab


def _enveloped(inner: str) -> bytes:
    return json.dumps({"oslo.version": "2.0", "oslo.message": inner}).encode()


def _call(method: object, **args: object) -> bytes:
    return _enveloped(json.dumps({"method": method, "args": args, "version": "1.0",
                                  "_unique_id": "u", "_msg_id": "m", "_reply_q": "nobody"}))


DEEP = "[" * 100_000 + "]" * 100_000
POISON = {
    "no JSON": b"\xff\xfe", "nothing": b"", "a number": b"7", "an envelope of another version":
    b'{"oslo.version": "9.0", "oslo.message": "{}"}', "deep JSON": DEEP.encode(),
    "deep JSON inside": _enveloped(DEEP), "a deep argument": _enveloped(
        '{"method": "look_again", "version": "1.0", "args": {"request": ' + DEEP + "}}"),
    "a list inside": _enveloped("[]"), "no method": _enveloped("{}"),
    "a method that is none": _call(["describe"]),
    "a private method": _call("_testify", request={}),
    "an attribute": _call("target"), "too many arguments": _call("describe", request={}, more=1),
    "10 MiB": _call("look_again", request={"migration": "x" * (10 << 20)}),
}


@pytest.fixture
def attacker(lab: labs.Lab, started: Fleet) -> collections.abc.Iterator[kombu.Producer]:
    url = lab.broker_url.replace("rabbit://", "pyamqp://", 1)
    with kombu.Connection(url) as connection:
        yield connection.Producer()


@pytest.fixture
def peer(lab: labs.Lab) -> collections.abc.Iterator[client.Client]:
    own = transport_to(lab.broker_url)
    yield client.Client(own)
    own.cleanup()  # or it looks for a broker as long as the tests' process is there


def test_no_message_ends_the_workers_hearing(
        started: Fleet, attacker: kombu.Producer, peer: client.Client) -> None:
    for what, body in POISON.items():
        attacker.publish(body, exchange=rpcapi.EXCHANGE, routing_key=f"{rpcapi.TOPIC}.node1",
                         serializer=None, content_type="application/json",
                         content_encoding="utf-8")
        time.sleep(0.2)
        answer = peer.describe("node1")
        assert isinstance(answer, payloads.Description), what
    worker = started.workers["node1"]
    assert worker.is_running()
    assert worker.resident_mib() < 400
    size = worker.service.log.stat().st_size
    time.sleep(3)
    assert worker.service.log.stat().st_size - size < 100_000, "one of them comes back for ever"
