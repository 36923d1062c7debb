# SPDX-License-Identifier: Apache-2.0
"""What another host's worker answers, in this worker's terms."""

import dataclasses
import types
import typing as ty

import msgspec
import pytest

from rbd_worker import errors
from rbd_worker.host import peers as peers_module
from rbd_worker.host.peers import Peers
from rpcapi import client as rpc_client
from rpcapi import errors as peer_errors
from rpcapi import fields, payloads

GUEST = "a05482ec-d71a-48c7-bf99-94d829b20aef"
OTHER = "b05482ec-d71a-48c7-bf99-94d829b20aef"


class Answering:
    """Instead of ``rpcapi.client.Client``: an answer, an error, or what makes an answer."""

    def __init__(self, answer: object) -> None:
        self.asked: list[tuple[str, str, ty.Any]] = []
        self._answer = answer

    def __getattr__(self, method: str) -> ty.Callable[..., object]:
        def call(host: str, request: ty.Any = None) -> object:
            self.asked.append((method, host, request))
            if isinstance(self._answer, Exception):
                raise self._answer
            return self._answer(request) if callable(self._answer) else self._answer
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


# -- parcels -----------------------------------------------------------------------

FAR = payloads.ChunkRequest(migration="m", instance=GUEST, path="disk.config",
                            offset=peers_module.PARCELS_FROM)
NEAR = msgspec.structs.replace(FAR, offset=FAR.offset - 1)


@dataclasses.dataclass
class Parcels:
    """Expects parcels, of which each brings ``content``; remembers which were let go."""

    content: bytes | None
    has_queue: bool = True
    forgotten: list[object] = dataclasses.field(default_factory=list)

    def expect(self) -> ty.Any:
        if not self.has_queue:
            return None
        return types.SimpleNamespace(queue=f"{payloads.PARCEL_QUEUE}.{'a' * 32}",
                                     token="b" * 32, content=lambda _seconds: self.content)

    def forget(self, parcel: object) -> None:
        self.forgotten.append(parcel)


def _chunk(data: bytes, apart: int = 0) -> payloads.Chunk:
    return payloads.Chunk(offset=FAR.offset, data=data, next=FAR.offset + 1, apart=apart)


def _asked(parcels: Parcels, answer: object, request: payloads.ChunkRequest = FAR,
           ) -> tuple[payloads.Chunk, list[ty.Any]]:
    client = Answering(answer)
    chunk = Peers(ty.cast(ty.Any, client), "node01", parcels).read_chunk("node02", request)
    return chunk, [request for _, _, request in client.asked]


def test_a_piece_far_into_a_file_comes_by_the_queue_that_was_named() -> None:
    parcels = Parcels(b"content")
    chunk, (request,) = _asked(parcels, _chunk(b"", apart=7))
    assert chunk == _chunk(b"content")
    assert (request.queue, request.token) == (f"{payloads.PARCEL_QUEUE}.{'a' * 32}", "b" * 32)
    assert len(parcels.forgotten) == 1


@pytest.mark.parametrize(("parcels", "request_"), [
    (Parcels(b""), NEAR), (Parcels(b"", has_queue=False), FAR)], ids=["small file", "no queue"])
def test_without_a_queue_it_is_asked_for_as_ever(
        parcels: Parcels, request_: payloads.ChunkRequest) -> None:
    chunk, asked = _asked(parcels, _chunk(b"content"), request_)
    assert chunk == _chunk(b"content") and asked == [request_]


def test_an_older_peer_answers_with_the_content_itself() -> None:
    parcels = Parcels(None)
    chunk, asked = _asked(parcels, _chunk(b"content"))
    assert chunk == _chunk(b"content") and len(asked) == 1
    assert len(parcels.forgotten) == 1


@pytest.mark.parametrize("content", [None, b"", b"short", b"too long for it"])
def test_a_parcel_that_is_lost_or_not_what_was_announced_is_asked_for_again_without_one(
        content: bytes | None) -> None:
    parcels = Parcels(content)
    chunk, asked = _asked(parcels, lambda request: _chunk(b"content") if not request.queue
                          else _chunk(b"", apart=7))
    assert chunk == _chunk(b"content")
    assert [bool(request.queue) for request in asked] == [True, False]


def test_a_refusal_lets_the_parcel_go() -> None:
    parcels = Parcels(b"content")
    with pytest.raises(errors.PeerSaysNo):
        _asked(parcels, peer_errors.PeerRefused("no such file"))
    assert len(parcels.forgotten) == 1
