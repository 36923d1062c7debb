# SPDX-License-Identifier: Apache-2.0
"""The lab for the functional tests: brought up once, reset before each test.

Where the lab cannot run, the tests are skipped with the reason; where CI is
set they fail instead, since there a silent skip would look like success.
Functional tests share the one lab: run them serially.
"""

import collections.abc
import os
import pathlib

import pytest

from devstack import lab as labs
from devstack.conductor import Conductor
from devstack.lab import checks
from tests.functional.fleet import Fleet

HERE = pathlib.Path(__file__).parent

#: A session's lab is named for the number of its process.
OWN_LABS = pathlib.Path("/var/tmp/rbdw-lab-")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory carries the mark ``lab``."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.lab)


@pytest.fixture(scope="session")
def lab_parts() -> None:
    """Ends the test here where the machine cannot run a lab."""
    reason = checks.why_not()
    if reason and os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def running_lab(lab_parts: None) -> collections.abc.Iterator[labs.Lab]:
    """The session's own lab, apart from one that a developer may have up.

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
    one = labs.up(root=root)
    yield one
    if not (named and was_up):
        one.down()


def _sweep() -> None:
    """Remove the labs of sessions that were killed."""
    for root in OWN_LABS.parent.glob(OWN_LABS.name + "*"):
        if not pathlib.Path("/proc", root.name.removeprefix(OWN_LABS.name)).exists():
            labs.down(root)


@pytest.fixture
def lab(running_lab: labs.Lab) -> labs.Lab:
    """The lab in its first state: no workers, guests, directories, images or queues."""
    running_lab.reset()
    return running_lab


@pytest.fixture
def node1(lab: labs.Lab) -> labs.Host:
    return lab.host("node1")


@pytest.fixture
def node2(lab: labs.Lab) -> labs.Host:
    return lab.host("node2")


@pytest.fixture
def fleet(lab: labs.Lab) -> collections.abc.Iterator[Fleet]:
    """Two hosts and a conductor; the workers are started by the test."""
    with Conductor(lab.broker_url) as conductor:
        one = Fleet(lab, conductor)
        yield one
        for worker in one.workers.values():
            worker.kill9()
