# SPDX-License-Identifier: Apache-2.0
import collections.abc
import pathlib

import pytest

from tests.unit.snapshots import parts


@pytest.fixture
def worker(tmp_path: pathlib.Path) -> collections.abc.Iterator[parts.Worker]:
    """A host that has a guest with two disks."""
    one = parts.Worker(tmp_path, parts.ROOT, parts.DATA)
    yield one
    one.journal.close()
