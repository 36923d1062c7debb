# SPDX-License-Identifier: Apache-2.0
"""One lab with one Nova for all of the gate's tests; each test has its own servers.

Where a part is missing the tests are skipped with the reason; where CI is set
they fail instead.  Run them serially.
"""

import collections.abc
import os
import pathlib

import pytest

from devstack import gate
from devstack import lab as labs
from devstack.lab import checks
from tests.gate.scene import Scene

HERE = pathlib.Path(__file__).parent

#: A session's lab is named for the number of its process.
OWN_LABS = pathlib.Path("/var/tmp/rbdw-gate-")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory carries the mark ``gate``."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gate)


@pytest.fixture(scope="session")
def gate_parts() -> None:
    """Ends the test here where the machine cannot run the gate."""
    lacks = gate.missing()
    reason = checks.why_not() or (f"missing: {', '.join(lacks)}; run: make gate" if lacks else "")
    if reason and os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def cloud(gate_parts: None) -> collections.abc.Iterator[gate.Cloud]:
    """Nova on a lab of the session's own.

    With RBD_WORKER_LAB set that directory is used, and a lab that is up there
    already is left up: handy for running one test again and again.
    """
    named = os.environ.get("RBD_WORKER_LAB")
    if named:
        root = pathlib.Path(named)
    else:
        _sweep()
        root = pathlib.Path(f"{OWN_LABS}{os.getpid()}")
    was_up = root.exists()
    lab = labs.up(root=root)
    yield gate.up(lab)
    if not (named and was_up):
        lab.down()


def _sweep() -> None:
    """Remove the labs of sessions that were killed."""
    for root in OWN_LABS.parent.glob(OWN_LABS.name + "*"):
        if not pathlib.Path("/proc", root.name.removeprefix(OWN_LABS.name)).exists():
            labs.down(root)


@pytest.fixture
def scene(cloud: gate.Cloud) -> collections.abc.Iterator[Scene]:
    """Nova at rest without a server, no worker, nothing on the hosts' disks."""
    one = Scene(cloud)
    one.clear()
    yield one
    one.clear()
