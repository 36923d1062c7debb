# SPDX-License-Identifier: Apache-2.0
"""The lab for the functional tests: brought up once, reset before each test.

Where the lab cannot run, the tests are skipped with the reason; where CI is
set they fail instead, since there a silent skip would look like success.
Tests of one process share one lab; `-n 2 --dist loadfile` gives each of two processes its own.
"""

import collections.abc
import pathlib

import pytest

from devstack import lab as labs
from devstack.conductor import Conductor
from devstack.lab import checks
from tests import lab_session
from tests.functional.fleet import Fleet

HERE = pathlib.Path(__file__).parent

#: A session's lab is named for the number of its process.
OWN_LABS = "/var/tmp/rbdw-lab-"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory carries the mark ``lab``."""
    lab_session.mark(items, HERE, "lab")


@pytest.fixture(scope="session")
def lab_parts() -> None:
    """Ends the test here where the machine cannot run a lab."""
    lab_session.demand(checks.why_not())


@pytest.fixture(scope="session")
def running_lab(lab_parts: None) -> collections.abc.Iterator[labs.Lab]:
    """The session's own lab, up until its end."""
    with lab_session.own_lab(OWN_LABS) as one:
        yield one


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


@pytest.fixture(scope="module")
def shared(running_lab: labs.Lab) -> collections.abc.Iterator[Fleet]:
    """Two workers with executor libvirt for all tests of a file; each brings its own guest."""
    running_lab.reset()
    with Conductor(running_lab.broker_url) as conductor:
        one = Fleet(running_lab, conductor)
        one.start()
        yield one
        for worker in one.workers.values():
            worker.kill9()


@pytest.fixture
def started(fleet: Fleet) -> Fleet:
    """Two workers with executor libvirt, ready."""
    fleet.start()
    return fleet
