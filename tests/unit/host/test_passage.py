# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import typing as ty

import pytest

from rbd_worker.host import passage
from tests.unit.host.trees import open_descriptors

Pair = tuple[passage.Passage, passage.Passage]


@pytest.fixture
def ends() -> ty.Iterator[Pair]:
    pair = passage.pair()
    yield pair
    for end in pair:
        end.close()


@pytest.fixture
def files(tmp_path: pathlib.Path) -> ty.Iterator[list[int]]:
    descriptors = []
    for number in range(4):
        (tmp_path / str(number)).write_text(f"file {number}")
        descriptors.append(os.open(tmp_path / str(number), os.O_RDONLY))
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def _read(descriptors: list[int]) -> list[bytes]:
    content = []
    for descriptor in descriptors:
        assert not os.get_inheritable(descriptor)
        content.append(os.pread(descriptor, 99, 0))
        os.close(descriptor)
    return content


def test_open_files_arrive_in_their_order(ends: Pair, files: list[int]) -> None:
    ends[0].send(7, files[:2])
    assert _read(ends[1].receive(7, 2)) == [b"file 0", b"file 1"]


def test_what_belongs_to_a_call_that_was_given_up_is_closed(ends: Pair, files: list[int]) -> None:
    before = open_descriptors()
    ends[0].send(7, files[:1])
    ends[0].send(8, files[1:2])
    assert _read(ends[1].receive(8, 1)) == [b"file 1"]
    assert open_descriptors() == before


@pytest.mark.parametrize(("number", "count"), [(8, 1), (7, 0), (7, 2), (7, 4)])
def test_what_belongs_to_another_call_is_not_taken(ends: Pair, files: list[int], number: int,
                                                   count: int) -> None:
    before = open_descriptors()
    ends[0].send(number, files[:count])
    with pytest.raises(ConnectionAbortedError):
        ends[1].receive(7, 1)
    assert open_descriptors() == before


def test_the_end_of_the_other_process_is_an_error_at_once(ends: Pair) -> None:
    ends[0].close()
    with pytest.raises(ConnectionResetError):
        ends[1].receive(7, 1)
