# SPDX-License-Identifier: Apache-2.0
"""The client on oslo.messaging's in-memory driver; on RabbitMQ in tests/functional."""

import collections.abc
import time
import uuid

import oslo_messaging
import pytest
from oslo_config import cfg

import rpcapi
from devstack.lab import processes
from rpcapi import client, errors, fields, payloads

DESCRIPTION = payloads.Description(host="node2", worker_version="0.1.0", rpc_version="1.0",
                                   executor="nova")
SECRET = "planted-secret"


class Endpoint:
    """A worker of RPC API 1.0 whose answer a test sets."""

    target = oslo_messaging.Target(version="1.0")

    def __init__(self) -> None:
        self.answer: object = DESCRIPTION.to_wire()
        self.requests: list[object] = []

    @oslo_messaging.expected_exceptions(errors.PeerRefused, errors.PeerBusy, errors.PeerUndecided)
    def describe(self, _context: object) -> object:
        return self._answered()

    def look_again(self, _context: object, request: object) -> object:
        self.requests.append(request)
        return self._answered()

    def _answered(self) -> object:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture(scope="module")
def transport() -> oslo_messaging.Transport:
    cfg.CONF([], project="rbd-worker", default_config_files=[])
    return oslo_messaging.get_rpc_transport(
        cfg.CONF, "fake://", allowed_remote_exmods=list(errors.REMOTE_MODULES))


@pytest.fixture(scope="module")
def host() -> str:
    """Nobody else's: the driver's queues are those of the process."""
    return f"node-{uuid.uuid4()}"


@pytest.fixture(scope="module")
def served(transport: oslo_messaging.Transport, host: str) -> collections.abc.Iterator[Endpoint]:
    """One server for all tests: it takes a second to stop."""
    one = Endpoint()
    server = oslo_messaging.get_rpc_server(
        transport, oslo_messaging.Target(exchange=rpcapi.EXCHANGE, topic=rpcapi.TOPIC,
                                         server=host), [one])
    server.start()
    yield one
    server.stop()
    server.wait()


@pytest.fixture
def endpoint(served: Endpoint) -> Endpoint:
    served.answer = DESCRIPTION.to_wire()
    served.requests.clear()
    return served


@pytest.fixture
def peer(transport: oslo_messaging.Transport) -> client.Client:
    return client.Client(transport)


def test_an_answer_comes_back_as_its_type(peer, endpoint, host):
    assert peer.describe(host) == DESCRIPTION


def test_a_request_arrives_as_plain_json_types(peer, endpoint, host):
    endpoint.answer = {"known": True}
    instance = "a05482ec-d71a-48c7-bf99-94d829b20aef"
    reply = peer.look_again(host, payloads.LookRequest(migration="m-1", instance=instance))
    assert reply.known
    assert endpoint.requests == [{"migration": "m-1", "instance": instance}]


@pytest.mark.parametrize("kind", [errors.PeerRefused, errors.PeerBusy, errors.PeerUndecided])
def test_a_peers_answer_of_no_is_raised_with_its_own_words(peer, endpoint, host, kind):
    endpoint.answer = kind("because of this")
    with pytest.raises(kind) as caught:
        peer.describe(host)
    assert (type(caught.value), str(caught.value)) == (kind, "because of this")


@pytest.mark.parametrize("problem", [ValueError(SECRET), KeyError(SECRET), OSError(5, SECRET),
                                     RuntimeError(SECRET)])
def test_a_peers_unforeseen_error_is_named_and_not_quoted(peer, endpoint, host, problem):
    endpoint.answer = problem
    with pytest.raises((client.Unreachable, errors.PeerBusy)) as caught:
        peer.describe(host)
    assert type(problem).__name__ in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("answer", [None, [], {}, {"host": 5}, "x", {"host": "a/b"}])
def test_an_answer_that_breaks_the_contract_is_refused(peer, endpoint, host, answer):
    endpoint.answer = answer
    with pytest.raises(fields.BadPayload):
        peer.describe(host)


def test_a_method_that_the_peer_does_not_have_is_too_new(peer, endpoint, host):
    with pytest.raises(client.TooNew, match="testify"):
        peer.testify(host, payloads.TestifyRequest(asker="a", questions=()))


def test_a_version_that_the_peer_does_not_have_is_too_new(transport, endpoint, host):
    with pytest.raises(client.TooNew, match=r"1\.9"):
        client.Client(transport).call(host, "describe", payloads.Description, 5, version="1.9")


@pytest.mark.parametrize("cap", ["0.9", "2.0"])
def test_a_version_cap_is_kept_without_asking(transport, endpoint, host, cap):
    with pytest.raises(client.TooNew, match="cap"):
        client.Client(transport, version_cap=cap).describe(host)


@pytest.mark.parametrize("cap", ["1.0", "1.9", None])
def test_a_cap_that_allows_a_call_changes_nothing(transport, endpoint, host, cap):
    assert client.Client(transport, version_cap=cap).describe(host) == DESCRIPTION


def test_silence_ends_with_the_calls_own_time_limit(peer, monkeypatch):
    monkeypatch.setattr(client, "ASK_SECONDS", 0.3)
    begin = time.monotonic()
    with pytest.raises(client.Unreachable, match="no answer to describe"):
        peer.describe("nobody")
    assert time.monotonic() - begin < processes.patience(2)


def test_a_host_whose_name_no_queue_can_have_is_told_and_never_called(peer):
    """amqp fails in the middle of such a message, with the connection of all other calls."""
    with pytest.raises(client.Unreachable, match="too long"):
        peer.describe("n" * 245)
    with pytest.raises(client.Unreachable, match="too long"):
        peer.holding("n" * 254, payloads.HoldingReport(host="node1", token="t", instances=()))
