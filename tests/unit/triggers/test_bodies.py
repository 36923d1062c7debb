# SPDX-License-Identifier: Apache-2.0
"""``kombu_compression`` as kombu itself does it."""

import lzma

import amqp
import kombu.compression
import pytest

from rbd_worker.triggers import bodies, casts, envelope
from tests.fixtures import wire

BODY = wire.body("success/live_migration")


def message(body: bytes, compression: str) -> amqp.Message:
    return amqp.Message(body, application_headers={"compression": compression})


@pytest.mark.parametrize("name", ["gzip", "zlib", "bzip2", "lzma", "xz"])
def test_each_compression_that_kombu_has_is_undone(name):
    assert bodies.raw(message(*kombu.compression.compress(BODY, name))) == BODY


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz"])
def test_a_bomb_is_unpacked_to_one_byte_more_than_may_be_read(name):
    bomb = message(*kombu.compression.compress(bytes(16 * envelope.MAX_BODY), name))
    assert len(bodies.raw(bomb)) == envelope.MAX_BODY + 1


def test_a_dictionary_of_a_gigabyte_is_not_made():
    greedy = bytearray(lzma.compress(BODY, format=lzma.FORMAT_ALONE))
    greedy[1:5] = (1 << 30).to_bytes(4, "little")
    assert bodies.raw(message(bytes(greedy), "application/x-lzma")) == greedy


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz"])
def test_what_is_torn_or_of_another_compression_is_refused_with_the_cause(name):
    packed, kind = kombu.compression.compress(BODY, name)
    for body, said in ((packed, "application/zstd"), (packed[:1] + packed, kind)):
        with pytest.raises(casts.BadEnvelope, match="compressed in another way"):
            casts.parse(bodies.raw(message(body, said)), host="nv1")
