# SPDX-License-Identifier: Apache-2.0
"""A worker that is told to stop is gone at once, and says nothing that worries anybody."""

import time

import pytest

from devstack.lab import processes
from tests.functional.fleet import Fleet

pytestmark = pytest.mark.lab

#: After so long without a message oslo.messaging's listener looks up every 5 s only.
IDLE_SECONDS = 11


def test_an_idle_worker_stops_within_two_seconds_and_without_a_warning(fleet: Fleet):
    fleet.start(executor="nova", audit_interval=0)
    time.sleep(IDLE_SECONDS)
    worker = fleet.workers["node1"]
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < processes.patience(2)
    _, _, after = worker.log_text.partition("rbd-worker stops")
    assert after and "WARNING" not in after and "ERROR" not in after


def test_the_message_that_wakes_it_is_no_business_of_the_next_worker(fleet: Fleet):
    fleet.start(executor="nova", audit_interval=0)
    fleet.workers["node1"].stop()
    said = fleet.restart(fleet.one).log_text.splitlines()
    # on a busy machine the start takes longer than the 5 s after which it says so
    assert [line for line in said if "WARNING" in line and "is not ready yet" not in line] == []
