# SPDX-License-Identifier: Apache-2.0
"""The libvirt adapter on two real hosts: states while a guest moves, and what goes wrong.

Each test asks both hosts' libvirt over TCP from outside; the guests are real.
"""

import collections.abc
import dataclasses
import os
import threading
import time
import typing as ty

import pytest

from devstack import lab as labs
from devstack.lab import processes
from rbd_worker import errors
from rbd_worker.host import hypervisor
from rbd_worker.host.hypervisor import Hypervisor, MoveOrder, Progress
from rbd_worker.migration import settle
from rbd_worker.model import GuestState, RbdImage
from rbd_worker.triggers.domain_events import DomainEvents
from tests.unit.host import libvirt_settings

ABSENT, RUNNING, PAUSED = GuestState.ABSENT, GuestState.RUNNING, GuestState.PAUSED
INCOMING, OUTGOING = GuestState.INCOMING, GuestState.OUTGOING
LIMIT = processes.patience(3)

Both = tuple[GuestState, GuestState]


class Pair:
    """Both hosts' libvirt, seen by this process."""

    def __init__(self, lab: labs.Lab) -> None:
        self.lab = lab
        self._opened: list[Hypervisor] = []
        self.one, self.two = self.at("node1"), self.at("node2")

    def at(self, name: str, limit: float = LIMIT, **options: ty.Any) -> Hypervisor:
        settings = libvirt_settings.make(uri=self.lab.host(name).libvirt_uri, **options)
        one = Hypervisor(settings, name, limit)
        self._opened.append(one)
        return one

    def order(self, name: str = "node2") -> MoveOrder:
        return MoveOrder(name, inbound_address=self.lab.host(name).address)

    def states(self, guest: labs.Guest) -> Both:
        return self.one.state(guest.uuid), self.two.state(guest.uuid)

    def wait(self, guest: labs.Guest, wanted: Both, seconds: float = 15.0) -> None:
        processes.wait_until(lambda: self.states(guest) == wanted, seconds, str(wanted),
                             seen=lambda: self.states(guest))

    def close(self) -> None:
        for one in self._opened:
            one.close()


class Moving:
    """A move in a thread of its own, as the worker does it."""

    def __init__(self, source: Hypervisor, guest: labs.Guest, order: MoveOrder) -> None:
        self.progress: list[Progress] = []
        self.result: hypervisor.MoveResult | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(source, guest, order))
        self._thread.start()

    def _run(self, source: Hypervisor, guest: labs.Guest, order: MoveOrder) -> None:
        try:
            self.result = source.move(guest.uuid, order, self.progress.append)
        except errors.Error as e:
            self.error = e

    def wait_sent(self, size: int, seconds: float = 15.0) -> None:
        """Return once so many bytes of the guest's memory were sent."""
        self.wait_for(lambda last: last.memory_processed >= size, seconds)

    def wait_for(self, is_so: collections.abc.Callable[[Progress], bool],
                 seconds: float = 15.0) -> None:
        """Return once the newest progress is so."""
        processes.wait_until(lambda: bool(self.progress) and is_so(self.progress[-1]), seconds,
                             "its progress", seen=lambda: self.progress[-1:])

    def end(self, seconds: float = 60.0) -> None:
        self._thread.join(processes.patience(seconds))
        assert not self._thread.is_alive(), "the move does not end"


@pytest.fixture
def pair(lab: labs.Lab) -> collections.abc.Iterator[Pair]:
    one = Pair(lab)
    yield one
    one.close()


@pytest.fixture
def busy(lab: labs.Lab) -> labs.Guest:
    """A guest whose move does not converge at 4 MiB/s."""
    guest = lab.define_guest(lab.host("node1"), busy=True)
    guest.wait_for_console(lab.host("node1"))
    return guest


SLOW: dict[str, ty.Any] = {"live_migration_bandwidth": 4}


def test_a_guest_is_told_by_state_and_images_where_it_is(pair: Pair) -> None:
    guest = pair.lab.define_guest(pair.lab.host("node1"))
    assert pair.states(guest) == (RUNNING, ABSENT)
    assert pair.one.domains() == {guest.uuid: RUNNING}
    assert pair.two.domains() == {}
    assert pair.one.images(guest.uuid) == (RbdImage("vms", f"{guest.uuid}_disk"),)
    assert pair.two.images(guest.uuid) == ()
    pair.lab.host("node1").virsh("suspend", guest.uuid)
    assert pair.states(guest) == (PAUSED, ABSENT)
    pair.lab.host("node1").virsh("destroy", guest.uuid)
    assert pair.states(guest) == (GuestState.SHUTOFF, ABSENT)
    assert pair.one.images(guest.uuid) == (RbdImage("vms", f"{guest.uuid}_disk"),)


def test_a_guest_moves_there_and_back_with_its_figures(pair: Pair, lab: labs.Lab) -> None:
    guest = lab.define_guest(lab.host("node1"))
    directory = guest.directory(lab.host("node2"))
    directory.mkdir()
    result = pair.one.move(guest.uuid, pair.order(), lambda progress: None)
    assert pair.states(guest) == (ABSENT, RUNNING)
    assert result is not None
    assert 0 < result.downtime_ms < result.total_ms < processes.patience(20_000)
    assert 0 < result.memory_bytes < 64 << 20
    pair.two.move(guest.uuid, pair.order("node1"), lambda progress: None)
    assert pair.states(guest) == (RUNNING, ABSENT)
    assert lab.host("node1").virsh("domstate", "--reason", guest.uuid) == "running (migrated)"


def test_a_move_shows_as_outgoing_and_incoming_and_an_abort_ends_it(
        pair: Pair, busy: labs.Guest) -> None:
    _with_directory(pair, busy)
    source = pair.at("node1", live_migration_bandwidth=1)  # it is not even sent once meanwhile
    moving = Moving(source, busy, pair.order())
    pair.wait(busy, (OUTGOING, INCOMING))
    assert pair.one.has_job(busy.uuid) and pair.two.has_job(busy.uuid)
    assert pair.one.domains() == {busy.uuid: OUTGOING}
    assert pair.two.domains() == {busy.uuid: INCOMING}
    moving.wait_sent(1 << 20)
    moving.wait_for(lambda last: last.downtime_limit > 0)
    source.abort(busy.uuid)
    moving.end()
    assert isinstance(moving.error, errors.MoveUnsettled)
    assert pair.states(busy) == (RUNNING, ABSENT)
    assert not pair.one.has_job(busy.uuid)
    last = moving.progress[-1]
    assert last.memory_total > 64 << 20
    assert 1 << 20 < last.memory_processed < last.memory_total
    assert last.mode == "precopy" and last.downtime_limit == 50
    source.abort(busy.uuid)  # nothing moves: harmless


def test_a_forced_completion_pauses_the_guest_and_it_runs_at_its_destination(
        pair: Pair, busy: labs.Guest) -> None:
    _with_directory(pair, busy)
    source = pair.at("node1", live_migration_bandwidth=20)
    moving = Moving(source, busy, pair.order())
    pair.wait(busy, (OUTGOING, INCOMING))
    source.force_complete(busy.uuid)
    moving.end()
    assert moving.error is None
    assert pair.states(busy) == (ABSENT, RUNNING)


def test_a_guest_that_was_paused_to_complete_runs_again_when_its_move_fails(
        pair: Pair, busy: labs.Guest) -> None:
    _with_directory(pair, busy)
    source = pair.at("node1", live_migration_bandwidth=1)
    moving = Moving(source, busy, pair.order())
    pair.wait(busy, (OUTGOING, INCOMING))
    source.force_complete(busy.uuid)
    source.abort(busy.uuid)
    moving.end()
    assert moving.error is not None
    pair.wait(busy, (RUNNING, ABSENT))


def test_post_copy_completes_what_does_not_converge(pair: Pair, busy: labs.Guest) -> None:
    _with_directory(pair, busy)
    source = pair.at("node1", live_migration_permit_post_copy=True, **SLOW)
    moving = Moving(source, busy, pair.order())
    pair.wait(busy, (OUTGOING, INCOMING))
    moving.wait_sent(1 << 20)
    source.force_complete(busy.uuid)
    moving.end()
    assert moving.error is None
    assert pair.states(busy) == (ABSENT, RUNNING)


def test_a_move_that_takes_too_long_is_aborted(pair: Pair, busy: labs.Guest) -> None:
    _with_directory(pair, busy)
    source = pair.at("node1", live_migration_completion_timeout=1, **SLOW)  # 2 s for 64 MiB
    moving = Moving(source, busy, pair.order())
    began = time.monotonic()
    moving.end(20)
    assert time.monotonic() - began > 2
    assert isinstance(moving.error, errors.MoveUnsettled)
    assert "not complete after 2 s: abort" in str(moving.error)
    assert pair.states(busy) == (RUNNING, ABSENT)


def test_a_move_is_followed_by_a_worker_that_did_not_order_it(
        pair: Pair, busy: labs.Guest) -> None:
    """Its time began with the move, not with the worker."""
    _with_directory(pair, busy)
    moving = Moving(pair.at("node1", live_migration_completion_timeout=0, **SLOW), busy,
                    pair.order())
    pair.wait(busy, (OUTGOING, INCOMING))
    time.sleep(2)
    seen: list[Progress] = []
    heir = pair.at("node1", live_migration_completion_timeout=1, **SLOW)  # 2 s for 64 MiB
    began = time.monotonic()
    assert heir.follow(busy.uuid, seen.append) == "not complete after 2 s: abort"
    assert time.monotonic() - began < processes.patience(2)
    assert seen
    moving.end()
    assert pair.states(busy) == (RUNNING, ABSENT)
    assert isinstance(moving.error, errors.MoveUnsettled)


def test_a_move_that_ends_by_itself_is_followed_to_its_end(pair: Pair, busy: labs.Guest) -> None:
    _with_directory(pair, busy)
    moving = Moving(pair.at("node1", live_migration_bandwidth=20), busy, pair.order())
    pair.wait(busy, (OUTGOING, INCOMING))
    pair.one.force_complete(busy.uuid)
    assert pair.one.follow(busy.uuid, lambda progress: None) == ""
    moving.end()
    assert pair.states(busy) == (ABSENT, RUNNING)


def test_a_qemu_killed_at_the_destination_during_post_copy_strands_the_guest(
        pair: Pair, busy: labs.Guest) -> None:
    _with_directory(pair, busy)
    source = pair.at("node1", live_migration_permit_post_copy=True, **SLOW)
    moving = Moving(source, busy, pair.order())
    moving.wait_sent(1 << 20)
    pair.lab.host("node1").virsh("migrate-setspeed", "--postcopy", busy.uuid, "1")
    source.force_complete(busy.uuid)
    _wait_post_copy(pair, busy)
    there = pair.lab.host("node2")
    there.kill9(busy.qemu_pid(there))
    moving.end()
    assert isinstance(moving.error, errors.Error)
    processes.wait_until(lambda: pair.two.state(busy.uuid) in (GuestState.SHUTOFF, ABSENT), 15,
                         "that node2 knows of it", seen=lambda: pair.states(busy))
    state, other = pair.states(busy)
    assert state is GuestState.STRANDED
    found = settle.settle(state, other)
    assert found.place is settle.Place.NOWHERE_KNOWN and "the guest is lost" in found.sentence
    pair.lab.host("node1").virsh("destroy", busy.uuid)  # as it says
    assert pair.one.state(busy.uuid) in (GuestState.SHUTOFF, ABSENT)


def test_a_missing_directory_at_the_destination_leaves_the_guest_where_it_is(
        pair: Pair, lab: labs.Lab) -> None:
    guest = lab.define_guest(lab.host("node1"))
    with pytest.raises(errors.MoveRefused, match="No such file or directory"):
        pair.one.move(guest.uuid, pair.order(), lambda progress: None)
    assert pair.states(guest) == (RUNNING, ABSENT)


def test_a_qemu_killed_at_the_destination_leaves_the_guest_running_even_if_it_was_paused(
        pair: Pair, busy: labs.Guest) -> None:
    _with_directory(pair, busy)
    source = pair.at("node1", live_migration_bandwidth=1)
    moving = Moving(source, busy, pair.order())
    moving.wait_sent(1 << 20)
    source.force_complete(busy.uuid)
    assert pair.lab.host("node1").virsh("domstate", busy.uuid) == "paused"
    there = pair.lab.host("node2")
    there.kill9(busy.qemu_pid(there))
    moving.end()
    assert isinstance(moving.error, errors.MoveUnsettled)
    pair.wait(busy, (RUNNING, ABSENT))


def test_a_destination_without_libvirtd_may_be_tried_again(pair: Pair, lab: labs.Lab) -> None:
    guest = lab.define_guest(lab.host("node1"))
    lab.libvirt(lab.host("node2")).stop()
    try:
        with pytest.raises(errors.MoveInterrupted):
            pair.one.move(guest.uuid, pair.order(), lambda progress: None)
    finally:
        lab.libvirt(lab.host("node2")).start()
    assert pair.one.state(guest.uuid) is RUNNING


def test_graphics_listen_where_the_destination_says(pair: Pair, lab: labs.Lab) -> None:
    here, there = lab.host("node1"), lab.host("node2")
    guest = lab.define_guest(here, start=False)
    xml = here.virsh("dumpxml", guest.uuid).replace("</devices>", (
        f"<graphics type='vnc' port='-1' listen='{here.address}'/></devices>"
        "<metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>"
        "<nova:name>web-1</nova:name></nova:instance></metadata>"))
    here.virsh("define", "/dev/stdin", input=xml)
    here.virsh("start", guest.uuid)
    guest.directory(there).mkdir()
    order = dataclasses.replace(pair.order(), graphics_listen=there.address)
    pair.one.move(guest.uuid, order, lambda progress: None)
    for text in (there.virsh("dumpxml", guest.uuid),
                 there.virsh("dumpxml", "--inactive", guest.uuid)):
        assert here.address not in text
        assert text.count(there.address) >= 2
        assert "<nova:name>web-1</nova:name>" in text


def test_libvirtd_restarted_is_found_again_and_told(pair: Pair, lab: labs.Lab) -> None:
    guest = lab.define_guest(lab.host("node1"))
    seen, back = [], threading.Event()
    arrived = threading.Event()

    def note(instance: str, what: str) -> None:
        seen.append((instance, what))
        arrived.set()
    events = DomainEvents(pair.one, note, back.set)
    events.start()
    try:
        assert pair.one.state(guest.uuid) is RUNNING
        descriptors = len(os.listdir("/proc/self/fd"))
        lab.libvirt(lab.host("node1")).restart()
        assert back.wait(processes.patience(20))
        assert pair.one.state(guest.uuid) is RUNNING
        processes.wait_until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors, 10,
                             "the end of the lost connection")
        arrived.clear()
        lab.host("node1").virsh("suspend", guest.uuid)
        assert arrived.wait(processes.patience(5))
        assert seen[-1][0] == guest.uuid and seen[-1][1].startswith("suspended")
    finally:
        events.stop()


def test_a_silent_libvirtd_is_unavailable_in_time_and_answers_again(
        pair: Pair, lab: labs.Lab) -> None:
    guest = lab.define_guest(lab.host("node1"))
    impatient, warm = pair.at("node1", limit=0.5), pair.at("node1")
    assert warm.state(guest.uuid) is RUNNING
    service = lab.libvirt(lab.host("node1")).service
    service.pause()
    try:
        for _ in range(10):  # more questions than threads: the later ones end at once
            began = time.monotonic()
            with pytest.raises(errors.HypervisorUnavailable):
                impatient.state(guest.uuid)
            assert time.monotonic() - began < processes.patience(1.0)
        began = time.monotonic()
        warm.close()  # a worker that stops does not wait for libvirtd
        assert time.monotonic() - began < processes.patience(1.0)
    finally:
        service.resume()
    deadline = time.monotonic() + processes.patience(20)
    while True:
        try:
            assert impatient.state(guest.uuid) is RUNNING
            return
        except errors.HypervisorUnavailable:
            assert time.monotonic() < deadline, "libvirt does not answer again"
            time.sleep(0.1)


def _with_directory(pair: Pair, guest: labs.Guest) -> None:
    guest.directory(pair.lab.host("node2")).mkdir()


def _wait_post_copy(pair: Pair, guest: labs.Guest, seconds: float = 15.0) -> None:
    """Return once the guest runs at the destination, with memory that is still at the source."""
    deadline = time.monotonic() + processes.patience(seconds)
    while "post-copy" not in pair.lab.host("node1").virsh("domstate", "--reason", guest.uuid):
        assert time.monotonic() < deadline, "post-copy has not begun"
