# SPDX-License-Identifier: Apache-2.0
import json

import hypothesis
import pytest
from hypothesis import strategies as st

from rbd_worker.triggers import casts, envelope
from tests.fixtures import wire

OURS = ("live_migration", "live_migration_abort", "live_migration_force_complete",
        "check_can_live_migrate_destination", "rollback_live_migration_at_destination",
        "post_live_migration_at_destination")


@pytest.mark.parametrize("name", wire.NAMES)
def test_every_captured_message_of_a_live_migration_may_concern(name):
    assert envelope.may_concern(wire.body(name))


@pytest.mark.parametrize("method", ["build_and_run_instance", "prep_resize", "reboot_instance",
                                    "external_instance_event", "terminate_instance"])
def test_another_method_is_dropped_unseen(method):
    assert not envelope.may_concern(wire.enveloped(wire.derived(method, {"dest": "nv2"})))


def version_last(body: bytes) -> bytes:
    """As the Nova of Python 2 orders the two keys, up to Stein."""
    return json.dumps(dict(reversed(json.loads(body).items()))).encode()


def test_another_method_is_dropped_unseen_also_where_the_version_comes_last():
    body = version_last(wire.enveloped(wire.derived("reboot_instance", {"dest": "nv2"})))
    assert body.startswith(b'{"oslo.message"')
    assert not envelope.may_concern(body)
    assert envelope.may_concern(body.replace(b'"2.0"}', b'"3.0"}'))


@pytest.mark.parametrize("name", wire.NAMES)
def test_a_message_with_the_version_last_is_read_like_any_other(name):
    body = version_last(wire.body(name))
    assert envelope.may_concern(body)
    assert envelope.opened(body) == wire.message(name)


@pytest.mark.parametrize("method", OURS)
@pytest.mark.parametrize("style", [
    {"ensure_ascii": False}, {"indent": 2}, {"separators": (",", ":")}, {"sort_keys": True}])
def test_no_way_of_writing_json_hides_one_of_our_methods(method, style):
    inner = json.dumps({"method": method, "args": {}}, **style)
    outer = json.dumps({"oslo.version": "2.0", "oslo.message": inner}, **style)
    assert envelope.may_concern(outer.encode())


@pytest.mark.parametrize("escaped", [
    r"\u006cive_migration", r"live\u005fmigration", r"\\u006cive_migration",
    r"live_mi\u0067ration", r"l\u0069ve_migration"])
def test_escaped_letters_do_not_hide_one_of_our_methods(escaped):
    body = b'{"oslo.version": "2.0", "oslo.message": "{\\"method\\": \\"%s\\"}"}'
    assert envelope.may_concern(body % escaped.encode())


@pytest.mark.parametrize("body", [
    b"", b"{", b"null", b"[]", b'{"oslo.version": "3.0", "oslo.message": "{}"}',
    b'{"method": "reboot"}', b'\xff\xfe{\x00"\x00', b'{"oslo.message": "{}"}',
    b'{"oslo.version": "2.0", "oslo.message": "{}"'])
def test_what_is_no_known_envelope_is_never_dropped_unseen(body):
    assert envelope.may_concern(body)


@hypothesis.given(st.dictionaries(st.text(max_size=10), st.text(max_size=30) | st.integers()),
                  st.sampled_from(OURS), st.booleans())
def test_nothing_that_would_be_read_is_dropped_unseen(args, method, is_ascii):
    inner = json.dumps({"args": args | {"x": "\\u0041"}, "method": method}, ensure_ascii=is_ascii)
    body = json.dumps({"oslo.version": "2.0", "oslo.message": inner}, ensure_ascii=is_ascii)
    sent = body.encode("utf-8", "surrogatepass")
    assert envelope.may_concern(sent)
    if is_ascii:
        assert envelope.may_concern(version_last(sent))


def test_the_two_layers_are_opened():
    assert envelope.opened(wire.enveloped({"method": "x", "args": {"ä": 1}})) == {
        "method": "x", "args": {"ä": 1}}


def test_a_message_without_envelope_is_the_message():
    assert envelope.opened(b'{"method": "live_migration"}') == {"method": "live_migration"}


@pytest.mark.parametrize("version", ["1.0", "3.0", "20.0", "", "2", None, 2, {}])
def test_another_version_of_the_envelope_is_refused(version):
    body = json.dumps({"oslo.version": version, "oslo.message": "{}"}).encode()
    with pytest.raises(envelope.BadEnvelope, match=r"oslo\.version"):
        envelope.opened(body)


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b"3", b'"x"', b"\xff", b'{"a": "\xe4"}', b"NaN", b"{}{}",
    b'{"oslo.version": "2.0"}', b'{"oslo.version": "2.0", "oslo.message": {}}',
    b'{"oslo.version": "2.0", "oslo.message": "[]"}',
    b'{"oslo.version": "2.0", "oslo.message": "{"}', "{}".encode("utf-16"),
    b'{"a": ' + b"9" * 5000 + b"}"])
def test_a_malformed_body_is_refused(body):
    with pytest.raises(envelope.BadEnvelope):
        envelope.opened(body)


@pytest.mark.parametrize("layers", [100_000, 1_000_000])
def test_deep_nesting_is_refused_and_does_not_end_the_process(layers):
    nested = "[" * layers + "]" * layers
    inside = wire.enveloped(f'{{"method": "live_migration", "args": {nested}}}')
    for body in (nested.encode(), inside):
        with pytest.raises((envelope.BadEnvelope, envelope.MessageTooLarge)):
            casts.parse(body, host="nv1")


def test_an_error_holds_on_to_nothing_of_the_body():
    with pytest.raises(envelope.BadEnvelope) as caught:
        envelope.opened(b'{"token": "' + wire.SECRET.encode() + b'"')
    assert caught.value.__context__ is None
    assert wire.SECRET not in f"{caught.value} {vars(caught.value)}"
