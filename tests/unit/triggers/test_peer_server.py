# SPDX-License-Identifier: Apache-2.0
"""The edge where peers' calls come in: arguments are checked, and errors keep their branch."""

import dataclasses
import logging
import typing as ty

import oslo_messaging
import pytest

from rbd_worker import errors
from rbd_worker.host.peers import Peers
from rbd_worker.triggers import peer_server
from rpcapi import errors as peer_errors
from rpcapi import payloads
from tests.fakes import Bus, Client
from tests.timeline import Life, Timeline

GUEST = "a05482ec-d71a-48c7-bf99-94d829b20aef"
CHUNK = {"migration": "m", "instance": GUEST, "path": "console.log", "offset": 0}


class AnsweringDesk:
    """Every call gives the same answer or error."""

    def __init__(self, answer: object) -> None:
        self.asked: list[object] = []
        self._answer = answer

    def __getattr__(self, _method: str) -> ty.Callable[[object], object]:
        def call(request: object) -> object:
            self.asked.append(request)
            if isinstance(self._answer, Exception):
                raise self._answer
            return self._answer
        return call


def _endpoint(answer: object) -> tuple[peer_server.Endpoint, AnsweringDesk]:
    desk = AnsweringDesk(answer)
    description = payloads.Description(host="node02", worker_version="1", rpc_version="1.0",
                                       executor="nova")
    return peer_server.Endpoint(*[ty.cast(ty.Any, desk)] * 3, lambda: description), desk


def _raised(call: ty.Callable[[], object]) -> Exception:
    """What oslo.messaging would send back instead of a result."""
    with pytest.raises(oslo_messaging.ExpectedException) as caught:
        call()
    return ty.cast(Exception, caught.value.exc_info[1])


def test_a_call_becomes_a_checked_request_and_plain_values_go_back() -> None:
    endpoint, desk = _endpoint(payloads.Chunk(offset=0, data=b"\x00\xff", next=2))
    answer = endpoint.read_chunk({}, request=CHUNK)
    assert desk.asked == [payloads.ChunkRequest(**CHUNK)]
    assert answer == {"offset": 0, "data": "AP8=", "next": 2, "apart": 0}


@pytest.mark.parametrize("change", [
    {"instance": "../../etc"}, {"instance": GUEST.upper()}, {"offset": -1}, {"offset": "0"},
    {"path": ""}, {"path": "x" * 2000}, {"migration": "a/b"}, {"migration": None}],
    ids=str)
def test_a_call_that_breaks_the_contract_reaches_nobody(
        change: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    endpoint, desk = _endpoint(payloads.Chunk(offset=0, data=b"", next=0))
    refused = _raised(lambda: endpoint.read_chunk({}, request=CHUNK | change))
    assert isinstance(refused, peer_errors.PeerRefused)
    assert desk.asked == []
    assert "../../etc" not in caplog.text + str(refused), "the value itself is not repeated"


@pytest.mark.parametrize("request_", [None, [], "text", 7])
def test_something_else_than_a_request_is_refused(request_: object) -> None:
    endpoint, _ = _endpoint(None)
    assert isinstance(_raised(lambda: endpoint.pre_live_migration({}, request=request_)),
                      peer_errors.PeerRefused)


@pytest.mark.parametrize(("error", "expected"), [
    (errors.FileSystemFailed(path="x", reason="y"), peer_errors.PeerBusy),
    (errors.NoSpace(path="x"), peer_errors.PeerRefused),
    (errors.NotProven(instance=GUEST, reason="doubt"), peer_errors.PeerUndecided),
    (ZeroDivisionError("secret text"), peer_errors.PeerBusy)], ids=repr)
def test_an_error_goes_back_in_the_form_that_a_peer_understands(
        error: Exception, expected: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    endpoint, _ = _endpoint(error)
    raised = _raised(lambda: endpoint.read_chunk({}, request=CHUNK))
    assert type(raised) is expected
    assert "secret text" not in str(raised)


def test_what_is_not_foreseen_is_logged_with_its_trace(
        caplog: pytest.LogCaptureFixture) -> None:
    endpoint, _ = _endpoint(ZeroDivisionError("why"))
    with caplog.at_level(logging.ERROR):
        _raised(lambda: endpoint.read_chunk({}, request=CHUNK))
    assert "Traceback" in caplog.text or caplog.records[-1].exc_info


def test_a_remedy_travels_with_its_refusal() -> None:
    endpoint, _ = _endpoint(errors.NoSpace(path="disk.config"))
    assert "Free space" in str(_raised(lambda: endpoint.read_chunk({}, request=CHUNK)))


BRANCHES = [(errors.DigestMismatch(path="console.log"), errors.Transient),
            (errors.AccessDenied(path="console.log"), errors.Permanent),
            (errors.OutcomeUnknown(instance=GUEST, reason="doubt"), errors.Undecided)]


@pytest.mark.parametrize(("error", "branch"), BRANCHES, ids=[b.__name__ for _, b in BRANCHES])
def test_an_error_is_of_the_same_branch_on_both_ends(error: Exception,
                                                     branch: type[errors.Error]) -> None:
    """What cannot be helped there is not repeated here, and the other way round."""
    bus = Bus(Timeline())
    endpoint, _ = _endpoint(error)
    bus.endpoints["node02"] = (Life("node02"), endpoint)
    peers = Peers(ty.cast(ty.Any, Client(bus, "node01")), "node01")
    with pytest.raises(branch) as caught:
        peers.read_chunk("node02", payloads.ChunkRequest(**ty.cast(ty.Any, CHUNK)))
    assert str(error) in str(caught.value)


def test_describe_needs_no_argument() -> None:
    endpoint, _ = _endpoint(None)
    assert endpoint.describe({})["host"] == "node02"


@dataclasses.dataclass
class _Witness:
    """Testimonies about anything."""

    def testify(self, question: payloads.Question) -> payloads.Testimony:
        return payloads.Testimony(host="node02", instance=question.instance, state="absent")


def test_many_questions_are_answered_in_one_call() -> None:
    endpoint = peer_server.Endpoint(ty.cast(ty.Any, None), ty.cast(ty.Any, _Witness()),
                                    ty.cast(ty.Any, None), lambda: ty.cast(ty.Any, None))
    guests = [f"{number:08x}-d71a-48c7-bf99-94d829b20aef" for number in range(1000)]
    reply = endpoint.testify({}, request={
        "asker": "node01", "questions": [{"instance": guest} for guest in guests]})
    assert [t["instance"] for t in reply["testimonies"]] == guests


QUEUE = {"queue": f"{payloads.PARCEL_QUEUE}.{'a' * 32}", "token": "b" * 32}


@dataclasses.dataclass
class _Sender:
    """Takes parcels, or cannot."""

    takes: bool
    sent: list[tuple[str, str, bytes]] = dataclasses.field(default_factory=list)

    def send(self, queue: str, token: str, body: bytes) -> bool:
        self.sent.append((queue, token, body))
        return self.takes


def _sending(takes: bool) -> tuple[peer_server.Endpoint, _Sender]:
    desk = AnsweringDesk(payloads.Chunk(offset=0, data=b"\x00\xff", next=2))
    sender = _Sender(takes)
    return peer_server.Endpoint(*[ty.cast(ty.Any, desk)] * 3, lambda: ty.cast(ty.Any, None),
                                ty.cast(ty.Any, sender)), sender


def test_a_piece_goes_to_the_queue_that_the_peer_named_and_the_answer_says_how_much() -> None:
    endpoint, sender = _sending(takes=True)
    answer = endpoint.read_chunk({}, request=CHUNK | QUEUE)
    assert sender.sent == [(QUEUE["queue"], QUEUE["token"], b"\x00\xff")]
    assert answer == {"offset": 0, "data": "", "next": 2, "apart": 2}


def test_where_it_cannot_go_there_the_answer_brings_it() -> None:
    endpoint, _ = _sending(takes=False)
    assert endpoint.read_chunk({}, request=CHUNK | QUEUE) == {
        "offset": 0, "data": "AP8=", "next": 2, "apart": 0}


def test_nothing_is_sent_apart_unasked() -> None:
    endpoint, sender = _sending(takes=True)
    assert endpoint.read_chunk({}, request=CHUNK)["data"] == "AP8="
    assert sender.sent == []


@pytest.mark.parametrize("queue", [
    "compute.node01", "rbd_worker.parcels", "rbd_worker.parcels.x", "reply_" + "a" * 32,
    f"{payloads.PARCEL_QUEUE}.{'a' * 32}\n"])
def test_a_peer_cannot_have_files_sent_to_just_any_queue(queue: str) -> None:
    endpoint, sender = _sending(takes=True)
    refused = _raised(lambda: endpoint.read_chunk({}, request=CHUNK | QUEUE | {"queue": queue}))
    assert isinstance(refused, peer_errors.PeerRefused) and sender.sent == []
