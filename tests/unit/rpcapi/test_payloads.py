# SPDX-License-Identifier: Apache-2.0
import json
import typing as ty

import hypothesis
import pytest
from hypothesis import strategies as st

from rpcapi import fields, history, payloads

INSTANCE = "a05482ec-d71a-48c7-bf99-94d829b20aef"
DIGEST = "0123456789abcdef" * 4
SECRET = "planted-secret"

ENTRY = {"path": "console.log", "kind": "file", "size": 3, "mode": 0o600, "uid": 64055,
         "gid": 108, "owner": "nova", "group": "nova", "mtime_ns": 1, "digest": DIGEST}
PREPARE = {"migration": "id-7-x", "instance": INSTANCE, "source": "node1",
           "destination": "node2", "executor": "nova", "probe": {"nonce": "ab" * 16},
           "root": ENTRY | {"path": ".", "kind": "directory", "digest": ""}, "entries": [ENTRY]}

ALL = [cls for cls in vars(payloads).values()
       if isinstance(cls, type) and issubclass(cls, fields.Payload)
       and cls is not fields.Payload]


def over_the_wire(value: object) -> ty.Any:
    """What oslo.messaging does with an argument."""
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("content", [b"", b"\0", bytes(range(256)), b"x" * 100_000])
def test_bytes_come_out_as_they_went_in(content):
    sent = payloads.Chunk(offset=0, data=content, next=len(content))
    assert payloads.Chunk.from_wire(over_the_wire(sent.to_wire())) == sent


def test_a_whole_request_comes_out_as_it_went_in():
    entry = payloads.FileEntry(path="a/ü\udcff", kind="file", size=1 << 40, mode=0o7777, uid=0,
                               gid=(1 << 32) - 2, mtime_ns=1 << 61, digest=DIGEST,
                               inline=b"\xff\0", inline_from=5)
    sent = payloads.PrepareRequest(
        migration="m", instance=INSTANCE, source="n-1", destination="n.2", executor="libvirt",
        probe=payloads.PathProbe(nonce="0" * 32, inode=1 << 63, changed_ns=-1, filesystem=7),
        root=entry, entries=(entry, entry))
    assert payloads.PrepareRequest.from_wire(over_the_wire(sent.to_wire())) == sent


@pytest.mark.parametrize("name", ["2001:db8::5", "::1", "::ffff:10.0.0.5", "10.0.0.5"])
def test_a_host_may_be_named_by_its_address(name):
    assert payloads.PrepareRequest.from_wire(PREPARE | {"destination": name}).destination == name


def test_fields_of_a_newer_peer_are_ignored():
    heard = payloads.PrepareRequest.from_wire(PREPARE | {"since_1_7": {"x": [1]}})
    assert heard == payloads.PrepareRequest.from_wire(PREPARE)


@pytest.mark.parametrize("missing", ["migration", "instance", "source", "destination",
                                     "executor", "probe", "root"])
def test_a_missing_field_is_refused_by_its_name(missing):
    wire = {name: value for name, value in PREPARE.items() if name != missing}
    with pytest.raises(fields.BadPayload, match=missing):
        payloads.PrepareRequest.from_wire(wire)


@pytest.mark.parametrize(("field", "value"), [
    ("migration", ""), ("migration", "a/b"), ("migration", "x" * 129), ("migration", "a\n"),
    ("migration", 5), ("instance", INSTANCE.upper()), ("instance", f"../{INSTANCE}"),
    ("instance", f"{INSTANCE}\n"), ("instance", ""), ("instance", None),
    ("source", ""), ("source", "-a"), ("source", "a b"), ("source", "a/b"), ("source", "*"),
    ("source", "n:5"), ("source", ":"), ("source", "[::1]"), ("source", "::1%eth0"),
    ("destination", "n" * 255), ("executor", "root"), ("executor", None),
    ("request_id", "x" * 1025), ("probe", None), ("probe", {"nonce": "AB" * 16}),
    ("probe", {"nonce": "ab"}), ("probe", {"inode": -1}), ("root", None), ("entries", None),
    ("entries", {}), ("entries", [None]), ("entries", [ENTRY] * 1025), ("entries", "x")])
def test_a_request_with_a_value_out_of_bounds_is_refused(field, value):
    with pytest.raises(fields.BadPayload, match=rf"\$\.{field}"):
        payloads.PrepareRequest.from_wire(PREPARE | {field: value})


@pytest.mark.parametrize(("field", "value"), [
    ("path", ""), ("path", "x" * 1025), ("path", 1), ("kind", "symlink"), ("kind", "socket"),
    ("size", -1), ("size", (1 << 50) + 1), ("size", "3"), ("size", 3.0), ("size", True),
    ("mode", -1), ("mode", 0o10000), ("mode", 0o100644), ("uid", -1), ("uid", (1 << 32) - 1),
    ("gid", 1 << 32), ("owner", "x" * 65), ("mtime_ns", -1), ("mtime_ns", 1 << 63),
    ("digest", "00"), ("digest", DIGEST.upper()), ("digest", DIGEST + "\n"),
    ("inline", "not base64!"), ("inline", [1, 2]), ("inline", "A" * (48 << 20)),
    ("inline_from", -1)])
def test_a_file_with_a_value_out_of_bounds_is_refused(field, value):
    with pytest.raises(fields.BadPayload, match=rf"\$\.{field}"):
        payloads.FileEntry.from_wire(ENTRY | {field: value})


def test_a_chunk_is_bounded():
    with pytest.raises(fields.BadPayload):
        payloads.Chunk.from_wire({"offset": 0, "data": "A" * (3 << 20), "next": 1})


def test_the_answers_to_a_copy_are_bounded():
    many = {f"f{number}": DIGEST for number in range(1025)}
    for wire in ({"staged": many}, {"staged": {"a": "no digest"}}, {"staged": {"": DIGEST}}):
        with pytest.raises(fields.BadPayload):
            payloads.PrepareReply.from_wire(wire)
    with pytest.raises(fields.BadPayload):
        payloads.FinishReply.from_wire({"own": ["x"] * 1025})


@pytest.mark.parametrize("wire", [
    ENTRY | {"kind": SECRET}, ENTRY | {"digest": SECRET}, ENTRY | {"size": SECRET},
    ENTRY | {"kind": f"a'\n{SECRET}"}, ENTRY | {"inline": SECRET + "%"},
    ENTRY | {"inline": SECRET + "\udcff"}])
def test_a_refused_value_is_never_quoted(wire):
    with pytest.raises(fields.BadPayload) as caught:
        payloads.FileEntry.from_wire(wire)
    assert SECRET not in str(caught.value)
    assert "$.kind" in str(caught.value) or "kind" not in wire or wire["kind"] == "file"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=40)
    | st.sampled_from([INSTANCE, DIGEST, "node1", "file", ".", "nova"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from([*payloads.FileEntry.__struct_fields__,
                         *payloads.PrepareRequest.__struct_fields__,
                         *payloads.Testimony.__struct_fields__, "testimonies", "\udcff"]),
        inner, max_size=6), max_leaves=25)


@pytest.mark.parametrize("cls", ALL)
@hypothesis.settings(max_examples=60)
@hypothesis.given(JSON)
def test_no_wire_value_raises_anything_but_bad_payload(cls, wire):
    try:
        heard = cls.from_wire(wire)
    except fields.BadPayload:
        return
    assert cls.from_wire(heard.to_wire()) == heard


@pytest.mark.parametrize("cls", ALL)
def test_every_payload_is_frozen(cls):
    assert cls.__struct_config__.frozen


FINDING = {"instance": INSTANCE, "verdict": "kept"}
ENTRY_TOLD = {"migration": "m", "instance": INSTANCE, "role": "source", "source": "node1",
              "destination": "node2", "executor": "nova", "opened": 1}


@pytest.mark.parametrize("cls, wire", [
    (payloads.Finding, FINDING | {"holder": "\x1b[2J"}),
    (payloads.Finding, FINDING | {"reason": "a\nforged line"}),
    (payloads.Finding, FINDING | {"nova": "\x9b31m"}),
    (payloads.Testimony, {"host": "node1", "instance": INSTANCE, "state": "\x1b[2J"}),
    (payloads.Testimony, {"host": "node1", "instance": INSTANCE, "state": "\ud800"}),
    (history.Entry, ENTRY_TOLD | {"reason": "\x07"}),
    (history.Entry, ENTRY_TOLD | {"opened": 1e300}),
    (history.Entry, ENTRY_TOLD | {"closed": -1.0}),
    (history.Record, {"at": float("nan"), "step": "s", "state": "done"}),
    (history.Refusal, {"at": float("inf"), "origin": "cast", "reason": ""}),
    (payloads.Description, {"host": "node1", "worker_version": "1", "rpc_version": "1.0",
                            "executor": "nova", "started": 1e300})])
def test_what_an_operator_would_be_shown_is_text_and_times(cls, wire):
    with pytest.raises(fields.BadPayload, match=r"\$"):
        cls.from_wire(wire)


@pytest.mark.parametrize("text", ["\ud800", "a\nforged line", "\x1b[2J", "\x9b31m", "\0"])
def test_text_for_people_is_one_line_that_utf_8_can_carry(text: str) -> None:
    with pytest.raises(fields.BadPayload) as caught:
        payloads.RollbackReply.from_wire({"done": True, "reason": text})
    assert text not in str(caught.value)
