# SPDX-License-Identifier: Apache-2.0
"""Where the guest is: every pair of what two hosts may say has an answer."""

import itertools

import pytest

from rbd_worker.migration.settle import Place, settle
from rbd_worker.model import GuestState as S

#: Source's word, destination's word, place.  One line for each pair, written by hand.
TABLE: list[tuple[S, S, Place]] = [
    (S.RUNNING, S.RUNNING, Place.NOWHERE_KNOWN),
    (S.RUNNING, S.PAUSED, Place.NOWHERE_KNOWN),
    (S.RUNNING, S.INCOMING, Place.BETWEEN),
    (S.RUNNING, S.OUTGOING, Place.BETWEEN),
    (S.RUNNING, S.SHUTOFF, Place.SOURCE),
    (S.RUNNING, S.ABSENT, Place.SOURCE),
    (S.PAUSED, S.RUNNING, Place.NOWHERE_KNOWN),
    (S.PAUSED, S.PAUSED, Place.NOWHERE_KNOWN),
    (S.PAUSED, S.INCOMING, Place.BETWEEN),
    (S.PAUSED, S.OUTGOING, Place.BETWEEN),
    (S.PAUSED, S.SHUTOFF, Place.SOURCE),
    (S.PAUSED, S.ABSENT, Place.SOURCE),
    (S.INCOMING, S.RUNNING, Place.BETWEEN),
    (S.INCOMING, S.PAUSED, Place.BETWEEN),
    (S.INCOMING, S.INCOMING, Place.BETWEEN),
    (S.INCOMING, S.OUTGOING, Place.BETWEEN),
    (S.INCOMING, S.SHUTOFF, Place.BETWEEN),
    (S.INCOMING, S.ABSENT, Place.BETWEEN),
    (S.OUTGOING, S.RUNNING, Place.BETWEEN),
    (S.OUTGOING, S.PAUSED, Place.BETWEEN),
    (S.OUTGOING, S.INCOMING, Place.BETWEEN),
    (S.OUTGOING, S.OUTGOING, Place.BETWEEN),
    (S.OUTGOING, S.SHUTOFF, Place.BETWEEN),
    (S.OUTGOING, S.ABSENT, Place.BETWEEN),
    *((S.STRANDED, other, Place.NOWHERE_KNOWN) for other in S),
    *((other, S.STRANDED, Place.NOWHERE_KNOWN) for other in S if other is not S.STRANDED),
    (S.SHUTOFF, S.RUNNING, Place.DESTINATION),
    (S.SHUTOFF, S.PAUSED, Place.DESTINATION),
    (S.SHUTOFF, S.INCOMING, Place.BETWEEN),
    (S.SHUTOFF, S.OUTGOING, Place.BETWEEN),
    (S.SHUTOFF, S.SHUTOFF, Place.NOWHERE_KNOWN),
    (S.SHUTOFF, S.ABSENT, Place.SOURCE),
    (S.ABSENT, S.RUNNING, Place.DESTINATION),
    (S.ABSENT, S.PAUSED, Place.DESTINATION),
    (S.ABSENT, S.INCOMING, Place.BETWEEN),
    (S.ABSENT, S.OUTGOING, Place.BETWEEN),
    (S.ABSENT, S.SHUTOFF, Place.DESTINATION),
    (S.ABSENT, S.ABSENT, Place.NOWHERE_KNOWN),
]


def test_the_table_has_every_pair_once() -> None:
    pairs = [(source, destination) for source, destination, _ in TABLE]
    assert sorted(pairs) == sorted(itertools.product(S, S))


@pytest.mark.parametrize(("source", "destination", "place"), TABLE)
def test_where_the_guest_is(source: S, destination: S, place: Place) -> None:
    found = settle(source, destination)
    assert found.place is place
    assert found.sentence.endswith(f"source says {source}, destination says {destination}")


def test_a_guest_that_seems_to_run_twice_is_an_alarm() -> None:
    assert "look at it at once" in settle(S.RUNNING, S.RUNNING).sentence


def test_a_guest_that_neither_host_has_may_have_died_or_been_deleted() -> None:
    sentence = settle(S.ABSENT, S.ABSENT).sentence
    steps = ["openstack server show", "reboot --hard", "deleted", "migration resolve"]
    assert [step for step in steps if step in sentence] == steps
    assert sorted(steps, key=sentence.index) == steps


def test_a_guest_that_both_define_is_started_again() -> None:
    sentence = settle(S.SHUTOFF, S.SHUTOFF).sentence
    assert "both define it" in sentence and "reboot --hard" in sentence
    assert "migration resolve" not in sentence


@pytest.mark.parametrize("there", [S.SHUTOFF, S.ABSENT])
def test_a_guest_lost_in_post_copy_is_ended_before_it_is_started_again(there: S) -> None:
    sentence = settle(S.STRANDED, there).sentence
    assert "the guest is lost" in sentence
    steps = ["Never resume", "virsh destroy", "undefine", "reboot --hard"]
    assert sorted(steps, key=sentence.index) == steps


def test_a_post_copy_that_can_go_on_is_not_to_be_ended() -> None:
    sentence = settle(S.STRANDED, S.INCOMING).sentence
    assert "Never resume or destroy" in sentence and "--postcopy-resume" in sentence


@pytest.mark.parametrize("there", [S.RUNNING, S.PAUSED])
def test_a_guest_that_came_through_a_broken_post_copy_stays_where_it_runs(there: S) -> None:
    sentence = settle(S.STRANDED, there).sentence
    assert "the guest runs at the destination" in sentence and "reboot" not in sentence
