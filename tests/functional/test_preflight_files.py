# SPDX-License-Identifier: Apache-2.0
"""instances_path and the hook as preflight sees them: each row broken and seen to fail."""

import os

import pytest

from devstack import lab as labs
from devstack.lab import worker as lab_worker
from tests.functional.fleet import Fleet
from tests.functional.preflights import ask, restart_libvirt, says, with_hook

INSTANCES = "/var/lib/nova/instances"
HOOK = "/etc/libvirt/hooks/qemu.d/50-rbd-worker"


def test_the_path_of_a_sound_pair_is_measured(started: Fleet) -> None:
    guest = started.lab.define_guest(started.one)
    asked = ask(started.one, "node2", "--instance", guest.uuid)
    names = {"files.path", "files.writable", "files.owner", "files.area", "files.space",
             "files.leftover", "files.source", "files.same-path", "files.shared"}
    assert names <= set(asked.rows)
    assert {r["State"] for name in names for r in asked.rows[name]} == {"ok"}
    assert asked.one("files.shared")["Found"] == "not shared with node2"


def test_a_path_that_went_away_fails(started: Fleet) -> None:
    started.two.run(["mv", INSTANCES, f"{INSTANCES}.away"])
    try:
        asked = ask(started.one, "node2")
    finally:
        started.two.run(["mv", f"{INSTANCES}.away", INSTANCES])
    says(asked.one("files.path", "node2"), "failed", INSTANCES, "mount")
    assert asked.one("files.path", "node1")["State"] == "ok"


def _mounted(host: labs.Host, *options: str) -> None:
    host.run(["mount", "-t", "tmpfs", *options, "tmpfs", INSTANCES])


def test_a_file_system_without_space_fails(fleet: Fleet) -> None:
    _mounted(fleet.two, "-o", "size=32m")
    try:
        fleet.start()
        asked = ask(fleet.one, "node2")
    finally:
        fleet.workers["node2"].kill9()
        fleet.two.run(["umount", "-l", INSTANCES])
    says(asked.one("files.space", "node2"), "failed", "MiB", "Free space")
    assert "a mount of its own" in asked.one("files.path", "node2")["Found"]


def test_a_file_system_that_is_read_only_fails(started: Fleet) -> None:
    _mounted(started.two, "-o", "ro")
    try:
        asked = ask(started.one, "node2")
    finally:
        started.two.run(["umount", "-l", INSTANCES])
    says(asked.one("files.writable", "node2"), "failed", "Read-only", "read-only")
    says(asked.one("files.area", "node2"), "failed", INSTANCES, "chown")
    says(asked.one("files.shared"), "unknown", "cannot tell", "Nothing is copied")


@pytest.mark.parametrize(("mode", "owner", "state", "found"), [
    (0o777, 0, "failed", "every user"), (0o755, 12345, "warning", "belongs to user 12345")])
def test_a_path_of_somebody_else_is_told(started: Fleet, mode: int, owner: int, state: str,
                                         found: str) -> None:
    path, before = started.two.nova_instances, started.two.nova_instances.stat()
    os.chown(path, owner, -1)
    path.chmod(mode)
    try:
        row = ask(started.one, "node2").one("files.owner", "node2")
    finally:
        os.chown(path, before.st_uid, -1)
        path.chmod(before.st_mode & 0o7777)
    says(row, state, found, "chown nova")


def test_an_area_that_others_can_write_to_fails(started: Fleet) -> None:
    area = started.two.nova_instances / ".rbd-worker"
    area.mkdir(exist_ok=True)
    area.chmod(0o777)
    try:
        row = ask(started.one, "node2").one("files.area", "node2")
    finally:
        area.chmod(0o700)
    says(row, "failed", "does not belong to user 0 alone", "chmod it to 0700")


def test_a_leftover_at_the_destination_is_told(started: Fleet) -> None:
    guest = started.lab.define_guest(started.one)
    guest.directory(started.two).mkdir()
    row = ask(started.one, "node2", "--instance", guest.uuid).one("files.leftover")
    assert row["Host"] == "node2"
    says(row, "warning", "DestinationDiskExists", "rbd-workerctl audit")


def test_a_directory_that_cannot_be_carried_fails(started: Fleet) -> None:
    guest = started.lab.define_guest(started.one)
    os.mkfifo(guest.directory(started.one) / "pipe")
    row = ask(started.one, "node2", "--instance", guest.uuid).one("files.source")
    says(row, "failed", "pipe", "Only regular files")


def test_a_guest_without_a_directory_is_told(started: Fleet) -> None:
    guest = started.lab.define_guest(started.one)
    guest.directory(started.one).rename(started.one.nova_instances / "elsewhere")
    row = ask(started.one, "node2", "--instance", guest.uuid).one("files.source")
    says(row, "warning", guest.uuid, "see why")


def test_paths_that_differ_fail(fleet: Fleet) -> None:
    other = fleet.two.root / "var/lib/nova/guests"
    other.mkdir(exist_ok=True)
    fleet.lab.write_config(fleet.one)
    fleet.lab.write_config(fleet.two, nova={"instances_path": "/var/lib/nova/guests"})
    for host in (fleet.one, fleet.two):
        fleet.restart(host)
    says(ask(fleet.one, "node2").one("files.same-path"), "failed", "/var/lib/nova/guests",
         "instances_path alike")


def test_a_hook_that_is_missing_or_broken_is_told(started: Fleet) -> None:
    missing = ask(started.one, "node2").one("hook.installed", "node2")
    says(missing, "warning", "comes in unseen", "rbd-workerctl hook install")
    with_hook(started, started.two)
    kept = started.two.root / HOOK.lstrip("/")

    def row(name: str) -> dict[str, str]:
        return ask(started.one, "node2").one(name, "node2")
    assert {row(name)["State"] for name in (
        "hook.installed", "hook.owner", "hook.seen", "hook.latency")} == {"ok"}
    directory = os.path.dirname(HOOK)
    started.two.run(["mount", "--bind", directory, directory])
    started.two.run(["mount", "-o", "remount,bind,noexec", directory])
    try:
        says(row("hook.allowed"), "failed", "mounted noexec", "remount,exec")
    finally:
        started.two.run(["umount", directory])
    allowed = row("hook.allowed")  # of a machine that may have either of the two at work
    assert allowed["State"] in ("ok", "unknown") and "confine" in allowed["Found"]
    guest = started.lab.define_guest(started.one)
    started.moved(guest, started.one, started.two)
    says(row("hook.allowed"), "ok", "libvirt ran it for a guest at", "")
    kept.chmod(0o644)
    says(row("hook.installed"), "failed", "not executable", "hook install")
    kept.chmod(0o775)
    says(row("hook.owner"), "failed", "runs it as root", "chmod go-w")
    kept.chmod(0o755)
    kept.write_text(kept.read_text().replace("seconds=", "seconds=1"))
    says(row("hook.installed"), "warning", "another version", "hook install")
    kept.write_text("#!/bin/sh\n")
    says(row("hook.installed"), "failed", "another program", "Rename")


def test_a_hook_younger_than_libvirt_is_told(started: Fleet) -> None:
    restart_libvirt(started, started.two)
    started.two.run([lab_worker.program("rbd-workerctl"), *lab_worker.CONFIG_FILES,
                     "hook", "install"])
    says(ask(started.one, "node2").one("hook.seen", "node2"), "warning", "older than every hook",
         "Restart libvirtd")


def test_a_worker_that_does_not_answer_its_hook_fails(started: Fleet) -> None:
    (started.two.root / "var/lib/nova/rbd-worker/hook.sock").unlink()
    says(ask(started.one, "node2").one("hook.latency", "node2"), "failed", "does not answer",
         "Restart rbd-worker")
