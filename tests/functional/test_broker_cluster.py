# SPDX-License-Identifier: Apache-2.0
"""Three nodes of RabbitMQ with quorum queues, of which any one may be missing."""

import collections.abc
import contextlib
import itertools
import threading
import time

import kombu
import pytest

from devstack import lab as labs
from devstack.conductor import Conductor
from devstack.lab import broker as brokers
from devstack.lab import processes
from rbd_worker.triggers import tap
from tests.functional.fleet import Fleet
from tests.functional.tapping import HOST, Handler, cast, options, settings_for, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

QUORUM = {"rabbit_quorum_queue": True}


@pytest.fixture(scope="module")
def cluster(lab_parts: None, tmp_path_factory: pytest.TempPathFactory,
            ) -> collections.abc.Iterator[labs.Lab]:
    one = labs.up(root=tmp_path_factory.mktemp("cluster") / "lab", broker_nodes=3)
    yield one
    one.down()


@pytest.fixture
def lab(cluster: labs.Lab) -> labs.Lab:
    cluster.reset()
    return cluster


@pytest.fixture
def fleet(lab: labs.Lab) -> collections.abc.Iterator[Fleet]:
    with Conductor(lab.broker_url, durable=True) as conductor:
        one = Fleet(lab, conductor)
        yield one
        for worker in one.workers.values():
            worker.kill9()


def test_the_three_nodes_form_one_cluster(lab: labs.Lab) -> None:
    assert [each.running_nodes() for each in lab.brokers] == [3, 3, 3]


class Stream:
    """A conductor that sends numbered casts without a break until it is stopped.

    As oslo.messaging does for Nova it goes on trying: a cast that no node has
    confirmed is sent again.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._numbers = itertools.count()
        self._stopped = threading.Event()
        self.confirmed: list[int] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Stream":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        number = next(self._numbers)
        while not self._stopped.is_set():
            with (contextlib.suppress(kombu.exceptions.OperationalError),
                  Conductor(self._url, durable=True) as conductor):
                while not self._stopped.wait(0.02):
                    conductor.publish(f"compute.{HOST}", cast(number))
                    self.confirmed.append(number)
                    number = next(self._numbers)


def test_no_confirmed_cast_is_lost_while_each_node_is_killed_in_turn(lab: labs.Lab) -> None:
    handler = Handler()
    one = tap.Tap(settings_for(lab.broker_url, **QUORUM), HOST, options(), handler)
    one.start()
    try:
        with Stream(lab.broker_url) as stream:
            assert one.wait_hearing(processes.patience(30))
            for node in lab.brokers:
                had = len(stream.confirmed)
                node.kill9()
                wait_until(lambda had=had: len(stream.confirmed) > had + 20, 60)
                brokers.start_all(lab.brokers)
        wait_until(lambda: set(handler.numbers) >= _since(stream.confirmed, handler), 30)
        assert len(handler.numbers) > 60
        assert one.status().counters.reconnects > 0
    finally:
        assert one.stop()


def _since(confirmed: list[int], handler: Handler) -> set[str]:
    """Of the casts those from the first one on that found the queue bound."""
    first = int(handler.numbers[0])
    return {str(number) for number in confirmed if number >= first}


def test_on_request_the_queues_of_tap_and_peers_are_quorum_queues(fleet: Fleet) -> None:
    fleet.start(rabbit=QUORUM)
    kinds = queue_types(fleet.lab)
    for host in ("node1", "node2"):
        assert kinds[f"rbd_worker.tap.{host}"] == "rabbit_quorum_queue"
        assert kinds[f"rbd_worker.{host}"] == "rabbit_quorum_queue"


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_guest_moves_while_one_node_is_down(fleet: Fleet, number: int) -> None:
    fleet.start(rabbit=QUORUM)
    guest = fleet.lab.define_guest(fleet.one)
    fleet.lab.brokers[number].kill9()
    time.sleep(1)
    fleet.moved(guest, fleet.one, fleet.two)
    assert guest.running_on() == ["node2"]
    assert not guest.directory(fleet.one).exists()


def queue_types(lab: labs.Lab) -> dict[str, str]:
    """Of every queue, as the broker has it."""
    text = lab.broker.evaluate(
        "lists:flatten([io_lib:format(\"~s ~s;\", [element(4, element(2, Q)), "
        "amqqueue:get_type(Q)]) || Q <- rabbit_amqqueue:list(<<\"rbdw\">>)])")
    pairs = (pair.split(" ") for pair in text.strip('"').split(";") if pair)
    return {name: kind for name, kind in pairs}
