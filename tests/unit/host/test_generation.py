# SPDX-License-Identifier: Apache-2.0
"""A directory is told from an earlier one that had its inode."""

import pathlib

import pytest

from rbd_worker.host import syscalls
from tests.unit.host.trees import UUID, Host


def test_a_new_directory_with_the_inode_of_an_old_one_is_another(tmp_path: pathlib.Path) -> None:
    host = Host(tmp_path / "instances")
    host.make()
    with host.pin() as pinned:
        before = pinned.lasting_identity
        if not syscalls.generation(pinned.fd):
            pytest.skip("this file system tells no generation")
    for _ in range(8):
        (host.path / UUID).rmdir()
        host.make()
        with host.pin() as one, host.pin() as same:
            assert one.lasting_identity == same.lasting_identity != before
