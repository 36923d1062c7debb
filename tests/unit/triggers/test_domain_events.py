# SPDX-License-Identifier: Apache-2.0
"""libvirt's events on its own test driver."""

import pathlib
import threading
import time
import typing as ty

import libvirt
import pytest

from devstack.lab import processes
from rbd_worker import errors
from rbd_worker.host.hypervisor import Hypervisor
from rbd_worker.triggers.domain_events import DomainEvents
from tests.unit.host import libvirt_node, libvirt_settings
from tests.unit.host.libvirt_node import RUNNING


class Ear:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.reconnected = threading.Event()
        self.is_broken = False

    def on_event(self, instance: str, what: str) -> None:
        self.heard.append((instance, what))
        if self.is_broken:
            raise RuntimeError("a listener that fails")

    def wait(self, count: int, seconds: float = 5.0) -> list[tuple[str, str]]:
        processes.wait_until(lambda: len(self.heard) >= count, seconds, f"{count} events",
                             seen=lambda: self.heard)
        return self.heard


class Listening(ty.NamedTuple):
    hypervisor: Hypervisor
    events: DomainEvents
    ear: Ear

    def act(self, action: str) -> None:
        libvirt_node.act(self.hypervisor.connection, RUNNING, action)


@pytest.fixture
def listening(tmp_path: pathlib.Path):
    hypervisor = Hypervisor(libvirt_settings.make(uri=libvirt_node.write(tmp_path)), "node1", 5.0)
    ear = Ear()
    one = Listening(hypervisor, DomainEvents(hypervisor, ear.on_event, ear.reconnected.set), ear)
    one.events.start()
    yield one
    one.events.stop()
    hypervisor.close()


def test_what_happens_to_a_guest_is_told_with_its_uuid(listening: Listening):
    listening.act("suspend")
    listening.act("resume")
    listening.act("destroy")
    heard = listening.ear.wait(3)
    assert [instance for instance, _ in heard] == [RUNNING] * 3
    assert [what.split(",")[0] for _, what in heard] == ["suspended", "resumed", "stopped"]


def test_a_guest_that_stands_still_for_the_end_of_its_move_is_left_in_peace(
        listening: Listening):
    libvirtd = listening.hypervisor.connection.ask(lambda one: one)
    domain = libvirtd.lookupByUUIDString(RUNNING)
    for detail in (libvirt.VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED,
                   libvirt.VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY):
        listening.events._lifecycle(libvirtd, domain, libvirt.VIR_DOMAIN_EVENT_SUSPENDED,
                                    detail, None)
    postcopy = libvirt.VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY
    assert listening.ear.wait(1) == [(RUNNING, f"suspended, detail {postcopy}")]


def test_a_first_connection_is_not_told_as_one_that_came_back(listening: Listening):
    listening.act("suspend")
    listening.ear.wait(1)
    assert not listening.ear.reconnected.is_set()


def test_a_listener_that_fails_hears_the_next_event_all_the_same(listening: Listening):
    listening.ear.is_broken = True
    listening.act("suspend")
    listening.act("resume")
    assert len(listening.ear.wait(2)) == 2


def test_nothing_is_told_after_the_stop(listening: Listening):
    listening.events.stop()
    listening.act("suspend")
    time.sleep(0.2)
    assert listening.ear.heard == []


def test_libvirt_that_comes_later_is_waited_for_and_then_told(tmp_path: pathlib.Path):
    """libvirt's test driver fails to open a node that is not there yet."""
    uri = f"test://{tmp_path}/node.xml"
    hypervisor = Hypervisor(libvirt_settings.make(uri=uri), "node1", 5.0)
    ear = Ear()
    events = DomainEvents(hypervisor, ear.on_event, ear.reconnected.set)
    events.start()
    try:
        with pytest.raises(errors.HypervisorUnavailable):
            hypervisor.state(RUNNING)
        before = time.process_time()
        assert not ear.reconnected.wait(0.3)
        assert time.process_time() - before < 0.1  # it sleeps between its attempts
        libvirt_node.write(tmp_path)
        assert ear.reconnected.wait(10)
        libvirt_node.act(hypervisor.connection, RUNNING, "suspend")
        assert ear.wait(1)[0][0] == RUNNING
    finally:
        events.stop()
        hypervisor.close()


def test_waiting_for_events_costs_no_cpu_time(listening: Listening):
    before = time.process_time()
    time.sleep(1.0)
    assert time.process_time() - before < 0.05
