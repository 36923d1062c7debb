# SPDX-License-Identifier: Apache-2.0
"""Migrations that end badly: what Nova leaves on the disks, and what holds with the worker."""

import os
import signal
import time

from devstack.lab import processes
from rbd_worker.model import Outcome
from tests.gate.scene import Scene
from tests.gate.under_way import let_arrive, on_its_way

#: What the steps after a migration (or a rollback) ask of neutron first.
NEUTRON = "GET /network/v2.0/(ports|extensions)"


def test_an_aborted_migration_leaves_nothing_at_the_destination(scene: Scene):
    scene.start_workers()
    server = on_its_way(scene)
    scene.cloud.abort(server)
    migration = scene.cloud.ended_migration(server, before=0)
    # Nova 34 stumbles over its own abort; and it calls it failed where it looks half a second
    # later, at a job that is gone (find_job_type of its libvirt driver)
    assert migration.status in ("cancelled", "error", "failed")
    outcomes = scene.outcomes(server, migration)
    assert set(outcomes.values()) <= {Outcome.CANCELLED, Outcome.FAILED}, outcomes
    assert scene.cloud.guest(server).running_on() == ["node1"]
    assert scene.cloud.directories(server) == ["node1"]
    assert scene.staging() == [] and scene.trash(scene.one) == []


def test_an_abort_whose_rollback_fails(scene: Scene):
    scene.start_workers(audit_min_age=1, audit_pause=1)
    server = on_its_way(scene)
    scene.cloud.inject(scene.two, NEUTRON)
    scene.cloud.abort(server)
    scene.until(lambda: scene.cloud.show(server).status == "ERROR", "Nova's failure")
    scene.cloud.end_fault()
    assert scene.cloud.guest(server).running_on() == ["node1"]
    assert scene.cloud.directories(server) == ["node1", "node2"]  # what Nova leaves
    scene.assert_audit_trashes(server, scene.two)
    assert scene.cloud.directories(server) == ["node1"]


def test_nova_compute_killed_at_the_destination_and_the_migration_aborted(scene: Scene):
    scene.start_workers(audit_min_age=1, audit_pause=1)
    server = on_its_way(scene)
    scene.cloud.compute("node2").kill9()
    scene.cloud.abort(server)
    scene.until(lambda: scene.cloud.migrations(server)[-1].has_ended, "the abort")
    assert scene.cloud.guest(server).running_on() == ["node1"]
    assert scene.cloud.directories(server) == ["node1", "node2"]  # Nova's cast waits in its queue
    scene.assert_audit_trashes(server, scene.two)
    scene.cloud.start_compute("node2")
    assert scene.cloud.guest(server).running_on() == ["node1"]
    assert scene.cloud.directories(server) == ["node1"]


def test_an_error_in_novas_steps_after_the_migration(scene: Scene):
    scene.start_workers()
    _restart_compute(scene)  # its first question to neutron then comes after the migration
    server = on_its_way(scene)
    scene.cloud.inject(scene.one, NEUTRON)
    let_arrive(scene, server)
    scene.until(lambda: scene.cloud.show(server).status == "ERROR", "Nova's failure")
    scene.cloud.end_fault()
    assert scene.cloud.show(server).host == "node2"
    outcomes = scene.outcomes(server, scene.cloud.migrations(server)[-1])
    assert set(outcomes.values()) == {Outcome.COMPLETED}
    assert scene.cloud.directories(server) == ["node2"]
    assert len(scene.trash(scene.one)) == 1  # what Nova left
    assert "openstack server set --state active" in scene.entries(scene.one, server)[-1].reason
    scene.cloud.reset_state(server)
    scene.assert_whole(server, scene.two)


def _restart_compute(scene: Scene) -> None:
    scene.cloud.compute("node1").kill9()
    scene.cloud.start_compute("node1")


def test_nova_compute_killed_at_the_source_leaves_a_wrong_record_that_can_be_mended(
        scene: Scene):
    scene.start_workers(audit_min_age=1, audit_pause=1)
    server = on_its_way(scene)
    scene.cloud.compute("node1").kill9()
    let_arrive(scene, server)
    assert scene.cloud.directories(server) == ["node1", "node2"]  # what Nova leaves
    there = scene.directory(scene.two, server)
    inode = there.stat().st_ino
    outcomes = scene.outcomes(server, scene.cloud.migrations(server)[-1])
    assert set(outcomes.values()) == {Outcome.COMPLETED}
    scene.cloud.start_compute("node1")
    assert scene.cloud.show(server).host == "node1"  # Nova's record is wrong
    for host in scene.hosts:
        scene.audit(host)
    assert scene.cloud.guest(server).running_on() == ["node2"]
    assert there.stat().st_ino == inode and (there / "console.log").exists()
    assert scene.trash(scene.two) == []
    said = scene.entries(scene.one, server)[-1].reason
    assert "the guest is on node2" in said and "Nova's record may be wrong" in said
    _mend_by_moving_back(scene, server)


def _mend_by_moving_back(scene: Scene, server: str) -> None:
    """The remedy that the worker names: the guest goes to where Nova takes it to be."""
    (item,) = scene.trash(scene.one)
    scene.workerctl(scene.one, "trash", "restore", item.parent.name)
    scene.cloud.guest(server).migrate(scene.two, scene.one)
    scene.assert_audit_trashes(server, scene.two)  # what virsh left
    scene.assert_whole(server, scene.one)


def test_a_guest_that_dies_on_its_way_is_unresolved_until_it_is_started_again(scene: Scene):
    """Nova takes it as moved: it forgets the guest and removes the source's directory."""
    scene.start_workers(nova_cleanup_grace=20, settle_interval=1, unresolved_retry_max=2)
    server = on_its_way(scene)
    compute = scene.cloud.compute("node1")
    compute.pause()  # it would take a question that fails just then for the migration's failure
    time.sleep(processes.patience(0.5))  # for libvirtd to answer the one that is under way
    scene.one.kill9(scene.cloud.guest(server).qemu_pid(scene.one))
    scene.until(lambda: scene.cloud.guest(server).running_on() == [], "the guest's end")
    compute.resume()
    scene.until(lambda: scene.cloud.show(server).status == "ERROR", "Nova's conclusion")
    assert scene.cloud.show(server).host == "node2"
    assert not scene.directory(scene.one, server).exists()
    scene.until(lambda: any(e.outcome is Outcome.UNRESOLVED
                            for e in scene.entries(scene.one, server)), "the worker's")
    said = scene.workerctl(scene.one, "migration", "list", "--open")
    assert "openstack server reboot --hard" in said, said
    scene.cloud.reboot_hard(server)
    outcomes = scene.outcomes(server, scene.cloud.migrations(server)[-1])
    assert set(outcomes.values()) == {Outcome.COMPLETED}
    scene.assert_whole(server, scene.two)
    history = scene.directory(scene.two, server) / "console.log.0"
    assert "tick 00000001" in history.read_text(errors="replace")


def test_a_guest_that_dies_while_nova_asks_for_its_progress_stays_where_it_was(scene: Scene):
    """libvirt's answer is then an error that Nova knows nothing of, and it cleans up nothing."""
    scene.start_workers(audit_min_age=1, audit_pause=1)
    server = on_its_way(scene)
    qemu = scene.cloud.guest(server).qemu_pid(scene.one)
    os.kill(scene.one.pids()[qemu], signal.SIGSTOP)
    time.sleep(processes.patience(2))  # Nova asks each half second, and then waits for QEMU
    scene.one.kill9(qemu)
    scene.until(lambda: scene.cloud.show(server).status == "ERROR", "Nova's conclusion")
    assert scene.cloud.show(server).host == "node1"
    outcomes = scene.outcomes(server, scene.cloud.migrations(server)[-1])
    assert set(outcomes.values()) == {Outcome.FAILED}
    assert "the guest is shut off at the source" in scene.entries(scene.one, server)[-1].reason
    assert scene.cloud.directories(server) == ["node1", "node2"]  # what Nova leaves
    log = scene.directory(scene.one, server) / "console.log"
    assert "tick 00000001" in log.read_text(errors="replace")
    scene.cloud.reboot_hard(server)
    scene.assert_audit_trashes(server, scene.two)
    scene.assert_whole(server, scene.one)
