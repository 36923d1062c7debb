# SPDX-License-Identifier: Apache-2.0
"""Reading ahead: more pieces under way where data follows upon data, and only there."""

import threading
import time
import zlib

import pytest

from rbd_worker.host.read_ahead import DEPTH, ReadAhead
from rpcapi.fields import CHUNK_BYTES
from rpcapi.payloads import Chunk

MIB = CHUNK_BYTES


class Source:
    """A file whose data stands at the given pieces; every piece takes a moment."""

    def __init__(self, size: int, data: set[int], seconds: float = 0.0) -> None:
        self.size = size
        self.asked: list[int] = []
        self.most_at_once = 0
        self._data = data
        self._seconds = seconds
        self._lock = threading.Lock()
        self._now = 0

    def fetch(self, offset: int) -> Chunk:
        with self._lock:
            self.asked.append(offset)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        time.sleep(self._seconds)
        with self._lock:
            self._now -= 1
        piece = offset // MIB
        later = [each for each in sorted(self._data) if each > piece]
        return Chunk(offset=offset, data=zlib.compress(bytes([piece])),
                     next=later[0] * MIB if later else self.size)

    def read(self) -> list[int]:
        """The offsets that a reader goes through, checked to be what it asked for."""
        seen, offset = [], 0
        with ReadAhead(self.fetch, self.size) as pieces:
            while offset < self.size:
                chunk = pieces.chunk(offset)
                assert chunk.offset == offset
                assert zlib.decompress(chunk.data) == bytes([offset // MIB])
                seen.append(offset // MIB)
                offset = chunk.next
        return seen


def test_every_piece_comes_once_and_in_order():
    source = Source(20 * MIB, set(range(20)))
    assert source.read() == list(range(20))
    assert sorted(source.asked) == [number * MIB for number in range(20)]


def test_pieces_that_follow_each_other_are_under_way_together():
    source = Source(20 * MIB, set(range(20)), seconds=0.02)
    source.read()
    assert 2 <= source.most_at_once <= DEPTH


def test_nothing_is_asked_for_in_holes():
    places = {0, 40, 80, 120}
    source = Source(200 * MIB, places)
    assert source.read() == sorted(places)
    assert sorted(source.asked) == [place * MIB for place in sorted(places)]


def test_what_was_asked_for_behind_the_end_of_the_data_does_no_harm():
    places = {*range(8), 50, 51, 52}
    assert Source(60 * MIB, places).read() == sorted(places)


def test_a_failed_piece_is_told_when_it_is_its_turn():
    def fetch(offset: int) -> Chunk:
        if offset == 5 * MIB:
            raise ConnectionError("the peer is gone")
        return Chunk(offset=offset, data=zlib.compress(b"x"), next=offset + MIB)

    with ReadAhead(fetch, 9 * MIB) as pieces:
        for number in range(5):
            assert pieces.chunk(number * MIB).next == (number + 1) * MIB
        with pytest.raises(ConnectionError):
            pieces.chunk(5 * MIB)
