# SPDX-License-Identifier: Apache-2.0
"""Executor nova: Nova moves the guest, the worker keeps its history and its hosts clean."""

import concurrent.futures
import dataclasses
import time

import pytest

from devstack import lab as labs
from devstack.lab import processes
from rbd_worker.model import Outcome
from tests.functional.fleet import Fleet
from tests.functional.nova_standin import DestinationDiskExists, Nova

pytestmark = pytest.mark.lab

GRACE = 2


def _nova(fleet: Fleet, **options) -> Nova:
    fleet.start(executor="nova", nova_cleanup_grace=GRACE, **options)
    return Nova(fleet.lab, fleet.conductor)


def test_the_console_history_follows_the_guest_there_and_back(fleet: Fleet):
    nova = _nova(fleet)
    guest = fleet.lab.define_guest(fleet.one, talkative=True)
    guest.wait_for_console(fleet.one)
    said = guest.console(fleet.one)
    for source, destination in ((fleet.one, fleet.two), (fleet.two, fleet.one)):
        order = fleet.order(guest, source, destination)
        nova.live_migrate(guest, order)
        entries = fleet.closed(order)
        assert {e.outcome for e in entries.values()} == {Outcome.COMPLETED}
        assert guest.running_on() == [destination.name]
        assert not guest.directory(source).exists()
    names = sorted(p.name for p in guest.directory(fleet.one).glob("console.log*"))
    oldest = (guest.directory(fleet.one) / names[-1]).read_text()
    assert oldest.startswith(said)
    assert (guest.directory(fleet.one) / "disk.info").exists()
    assert fleet.staging(fleet.one) == fleet.staging(fleet.two) == []


def test_a_leftover_makes_nova_alone_fail_and_with_the_worker_it_migrates(fleet: Fleet):
    guest = fleet.lab.define_guest(fleet.one)
    leftover = guest.directory(fleet.two)
    leftover.mkdir()
    (leftover / "console.log").write_text("precious\n")
    alone = Nova(fleet.lab, fleet.conductor)
    with pytest.raises(DestinationDiskExists):
        alone.live_migrate(guest, fleet.order(guest, fleet.one, fleet.two))
    assert not leftover.exists()  # Nova's rollback has deleted it, unseen

    nova = _nova(fleet)
    leftover.mkdir()
    (leftover / "console.log").write_text("precious\n")
    time.sleep(0.6)
    order = fleet.order(guest, fleet.one, fleet.two)
    nova.live_migrate(guest, order, check_seconds=2)  # a busy machine's worker judges slowly
    fleet.closed(order)
    assert guest.running_on() == ["node2"]
    (item,) = fleet.trash(fleet.two)
    assert (item / "console.log").read_text() == "precious\n"


def test_what_nova_leaves_after_an_error_is_removed_by_proof(fleet: Fleet):
    nova = _nova(fleet)
    guest = fleet.lab.define_guest(fleet.one)
    order = fleet.order(guest, fleet.one, fleet.two)
    nova.live_migrate(guest, order, post_error=True)
    assert guest.directory(fleet.one).is_dir()
    entries = fleet.closed(order)
    assert {e.outcome for e in entries.values()} == {Outcome.COMPLETED}
    assert not guest.directory(fleet.one).exists()
    assert len(fleet.trash(fleet.one)) == 1


def test_a_failed_migration_leaves_the_source_whole_and_nothing_at_the_destination(
        fleet: Fleet):
    nova = _nova(fleet, audit_action="report")
    guest = fleet.lab.define_guest(fleet.one, talkative=True)
    guest.wait_for_console(fleet.one)
    order = fleet.order(guest, fleet.one, fleet.two)
    guest.directory(fleet.two).mkdir()  # it is only reported: Nova has to fail
    with pytest.raises(DestinationDiskExists):
        nova.live_migrate(guest, order)
    entries = fleet.closed(order)
    assert {e.outcome for e in entries.values()} == {Outcome.FAILED}
    assert guest.running_on() == ["node1"]
    assert "tick" in guest.console(fleet.one)
    assert fleet.staging(fleet.two) == [] and fleet.trash(fleet.one) == []


def test_without_a_worker_at_the_destination_nova_goes_on(fleet: Fleet):
    nova = _nova(fleet)
    fleet.workers["node2"].stop()
    guest = fleet.lab.define_guest(fleet.one)
    order = fleet.order(guest, fleet.one, fleet.two)
    began = time.monotonic()
    nova.live_migrate(guest, order)
    assert time.monotonic() - began < processes.patience(15)
    assert guest.running_on() == ["node2"]
    assert not guest.directory(fleet.one).exists()
    fleet.restart(fleet.two)
    entries = fleet.closed(order, seconds=90)
    assert {e.outcome for e in entries.values()} == {Outcome.COMPLETED}


def test_files_that_come_late_wait_for_the_end_of_a_resize(fleet: Fleet):
    """What would be placed beside ``<uuid>_resize`` a revert deletes."""
    nova = _nova(fleet, unresolved_retry_max=2)
    fleet.workers["node2"].stop()
    guest = fleet.lab.define_guest(fleet.one, talkative=True)
    guest.wait_for_console(fleet.one)
    said = guest.console(fleet.one)
    order = fleet.order(guest, fleet.one, fleet.two)
    nova.live_migrate(guest, order)
    directory = guest.directory(fleet.two)
    fleet.two.virsh("destroy", guest.uuid)
    aside = directory.rename(f"{directory}_resize")
    fleet.restart(fleet.two)
    fleet.until(lambda: "to be confirmed or reverted" in fleet.entry(fleet.one, order).reason,
                "the reason", 90)
    assert not directory.exists()
    aside.rename(directory)
    fleet.two.virsh("start", guest.uuid)
    entries = fleet.closed(order, seconds=90)
    assert {e.outcome for e in entries.values()} == {Outcome.COMPLETED}
    assert said in "".join(log.read_text() for log in directory.glob("console.log.*"))


def test_forged_orders_while_the_guest_moves_do_not_end_the_real_one(fleet: Fleet):
    """nova-compute fails after the move: the source's directory is left to the plan."""
    nova = _nova(fleet)
    guest = fleet.lab.define_guest(fleet.one, busy=True)
    guest.wait_for_console(fleet.one)
    said = guest.console(fleet.one)
    order, again, elsewhere = (fleet.order(guest, fleet.one, fleet.two) for _ in range(3))
    elsewhere = dataclasses.replace(elsewhere, destination="node9")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        moving = pool.submit(nova.live_migrate, guest, order, bandwidth=4, post_error=True)
        fleet.until(lambda: guest.state(fleet.two) == "paused", "the guest's arriving")
        for forged in (again, elsewhere):
            fleet.conductor.live_migrate(forged)
            fleet.until(lambda forged=forged: fleet.entry(fleet.one, forged) is not None,
                        "the forged order's being heard")
        assert guest.running_on() == ["node1"]
        fleet.one.virsh("migrate-setspeed", guest.uuid, "1000")
        fleet.one.virsh("suspend", guest.uuid)  # as Nova completes a move; it runs again there
        moving.result()
    entries = fleet.closed(order, seconds=90)
    assert {e.outcome for e in entries.values()} == {Outcome.COMPLETED}
    assert guest.running_on() == ["node2"]
    assert (guest.directory(fleet.two) / "console.log.0").read_text().startswith(said)
    assert not guest.directory(fleet.one).exists() and len(fleet.trash(fleet.one)) == 1
    for forged in (again, elsewhere):
        fleet.until(lambda forged=forged: not fleet.entry(fleet.one, forged).is_open,
                    "the end of a forged order", 90)
        entry = fleet.entry(fleet.one, forged)
        assert entry.outcome is Outcome.FAILED and order.uuid in entry.reason
    assert fleet.staging(fleet.two) == []


def test_the_worker_with_executor_libvirt_refuses_to_start_beside_nova_compute(fleet: Fleet):
    with _nova_compute_queue(fleet.lab, "node1"):
        fleet.lab.write_config(fleet.one, executor="libvirt")
        worker = fleet.lab.start_worker(fleet.one)
        assert worker.exit_status() == 1
        assert "nova-compute runs for this host" in worker.log_text


class _nova_compute_queue:
    """A consumer on the queue that only nova-compute consumes."""

    def __init__(self, lab: labs.Lab, host: str) -> None:
        import kombu
        self._connection = kombu.Connection(lab.broker_url.replace("rabbit://", "pyamqp://"))
        channel = self._connection.channel()
        queue = kombu.Queue(f"compute.{host}", channel=channel, durable=False)
        queue.declare()
        self._consumer = kombu.Consumer(channel, [queue], callbacks=[lambda *_: None])

    def __enter__(self):
        self._consumer.consume()
        return self

    def __exit__(self, *_):
        self._connection.release()
