# SPDX-License-Identifier: Apache-2.0
"""The shared connection: opened when needed, opened again when lost."""

import pathlib
import socket
import threading
import time

import libvirt
import pytest

from devstack.lab import processes
from rbd_worker import errors
from rbd_worker.host.connection import Connection
from tests.unit.host import libvirt_node


def opened_count(connection: Connection) -> list[object]:
    opened: list[object] = []
    connection.follow(opened.append, lambda: None)
    return opened


@pytest.fixture
def connection(tmp_path: pathlib.Path):
    one = Connection(libvirt_node.write(tmp_path), 5.0)
    yield one
    one.close()


def test_nothing_is_opened_before_the_first_question_and_then_once(connection: Connection):
    opened = opened_count(connection)
    assert opened == []
    hosts = {connection.ask(lambda libvirtd: libvirtd.getHostname()) for _ in range(5)}
    assert len(hosts) == 1 and len(opened) == 1


def test_many_threads_that_ask_first_share_one_connection(connection: Connection):
    opened = opened_count(connection)
    threads = [threading.Thread(target=connection.ask, args=(lambda c: c.getLibVersion(),))
               for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(opened) == 1


def test_who_follows_later_sees_a_connection_open_all_the_same(connection: Connection):
    connection.ask(lambda libvirtd: libvirtd.getLibVersion())
    opened = opened_count(connection)
    connection.ask(lambda libvirtd: libvirtd.getLibVersion())
    assert len(opened) == 1


def test_a_question_finds_a_lost_connection_tells_it_and_opens_another(connection: Connection):
    opened: list[libvirt.virConnect] = []
    lost = threading.Event()
    connection.follow(opened.append, lost.set)
    connection.ask(lambda libvirtd: libvirtd.getLibVersion())
    assert not lost.is_set()
    opened[0].close()  # to its other users that is as if libvirtd had gone
    assert connection.ask(lambda libvirtd: libvirtd.getLibVersion()) > 0
    assert lost.is_set() and len(opened) == 2


def test_a_connection_lost_during_a_question_is_opened_again_for_it(connection: Connection):
    opened: list[libvirt.virConnect] = []
    lost = threading.Event()
    connection.follow(opened.append, lost.set)

    def question(libvirtd: libvirt.virConnect) -> str:
        if len(opened) == 1:
            libvirtd.close()
        return libvirtd.lookupByUUIDString(libvirt_node.RUNNING).name()
    assert connection.ask(question) == "runs"
    assert lost.is_set() and len(opened) == 2


def test_an_answer_of_libvirt_is_passed_on_and_costs_no_connection(connection: Connection):
    opened = opened_count(connection)
    with pytest.raises(libvirt.libvirtError, match="Domain not found"):
        connection.ask(lambda libvirtd: libvirtd.lookupByUUIDString(libvirt_node.NOBODY))
    connection.ask(lambda libvirtd: libvirtd.getLibVersion())
    assert len(opened) == 1


def test_a_connection_of_ones_own_is_another_one(connection: Connection):
    own = connection.open_another()
    own.lookupByUUIDString(libvirt_node.RUNNING).destroy()
    own.close()
    assert connection.ask(
        lambda libvirtd: libvirtd.lookupByUUIDString(libvirt_node.RUNNING).isActive())


def test_a_question_that_takes_too_long_is_unavailable(tmp_path: pathlib.Path):
    release = threading.Event()
    one = Connection(libvirt_node.write(tmp_path), 0.1)
    with pytest.raises(errors.HypervisorUnavailable, match=r"no answer within 0\.1 s"):
        one.ask(lambda libvirtd: release.wait())
    release.set()
    one.close()


def test_closing_and_following_do_not_wait_for_a_libvirt_that_does_not_open(
        tmp_path: pathlib.Path):
    """A socket on which somebody listens, but nobody answers."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        one = Connection(f"qemu+unix:///system?socket={tmp_path}/s", 0.1)
        with pytest.raises(errors.HypervisorUnavailable, match="no answer"):
            one.ask(lambda libvirtd: libvirtd.getLibVersion())
        began = time.monotonic()
        one.follow(lambda libvirtd: None, lambda: None)
        one.close()
        assert time.monotonic() - began < processes.patience(1.0)
