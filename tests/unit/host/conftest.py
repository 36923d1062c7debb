# SPDX-License-Identifier: Apache-2.0
import pathlib

import pytest

from rbd_worker.host import staging, trash
from tests.unit.host.trees import DAY, UUID, Clock, Host


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path / "instances")


@pytest.fixture
def source(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path / "source")


@pytest.fixture
def destination(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path / "destination")


@pytest.fixture
def area(destination: Host) -> staging.Staging:
    return staging.Staging(destination.directories, UUID)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bin_(host: Host, clock: Clock) -> trash.Trash:
    """A trash that keeps things for a week."""
    return trash.Trash(host.directories, 7 * DAY, clock)
