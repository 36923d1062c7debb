# SPDX-License-Identifier: Apache-2.0
import hashlib
import os
import pathlib
import time

import hypothesis
import pytest
from hypothesis import strategies as st

from devstack.lab import processes
from rbd_worker import errors
from rbd_worker.host import digest, sparse

BLOCK = 65536


def plainly(content: bytes) -> str:
    """The definition, written without holes in mind."""
    hasher = hashlib.sha256(len(content).to_bytes(8, "big"))
    for offset in range(0, len(content), BLOCK):
        block = content[offset:offset + BLOCK]
        if any(block):
            hasher.update(offset.to_bytes(8, "big") + block)
    return hasher.hexdigest()


def digest_of(path: pathlib.Path, size: int | None = None) -> str:
    fd = os.open(path, os.O_RDONLY)
    try:
        return digest.of(fd, os.fstat(fd).st_size if size is None else size)
    finally:
        os.close(fd)


def write_at(path: pathlib.Path, size: int, pieces: dict[int, bytes]) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, data in pieces.items():
            file.seek(offset)
            file.write(data)


@pytest.mark.parametrize("content", [
    b"", b"x", b"\0", b"\0" * 200_000, b"a" * BLOCK, b"a" * (BLOCK + 1),
    b"\0" * BLOCK + b"b", b"c" + b"\0" * (3 * BLOCK), os.urandom(3_000_001)])
def test_the_digest_is_as_defined(tmp_path: pathlib.Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert digest_of(tmp_path / "file") == plainly(content)


def test_the_digest_of_nothing_is_a_known_number(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    # printf '\0\0\0\0\0\0\0\0' | sha256sum
    assert digest_of(tmp_path / "file") == (
        "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc")


def test_holes_and_written_zeros_have_the_same_digest(tmp_path: pathlib.Path) -> None:
    content = b"\0" * 300_000 + b"data" + b"\0" * 300_000
    (tmp_path / "dense").write_bytes(content)
    write_at(tmp_path / "sparse", len(content), {300_000: b"data"})
    assert (tmp_path / "sparse").stat().st_blocks < (tmp_path / "dense").stat().st_blocks
    assert digest_of(tmp_path / "sparse") == digest_of(tmp_path / "dense") == plainly(content)


@hypothesis.settings(max_examples=60, deadline=None,
                     suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(st.integers(0, 600_000), st.dictionaries(
    st.integers(0, 590_000), st.binary(min_size=1, max_size=9000), max_size=8))
def test_the_digest_is_as_defined_wherever_the_holes_are(
        tmp_path: pathlib.Path, size: int, pieces: dict[int, bytes]) -> None:
    write_at(tmp_path / "file", size, pieces)
    assert digest_of(tmp_path / "file") == plainly((tmp_path / "file").read_bytes())


@pytest.mark.parametrize(("one", "other"), [
    (b"a" + b"\0" * BLOCK, b"a"),                       # only the size differs
    (b"\0" * BLOCK + b"a", b"a" + b"\0" * BLOCK),       # only the place differs
    (b"a" * BLOCK + b"b", b"b" + b"a" * BLOCK),
    (b"\0", b""),
])
def test_different_contents_have_different_digests(
        tmp_path: pathlib.Path, one: bytes, other: bytes) -> None:
    (tmp_path / "one").write_bytes(one)
    (tmp_path / "other").write_bytes(other)
    assert digest_of(tmp_path / "one") != digest_of(tmp_path / "other")


def test_only_the_size_asked_for_counts_while_a_file_grows(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(b"first line\nsecond line\n")
    assert digest_of(tmp_path / "file", 11) == plainly(b"first line\n")


@pytest.mark.parametrize("there", [b"", b"short", b"x" * BLOCK])
def test_a_file_that_became_shorter_is_an_error(tmp_path: pathlib.Path, there: bytes) -> None:
    (tmp_path / "file").write_bytes(there)
    with pytest.raises(errors.DirectoryChanged, match="shorter"):
        digest_of(tmp_path / "file", len(there) + 1)


def test_a_sparse_file_of_1_tib_takes_milliseconds(tmp_path: pathlib.Path) -> None:
    write_at(tmp_path / "file", 1 << 40, {1 << 39: b"in the middle"})
    began = time.thread_time()
    found = digest_of(tmp_path / "file")
    assert time.thread_time() - began < processes.patience(0.5)
    block = b"in the middle".ljust(BLOCK, b"\0")
    assert found == hashlib.sha256(
        (1 << 40).to_bytes(8, "big") + (1 << 39).to_bytes(8, "big") + block).hexdigest()


def test_zeros_have_a_digest_that_needs_no_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(b"\0" * 70_000)
    assert digest.of_zeros(70_000) == digest_of(tmp_path / "file")


def test_a_copy_keeps_content_and_makes_holes_of_zeros(tmp_path: pathlib.Path) -> None:
    content = os.urandom(5000) + b"\0" * (8 << 20) + os.urandom(5000)
    (tmp_path / "dense").write_bytes(content)
    with (tmp_path / "dense").open("rb") as source, (tmp_path / "copy").open("wb") as copy:
        sparse.copy(source.fileno(), copy.fileno(), 0, len(content), 0)
    assert (tmp_path / "copy").read_bytes() == content
    assert (tmp_path / "copy").stat().st_blocks * 512 < 100_000
