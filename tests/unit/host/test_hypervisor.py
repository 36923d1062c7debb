# SPDX-License-Identifier: Apache-2.0
"""The libvirt adapter on libvirt's own test driver."""

import pathlib

import libvirt
import pytest

from rbd_worker import errors
from rbd_worker.host import connection as connections
from rbd_worker.host.hypervisor import Hypervisor, MoveOrder
from rbd_worker.model import GuestState, RbdImage
from tests.unit.host import libvirt_node, libvirt_settings
from tests.unit.host.libvirt_node import DEFINED, NOBODY, RUNNING


@pytest.fixture
def here(tmp_path: pathlib.Path):
    settings = libvirt_settings.make(uri=libvirt_node.write(tmp_path))
    one = Hypervisor(settings, "node1", 5.0)
    yield one
    one.close()


def test_running_defined_and_absent_guests_are_told_apart(here: Hypervisor):
    assert here.state(RUNNING) is GuestState.RUNNING
    assert here.state(DEFINED) is GuestState.SHUTOFF
    assert here.state(NOBODY) is GuestState.ABSENT


def test_all_guests_are_told_at_once(here: Hypervisor):
    assert here.domains() == {RUNNING: GuestState.RUNNING, DEFINED: GuestState.SHUTOFF}
    assert here.instances() == {RUNNING, DEFINED}


def test_each_answer_is_of_that_moment(here: Hypervisor):
    libvirt_node.act(here.connection, RUNNING, "suspend")
    assert here.state(RUNNING) is GuestState.PAUSED
    libvirt_node.act(here.connection, RUNNING, "destroy")
    assert here.state(RUNNING) is GuestState.SHUTOFF
    libvirt_node.act(here.connection, RUNNING, "undefine")
    assert here.state(RUNNING) is GuestState.ABSENT
    assert here.domains() == {DEFINED: GuestState.SHUTOFF}


def test_images_are_read_from_running_and_defined_guests(here: Hypervisor):
    assert here.images(RUNNING) == (RbdImage("vms", f"{RUNNING}_disk"),)
    assert here.images(DEFINED) == (RbdImage("vms", f"{DEFINED}_disk"),)
    assert here.images(NOBODY) == ()


def test_the_images_of_both_definitions_count(here: Hypervisor):
    def redefine(libvirtd):
        xml = libvirtd.lookupByUUIDString(RUNNING).XMLDesc(2)  # VIR_DOMAIN_XML_INACTIVE
        libvirtd.defineXML(xml.replace("vms/", "volumes/"))
    here.connection.ask(redefine)
    assert set(here.images(RUNNING)) == {RbdImage("vms", f"{RUNNING}_disk"),
                                         RbdImage("volumes", f"{RUNNING}_disk")}


def test_no_job_runs_on_a_guest_at_rest(here: Hypervisor):
    assert [here.has_job(each) for each in (RUNNING, DEFINED, NOBODY)] == [False] * 3


def test_a_libvirt_that_is_not_there_is_unavailable_and_never_an_absent_guest(
        tmp_path: pathlib.Path):
    uri = f"qemu+unix:///system?socket={tmp_path}/none"
    away = Hypervisor(libvirt_settings.make(uri=uri), "node1", 5.0)
    for question in (away.state, away.has_job, away.images, lambda _: away.domains(),
                     lambda _: away.instances()):
        with pytest.raises(errors.HypervisorUnavailable) as caught:
            question(RUNNING)
        assert uri in str(caught.value)


class Refusing(connections.Connection):
    """A libvirt that answers every question with one error."""

    def __init__(self, code: int) -> None:
        super().__init__("qemu:///system", 5.0)
        self._code = code

    def ask(self, question):
        return question(self)

    def __getattr__(self, name: str):
        error = libvirt.libvirtError("said no")
        error.err = (self._code, 10, "said no", 2, None, None, None, -1, -1)

        def refuse(*arguments: object):
            raise error
        return refuse


#: NO_DOMAIN (42) is the only one that means absent (virterror.h).
@pytest.mark.parametrize("code", [1, 9, 38, 39, 55, 68, 88])
def test_no_other_error_of_libvirt_means_an_absent_guest(here: Hypervisor, code: int):
    here.connection = Refusing(code)
    for question in (here.state, here.has_job, here.images, here.abort, here.force_complete,
                     lambda _: here.domains()):
        with pytest.raises(errors.HypervisorUnavailable, match=f"code {code}"):
            question(RUNNING)


def test_a_closed_adapter_refuses_and_does_not_connect_again(here: Hypervisor):
    assert here.state(RUNNING) is GuestState.RUNNING
    here.close()
    with pytest.raises(errors.HypervisorUnavailable, match="stopping"):
        here.state(RUNNING)


def test_a_driver_that_cannot_move_guests_refuses_and_the_guest_stays(here: Hypervisor):
    with pytest.raises(errors.MoveRefused):
        here.move(RUNNING, MoveOrder("node2"), lambda progress: None)
    assert here.state(RUNNING) is GuestState.RUNNING


def test_a_guest_that_is_not_here_cannot_tell_where_it_is(here: Hypervisor):
    with pytest.raises(errors.MoveUnsettled):
        here.move(NOBODY, MoveOrder("node2"), lambda progress: None)


def test_a_guest_that_does_not_move_is_not_paused_to_complete_it(here: Hypervisor):
    with pytest.raises(errors.MoveRefused, match="not moving"):
        here.force_complete(RUNNING)
    assert here.state(RUNNING) is GuestState.RUNNING
    here.force_complete(NOBODY)  # nobody to complete: harmless


def test_options_that_contradict_each_other_end_the_start():
    settings = libvirt_settings.make(live_migration_tunnelled=True,
                                     live_migration_permit_post_copy=True)
    with pytest.raises(errors.BadConfiguration, match="live_migration_tunnelled"):
        Hypervisor(settings, "node1", 5.0)
    Hypervisor(settings, "node1", 5.0, moves=False)  # Nova moves: its business


def test_file_systems_are_frozen_and_thawed_as_often_as_asked(here: Hypervisor):
    assert here.freeze(RUNNING, 5.0) > 0
    assert here.thaw(RUNNING)
    assert here.thaw(RUNNING)
    with pytest.raises(errors.FreezeRefused):
        here.freeze(DEFINED, 5.0)
    assert not here.thaw(DEFINED)
    assert not here.thaw(NOBODY)


def test_a_libvirt_that_is_away_leaves_the_thaw_open(tmp_path: pathlib.Path):
    away = Hypervisor(libvirt_settings.make(uri=f"test://{tmp_path}/none.xml"), "node1", 1.0)
    with pytest.raises(errors.GuestFrozen, match=RUNNING):
        away.thaw(RUNNING)
    with pytest.raises(errors.HypervisorUnavailable):
        away.freeze(RUNNING, 1.0)
