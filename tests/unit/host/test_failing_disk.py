# SPDX-License-Identifier: Apache-2.0
"""Copies on a disk that cannot be written for a while: fsync says so only once for each file."""

import os
import pathlib
import typing as ty

import pytest

from rbd_worker import errors
from rbd_worker.host import digest, staging
from tests.unit.host.trees import UUID, FailingDisk, Host, needs_root, never, snapshot

pytestmark = [needs_root, pytest.mark.skipif(
    not os.path.exists("/dev/loop-control"), reason="needs loop devices")]

#: Content that takes blocks of its own.
_CONTENT = os.urandom(300_000)


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> ty.Iterator[FailingDisk]:
    with FailingDisk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
def destination(disk: FailingDisk, tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path / "disk" / "instances")


def test_what_a_failing_disk_did_not_take_is_written_again_before_it_counts_as_durable(
        disk: FailingDisk, source: Host, destination: Host, area: staging.Staging) -> None:
    with area.opened():
        pass
    (source.make(console_log=_CONTENT) / "deep").mkdir()
    source.make(deep__kernel=_CONTENT[::-1])
    disk.fail()
    with source.pinned() as files:
        entries = files.entries_inline({})
        area.ensure(files.root, entries, never)
        for _ in range(5):  # once for each file, and some more
            with pytest.raises(errors.Error):
                area.sync()
        disk.recover()
        before = snapshot(destination.path / ".rbd-worker" / "staging" / UUID / "tree")
        area.ensure(files.root, entries, never)
        area.sync()
    disk.forget()
    with area.opened() as opened:
        for entry in entries:
            if entry.kind == "file":
                fd = opened.open_file(entry.path)
                assert fd is not None
                assert digest.of(fd, entry.size) == entry.digest
                os.close(fd)
    assert snapshot(destination.path / ".rbd-worker" / "staging" / UUID / "tree") == before
    assert area.entries() != ()
