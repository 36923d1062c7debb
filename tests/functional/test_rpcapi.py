# SPDX-License-Identifier: Apache-2.0
"""The workers' RPC client over a real RabbitMQ: what fails, how fast, and in which words."""

import collections.abc
import time

import oslo_messaging
import pytest
from oslo_config import cfg

import rpcapi
from devstack import lab as labs
from devstack.lab import processes
from rpcapi import client, errors, payloads
from tests.functional.tapping import EXCHANGE, Nova, settings_for

DESCRIPTION = payloads.Description(host="node1", worker_version="0.1.0", rpc_version="1.0",
                                   executor="nova")


class Endpoint:
    """Answers as the worker on node1 would."""

    target = oslo_messaging.Target(version="1.0")

    @oslo_messaging.expected_exceptions(errors.PeerRefused)
    def describe(self, _context: object) -> object:
        return DESCRIPTION.to_wire()

    @oslo_messaging.expected_exceptions(errors.PeerRefused)
    def look_again(self, _context: object, request: object) -> object:
        raise errors.PeerRefused("not on my disk")

    def read_chunk(self, _context: object, request: object) -> object:
        """Takes longer than the time after which a silent peer counts as gone."""
        time.sleep(client.MONITOR_SECONDS + 2)
        return payloads.Chunk(offset=0, data=b"\0\xff", next=2).to_wire()


def transport_to(url: str) -> oslo_messaging.Transport:
    cfg.CONF([], project="rbd-worker", default_config_files=[])
    return oslo_messaging.get_rpc_transport(
        cfg.CONF, url, allowed_remote_exmods=list(errors.REMOTE_MODULES))


@pytest.fixture
def transport(lab: labs.Lab) -> collections.abc.Iterator[oslo_messaging.Transport]:
    one = transport_to(lab.broker_url)
    yield one
    one.cleanup()


@pytest.fixture
def server(transport: oslo_messaging.Transport,
           ) -> collections.abc.Iterator[oslo_messaging.MessageHandlingServer]:
    target = oslo_messaging.Target(exchange=rpcapi.EXCHANGE, topic=rpcapi.TOPIC, server="node1")
    one = oslo_messaging.get_rpc_server(transport, target, [Endpoint()])
    one.start()
    yield one
    one.stop()
    one.wait()


@pytest.fixture
def peer(lab: labs.Lab,
         server: oslo_messaging.MessageHandlingServer) -> collections.abc.Iterator[client.Client]:
    """Another worker, with connections of its own."""
    own = transport_to(lab.broker_url)
    yield client.Client(own)
    own.cleanup()


LOOK = payloads.LookRequest(migration="m", instance="a05482ec-d71a-48c7-bf99-94d829b20aef")
CHUNK = payloads.ChunkRequest(migration="m", instance=LOOK.instance, path="a", offset=0)


def test_a_call_takes_milliseconds_once_the_connection_is_warm(peer):
    assert peer.describe("node1") == DESCRIPTION
    begin = time.monotonic()
    for _ in range(20):
        peer.describe("node1")
    assert (time.monotonic() - begin) / 20 < processes.patience(0.1)


def test_a_host_without_a_worker_is_noticed_at_once(peer):
    peer.describe("node1")
    begin = time.monotonic()
    with pytest.raises(client.Unreachable, match="no worker"):
        peer.describe("node9")
    assert time.monotonic() - begin < processes.patience(1)


def test_a_worker_that_ended_is_noticed_in_seconds_also_during_a_long_call(peer, server):
    peer.describe("node1")
    server.stop()
    server.wait()
    begin = time.monotonic()
    with pytest.raises(client.Unreachable, match="no answer"):
        peer.read_chunk("node1", CHUNK)
    assert time.monotonic() - begin < processes.patience(client.MONITOR_SECONDS + 2)


def test_a_long_call_goes_on_while_the_peer_shows_signs_of_life(peer):
    assert peer.read_chunk("node1", CHUNK).data == b"\0\xff"


def test_a_refusal_is_the_peers_sentence_and_no_traceback(peer):
    with pytest.raises(errors.PeerRefused) as caught:
        peer.look_again("node1", LOOK)
    assert str(caught.value) == "not on my disk"


def test_an_unknown_method_and_version_are_too_new(peer):
    with pytest.raises(client.TooNew):
        peer.testify("node1", payloads.TestifyRequest(asker="node2", questions=()))
    with pytest.raises(client.TooNew):
        peer.call("node1", "describe", payloads.Description, 5, version="1.9")


def test_a_broker_that_is_away_is_noticed_before_the_first_call():
    own = transport_to("rabbit://a:b@127.0.0.1:9/")
    begin = time.monotonic()
    with pytest.raises(client.Unreachable):
        client.Client(own).describe("node1")
    assert time.monotonic() - begin < processes.patience(5)


def test_a_broker_that_went_away_is_noticed_and_found_again(peer, lab):
    peer.describe("node1")
    lab.broker.stop()
    begin = time.monotonic()
    with pytest.raises(client.Unreachable):
        peer.describe("node1")
    assert time.monotonic() - begin < processes.patience(10)
    lab.broker.start()
    end = time.monotonic() + processes.patience(30)
    while True:
        try:
            assert peer.describe("node1") == DESCRIPTION
            return
        except client.Unreachable:
            assert time.monotonic() < end
            time.sleep(0.5)


def test_novas_exchange_is_never_declared(peer, lab):
    peer.describe("node1")
    nova = Nova(settings_for(lab.broker_url))
    assert not nova.has_exchange(), EXCHANGE
    nova.close()


@pytest.mark.parametrize("query", ["", "?use_queue_manager=true"])
def test_answers_never_come_by_nova_computes_own_queue(lab, server, tmp_path, query):
    """Its name is that of ``processname``, which the worker reads in the same nova.conf."""
    (tmp_path / "nova.conf").write_text(
        f"[DEFAULT]\ntransport_url = {lab.broker_url}{query}\n"
        f"[oslo_concurrency]\nlock_path = {tmp_path}\n"
        "[oslo_messaging_rabbit]\nuse_queue_manager = true\nhostname = of-a-test\n"
        f"processname = nova-compute{len(query)}\n")
    cfg.CONF(["--config-file", str(tmp_path / "nova.conf")], project="rbd-worker")
    own = client.transport_for(cfg.CONF)
    assert client.Client(own).describe("node1") == DESCRIPTION
    nova = Nova(settings_for(lab.broker_url))
    assert nova.queue(f"reply_of-a-test:nova-compute{len(query)}:1") is None
    nova.close()
    own.cleanup()
