# SPDX-License-Identifier: Apache-2.0
"""One lab with one Nova for all of the gate's tests; each test has its own servers.

Where a part is missing the tests are skipped with the reason; where CI is set
they fail instead.  Run them serially.
"""

import collections.abc
import pathlib

import pytest

from devstack import gate
from tests import lab_session
from tests.gate.scene import Scene

HERE = pathlib.Path(__file__).parent

#: A session's lab is named for the number of its process.
OWN_LABS = "/var/tmp/rbdw-gate-"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory carries the mark ``gate``."""
    lab_session.mark(items, HERE, "gate")


@pytest.fixture(scope="session")
def gate_parts() -> None:
    """Ends the test here where the machine cannot run the gate."""
    lab_session.demand(gate.why_not())


@pytest.fixture(scope="session")
def cloud(gate_parts: None) -> collections.abc.Iterator[gate.Cloud]:
    """Nova on a lab of the session's own; see ``lab_session.own_lab``."""
    with lab_session.own_lab(OWN_LABS) as lab:
        yield gate.up(lab)


@pytest.fixture
def scene(cloud: gate.Cloud) -> collections.abc.Iterator[Scene]:
    """Nova at rest without a server, no worker, nothing on the hosts' disks."""
    one = Scene(cloud)
    one.clear()
    yield one
    one.clear()
