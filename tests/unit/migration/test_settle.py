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
