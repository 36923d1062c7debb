# SPDX-License-Identifier: Apache-2.0
"""Nova's record in the audit and in plans: it keeps and explains, and it permits nothing."""

import pytest

from rbd_worker import errors
from rbd_worker.migration import records
from rbd_worker.model import GuestState, NovaRecord
from rpcapi import payloads
from tests import fakes
from tests.unit.conftest import MakeWorld
from tests.world import Host, World

GUEST = "a05482ec-d71a-48c7-bf99-94d829b20aef"


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """A guest on the second host, its old leftover on the first, which asks Nova."""
    world = make_world("nova", hosts=3, audit_min_age=3600, audit_pause=30)
    here, there, _ = world.hosts
    world.boot(there, GUEST)
    here.directory(GUEST).mkdir()
    world.timeline.pass_time(4000)
    return world


def _nova_says(host: Host, *known: NovaRecord) -> fakes.NovaApi:
    host.nova_api = fakes.NovaApi(*known)
    host.restart()
    return host.nova_api


def _audit(host: Host) -> dict[str, payloads.Finding]:
    return {finding.instance: finding for finding in host.alive.audit.run(act=True).findings}


def test_a_record_that_agrees_changes_nothing(world: World, here: Host) -> None:
    _nova_says(here, NovaRecord(GUEST, "node02", "active"))
    finding = _audit(here)[GUEST]
    assert (finding.verdict, finding.nova) == ("trashed", "")
    assert not here.has_directory(GUEST)


def test_a_directory_on_the_host_that_the_record_names_stays_although_it_is_proven(
        world: World, here: Host) -> None:
    _nova_says(here, NovaRecord(GUEST, "node01", "active"))
    finding = _audit(here)[GUEST]
    assert (finding.verdict, finding.holder) == ("kept", "node02")
    assert "Nova's record says node01" in finding.nova and "runs on node02" in finding.nova
    assert "qemu+tcp://node01/system" in finding.nova
    assert here.has_directory(GUEST) and here.trashed() == []


def test_a_record_that_is_at_work_keeps_a_directory(world: World, here: Host) -> None:
    _nova_says(here, NovaRecord(GUEST, "node02", "active", "resize_prep"))
    assert _audit(here)[GUEST].verdict == "kept"
    assert here.has_directory(GUEST)


def test_a_record_that_names_the_holder_proves_nothing(world: World, here: Host,
                                                       there: Host) -> None:
    """Nova says that the guest is elsewhere; its libvirt does not."""
    del there.libvirt.states[GUEST]
    _nova_says(here, NovaRecord(GUEST, "node02", "active"))
    finding = _audit(here)[GUEST]
    assert finding.verdict == "kept"
    assert "no single host was found to have the guest" in finding.nova
    assert here.has_directory(GUEST)


@pytest.mark.parametrize("error", [
    errors.NovaApiUnavailable(origin="section [x]", reason="no route"),
    errors.NovaApiForbids(origin="section [x]", reason="403"),
    errors.OpenstackSdkMissing(reason="no module")])
def test_without_an_answer_everything_is_as_without_credentials(
        world: World, here: Host, error: errors.Error) -> None:
    _nova_says(here).error = error
    finding = _audit(here)[GUEST]
    assert (finding.verdict, finding.nova) == ("trashed", error.sentence)
    assert not here.has_directory(GUEST)


def test_a_guest_here_that_the_record_has_elsewhere_is_told_here(world: World,
                                                                 there: Host) -> None:
    _nova_says(there, NovaRecord(GUEST, "node01", "active"))
    finding = _audit(there)[GUEST]
    assert (finding.verdict, finding.holder) == ("kept", "node02")
    assert "Nova's record says node01" in finding.nova
    assert there.has_directory(GUEST)


def test_one_list_a_host_serves_all_suspects(world: World, here: Host, there: Host) -> None:
    guests = [f"{number:08x}-d71a-48c7-bf99-94d829b20aef" for number in range(120)]
    for guest in guests:
        here.directory(guest).mkdir()
        there.libvirt.states[guest] = GuestState.RUNNING
    world.timeline.pass_time(4000)
    api = _nova_says(here, *(NovaRecord(g, "node02", "active") for g in (GUEST, *guests)))
    _audit(here)
    assert api.asked == ["node01", "node02"]


def test_few_of_many_that_differ_are_asked_for_by_themselves(world: World, here: Host,
                                                             there: Host) -> None:
    guests = [f"{number:08x}-d71a-48c7-bf99-94d829b20aef" for number in range(120)]
    for guest in guests:
        here.directory(guest).mkdir()
        there.libvirt.states[guest] = GuestState.RUNNING
    world.timeline.pass_time(4000)
    api = _nova_says(here)
    findings = _audit(here)
    assert len(api.asked) == 2 + records.MAX_SINGLE
    assert sum("not looked at" in f.nova for f in findings.values()) == 121 - records.MAX_SINGLE
