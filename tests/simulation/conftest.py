# SPDX-License-Identifier: Apache-2.0
"""For the simulation: a place in memory, and no log lines."""

import pathlib
import typing as ty

import pytest

from tests.simulation import many


@pytest.fixture
def root() -> ty.Iterator[pathlib.Path]:
    with many.memory() as place, many.quiet_logs():
        yield place
