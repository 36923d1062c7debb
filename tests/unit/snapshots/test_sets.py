# SPDX-License-Identifier: Apache-2.0
"""Names that Ceph, a shell and a terminal can bear; notes as anybody may have written them."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbd_worker import errors
from rbd_worker.model import RbdImage
from rbd_worker.snapshots import sets
from tests.unit.snapshots.parts import INSTANCE

ONE = sets.SnapshotSet(id="1", name="first", instance=INSTANCE, host="node1",
                       images=(RbdImage("vms", "a_disk"),), at=1000.5, by="root", note="why",
                       expires=2000, how="frozen")


@pytest.mark.parametrize("name", ["a", "before-upgrade", "2026.11.24_x", "a" * 64])
def test_a_plain_name_will_do(name: str) -> None:
    assert sets.check_name(name) == name


@pytest.mark.parametrize("name", ["", "a/b", "a@b", "-a", ".a", "a b", "a\n", "ä", "a" * 65,
                                  "\x1b[31m", "a\0"])
def test_an_odd_name_is_refused_with_a_sentence(name: str) -> None:
    with pytest.raises(errors.BadInput) as caught:
        sets.check_name(name)
    assert "letters, digits" in caught.value.sentence
    assert caught.value.sentence.isprintable()


def test_a_note_says_all_of_a_snapshot() -> None:
    assert sets.SnapshotSet.from_note(ONE.to_note()) == ONE


@pytest.mark.parametrize("change", [
    {"name": "a/b"}, {"instance": "../x"}, {"host": "a b"}, {"images": []}, {"at": "soon"},
    {"how": "magic"}, {"images": [{"pool": "vms"}]}])
def test_a_note_with_a_value_that_was_never_written_is_none(change: dict[str, object]) -> None:
    with pytest.raises(errors.BadInput):
        sets.SnapshotSet.from_dict({**ONE.to_dict(), "images": [{"pool": "a", "name": "b"}],
                                    **change})


@given(st.text())
def test_any_text_is_a_note_or_none(text: str) -> None:
    assert sets.SnapshotSet.from_note(text) is None


def test_what_people_wrote_cannot_steer_a_terminal() -> None:
    told = dataclasses.replace(ONE, note="\x1b[31mred\n" + "n" * 5000).told("made", ())
    assert told.note.isprintable()
    assert type(told).from_wire(told.to_wire()) == told
