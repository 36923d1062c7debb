# SPDX-License-Identifier: Apache-2.0
"""The words of the product: names that become paths, and evidence that holds or does not."""

import dataclasses

import pytest

from rbd_worker import errors, model
from rbd_worker.model import Evidence, Fact, GuestState, Verdict

INSTANCE = "a05482ec-d71a-48c7-bf99-94d829b20aef"

BAD_UUIDS = [
    "", "a05482ec", INSTANCE.upper(), "{" + INSTANCE + "}", INSTANCE.replace("-", ""),
    f"../{INSTANCE}", f"{INSTANCE}/..", f"{INSTANCE}\n", f"{INSTANCE}\x00", f" {INSTANCE}",
    INSTANCE[:-1] + "g", "urn:uuid:" + INSTANCE, None, 7, b"a05482ec-d71a-48c7-bf99-94d829b20aef",
]

BAD_HOSTS = [
    "", ".", "..", "-node", "node-", "node 1", "node/1", "node\n", "ноде", "a" * 255, "node;x",
    "node%s", None, 3, "node:5", "[::1]", "::1/64", "fe80::1%eth0", ":::", "::1\n",
]


def _facts(**changed: Verdict) -> tuple[Fact, ...]:
    """Four witnesses that agree, apart from the changed ones (``_`` for a blank)."""
    verdicts = dict.fromkeys(sorted(Evidence.REQUIRED), Verdict.YES)
    verdicts |= {name.replace("_", " "): verdict for name, verdict in changed.items()}
    return tuple(Fact(name, verdict, f"{name} says {verdict}")
                 for name, verdict in verdicts.items())


def test_a_uuid_as_nova_writes_it_is_canonical() -> None:
    assert model.canonical_uuid(INSTANCE) == INSTANCE


@pytest.mark.parametrize("value", BAD_UUIDS, ids=repr)
def test_anything_else_is_no_directory_name(value: object) -> None:
    with pytest.raises(errors.BadInstanceUUID):
        model.canonical_uuid(value)


@pytest.mark.parametrize("value", ["n", "node01", "cmp-1.rack2.example.org", "10.0.0.5", "a_b",
                                   "2001:DB8::5", "::1", "fd00:0:0:0:0:0:0:1", "::ffff:10.0.0.5"])
def test_host_names_of_real_clouds_are_accepted(value: str) -> None:
    assert model.host_name(value) == value


@pytest.mark.parametrize("value", BAD_HOSTS, ids=repr)
def test_what_cannot_be_a_host_name_is_refused(value: object) -> None:
    with pytest.raises(errors.BadHostName):
        model.host_name(value)


def test_a_refused_value_is_quoted_only_in_part() -> None:
    with pytest.raises(errors.BadInstanceUUID) as caught:
        model.canonical_uuid("x" * 10_000)
    assert len(str(caught.value)) < 120


def test_the_peer_is_the_other_host() -> None:
    there = model.Migration("m", INSTANCE, model.Role.SOURCE, "node01", "node02",
                            model.Executor.NOVA)
    here = dataclasses.replace(there, role=model.Role.DESTINATION)
    assert (there.host, there.peer) == ("node01", "node02")
    assert (here.host, here.peer) == ("node02", "node01")
    assert str(there) == f"[instance: {INSTANCE}] [migration: m]"


def test_only_a_guest_that_qemu_has_and_nobody_moves_is_active() -> None:
    active = {state for state in GuestState if state.is_active}
    assert active == {GuestState.RUNNING, GuestState.PAUSED}


def test_evidence_holds_where_all_four_witnesses_agree() -> None:
    evidence = Evidence(INSTANCE, _facts())
    assert evidence.holds
    assert evidence.doubt == ""


@pytest.mark.parametrize("verdict", [Verdict.NO, Verdict.UNKNOWN])
@pytest.mark.parametrize("witness", sorted(Evidence.REQUIRED))
def test_one_witness_that_does_not_agree_is_enough_to_keep(witness: str,
                                                           verdict: Verdict) -> None:
    evidence = Evidence(INSTANCE, _facts(**{witness.replace(" ", "_"): verdict}))
    assert not evidence.holds
    assert evidence.doubt == f"{witness} says {verdict}"


@pytest.mark.parametrize("witness", sorted(Evidence.REQUIRED))
def test_a_witness_that_was_not_heard_counts_as_a_no(witness: str) -> None:
    facts = tuple(fact for fact in _facts() if fact.witness != witness)
    evidence = Evidence(INSTANCE, facts)
    assert not evidence.holds
    assert evidence.doubt == f"{witness} was not heard"


def test_a_second_fact_of_a_witness_can_still_say_no() -> None:
    """Several images: each has its own fact, and one that is watched here keeps everything."""
    evidence = Evidence(INSTANCE, (*_facts(), Fact("watchers", Verdict.NO, "vms/b is watched")))
    assert not evidence.holds
    assert evidence.doubt == "vms/b is watched"


def test_no_facts_at_all_prove_nothing() -> None:
    assert not Evidence(INSTANCE, ()).holds


def test_evidence_goes_into_a_record_as_plain_values() -> None:
    record = Evidence(INSTANCE, (Fact("path", Verdict.YES, "two directories"),)).to_dict()
    assert record == {"instance": INSTANCE, "facts": [
        {"witness": "path", "verdict": "yes", "sentence": "two directories"}]}
