# SPDX-License-Identifier: Apache-2.0
"""What another host's worker answers, in this worker's terms."""

import typing as ty

import pytest

from rbd_worker import errors
from rbd_worker.host.peers import Peers
from rpcapi import client as rpc_client
from rpcapi import errors as peer_errors
from rpcapi import fields, payloads

GUEST = "a05482ec-d71a-48c7-bf99-94d829b20aef"
OTHER = "b05482ec-d71a-48c7-bf99-94d829b20aef"


class Answering:
    """Instead of ``rpcapi.client.Client``: every call gives the same answer or error."""

    def __init__(self, answer: object) -> None:
        self.asked: list[tuple[str, str, ty.Any]] = []
        self._answer = answer

    def __getattr__(self, method: str) -> ty.Callable[..., object]:
        def call(host: str, request: ty.Any = None) -> object:
            self.asked.append((method, host, request))
            if isinstance(self._answer, Exception):
                raise self._answer
            return self._answer
        return call


def _peers(answer: object) -> tuple[Peers, Answering]:
    client = Answering(answer)
    return Peers(ty.cast(ty.Any, client), "node01"), client


def _testimony(**changes: ty.Any) -> payloads.Testimony:
    fields = {"host": "node02", "instance": GUEST, "state": "running"} | changes
    return payloads.Testimony(**fields)


_REQUEST: ty.Any = None  # these only pass it on

CALLS: dict[str, ty.Callable[[Peers], object]] = {
    "describe": lambda peers: peers.describe("node02"),
    "pre_live_migration": lambda peers: peers.pre_live_migration("node02", _REQUEST),
    "read_chunk": lambda peers: peers.read_chunk("node02", _REQUEST),
    "post_live_migration": lambda peers: peers.post_live_migration("node02", _REQUEST),
    "rollback_live_migration": lambda peers: peers.rollback_live_migration("node02", _REQUEST),
    "look_again": lambda peers: peers.look_again("node02", _REQUEST),
    "testify": lambda peers: peers.testify("node02", GUEST),
}

#: What the client raises, and what a step of a plan meets.
TRANSLATIONS: list[tuple[Exception, type[errors.Error], type[errors.Error]]] = [
    (rpc_client.Unreachable("no answer"), errors.PeerUnreachable, errors.Transient),
    (rpc_client.TooNew("1.9"), errors.PeerTooNew, errors.Permanent),
    (peer_errors.PeerRefused("no"), errors.PeerSaysNo, errors.Permanent),
    (peer_errors.PeerBusy("later"), errors.PeerUnreachable, errors.Transient),
    (peer_errors.PeerUndecided("who knows"), errors.PeerUndecided, errors.Undecided),
    (fields.BadPayload("Reply: wrong"), errors.PeerSaysNo, errors.Permanent),
]


@pytest.mark.parametrize("method", sorted(CALLS))
@pytest.mark.parametrize(("raised", "expected", "branch"), TRANSLATIONS,
                         ids=[type(t[0]).__name__ for t in TRANSLATIONS])
def test_every_call_translates_every_answer(method: str, raised: Exception,
                                            expected: type[errors.Error],
                                            branch: type[errors.Error]) -> None:
    peers, _ = _peers(raised)
    with pytest.raises(expected) as caught:
        CALLS[method](peers)
    assert isinstance(caught.value, branch)
    assert caught.value.data["host"] == "node02"
    assert caught.value.__cause__ is raised


def test_a_refusal_keeps_the_peers_words() -> None:
    peers, _ = _peers(peer_errors.PeerRefused("no space left for disk.config"))
    with pytest.raises(errors.PeerSaysNo) as caught:
        peers.describe("node02")
    assert str(caught.value) == "the worker on node02 refuses: no space left for disk.config"


def test_a_testimony_is_the_one_that_was_asked_for() -> None:
    peers, client = _peers(payloads.TestifyReply(testimonies=(_testimony(),)))
    assert peers.testify("node02", GUEST) == _testimony()
    ((method, host, request),) = client.asked
    assert (method, host, request.asker) == ("testify", "node02", "node01")
    assert [question.instance for question in request.questions] == [GUEST]


@pytest.mark.parametrize("testimonies", [
    (), (_testimony(instance=OTHER),), (_testimony(host="node03"),)], ids=len)
def test_an_answer_about_something_else_is_none(
        testimonies: tuple[payloads.Testimony, ...]) -> None:
    peers, _ = _peers(payloads.TestifyReply(testimonies=testimonies))
    with pytest.raises(errors.PeerUnreachable):
        peers.testify("node02", GUEST)
