# SPDX-License-Identifier: Apache-2.0
"""Nova's record beside the guest: what is said never starts a second guest."""

import pytest

from rbd_worker.migration import quarrel
from rbd_worker.migration.quarrel import Stance
from rbd_worker.model import NovaRecord

GUEST = "a05482ec-d71a-48c7-bf99-94d829b20aef"
URI = "qemu+tls://node01/system"


def _record(host: str | None = "node01", vm_state: str = "active", task: str | None = None,
            migration: str = "live-migration error, node01 to node02") -> NovaRecord:
    return NovaRecord(GUEST, host, vm_state, task, migration)


def _judge(record: NovaRecord | None, holder: str = "node02", *,
           is_running: bool = True) -> quarrel.Opinion:
    return quarrel.judge(GUEST, record, holder, is_running=is_running, uri=URI)


def test_a_record_that_agrees_says_nothing_and_allows() -> None:
    assert _judge(_record("node02")) == quarrel.AGREES
    assert quarrel.AGREES.allows and quarrel.AGREES.sentence == ""


def test_a_record_elsewhere_than_the_running_guest_says_what_is_true_on_either_host() -> None:
    opinion = _judge(_record())
    assert opinion.stance is Stance.DISAGREES and not opinion.allows
    assert opinion.sentence.startswith(
        "Nova's record says node01 (vm_state active, task_state none, last migration "
        "live-migration error, node01 to node02), but the guest runs on node02.")


def test_the_guest_is_moved_to_its_record_and_never_started_there() -> None:
    """A hard reboot starts a second guest on the same disks (seen in the gate)."""
    sentence = _judge(_record()).sentence
    warning, _, steps = sentence.partition("No command")
    assert "Do not reboot it hard, start, rebuild or evacuate it" in warning
    assert not {"reboot", "evacuate", "server start", "rebuild"} & set(steps.split())
    assert (f"on node02: virsh migrate --live --p2p --undefinesource --persistent {GUEST} "
            f"{URI}") in steps
    assert f"nova-manage placement heal_allocations --force --instance {GUEST}" in steps


def test_a_guest_that_is_off_elsewhere_is_undefined_there_before_nova_starts_it() -> None:
    sentence = _judge(_record(), is_running=False).sentence
    assert "is shut off on node02" in sentence
    assert sentence.index(f"virsh undefine {GUEST} on node02") < sentence.index("reboot --hard")


@pytest.mark.parametrize("vm_state", ["active", "resized"])
def test_while_nova_is_at_work_a_directory_stays(vm_state: str) -> None:
    opinion = _judge(_record("node02", vm_state, "resize_finish"))
    assert opinion.stance is Stance.BUSY and not opinion.allows
    assert "task_state resize_finish" in opinion.sentence


def test_no_record_keeps_nothing() -> None:
    """Credentials that see less than all must not stop every audit."""
    opinion = _judge(None)
    assert opinion.stance is Stance.SILENT and opinion.allows
    assert "these credentials may not see it" in opinion.sentence


def test_a_server_in_error_whose_guest_runs_where_the_record_says_only_needs_its_state() -> None:
    opinion = _judge(_record("node02", "error"))
    assert opinion.allows
    assert opinion.sentence.endswith(f"openstack server set --state active {GUEST}")


def test_a_shelved_server_that_runs_somewhere_is_not_to_be_unshelved() -> None:
    opinion = _judge(_record(None, "shelved_offloaded"))
    assert opinion.stance is Stance.DISAGREES
    assert "names no host" in opinion.sentence
    assert "Do not start, unshelve or evacuate it" in opinion.sentence


def test_a_guest_that_nobody_has_is_started_only_after_its_disk_was_asked() -> None:
    opinion = _judge(_record(), "")
    assert opinion.stance is Stance.DISAGREES
    assert opinion.sentence.index("rbd status") < opinion.sentence.index("reboot --hard")


@pytest.mark.parametrize("vm_state", ["stopped", "shelved", "building", "resized"])
def test_a_server_that_rests_explains_why_nobody_has_its_guest(vm_state: str) -> None:
    opinion = _judge(_record(vm_state=vm_state), "")
    assert opinion.allows
    assert f"vm_state {vm_state}" in opinion.sentence and "reboot" not in opinion.sentence
