# SPDX-License-Identifier: Apache-2.0
"""How the tap gets to RabbitMQ, stays there, and notices when it is gone."""

import collections.abc
import dataclasses
import pathlib
import socket
import time

import pytest

from devstack import lab as labs
from devstack.lab import processes
from rbd_worker import errors
from rbd_worker.triggers import broker, tap
from tests.functional.relay import Authority, Relay, make_authority
from tests.functional.tapping import (
    HOST,
    QUEUE,
    Handler,
    Nova,
    cast,
    options,
    settings_for,
    wait_until,
)

PASSWORD = "planted-secret-password"
#: Seconds; a client that a busy machine keeps waiting for so long is not silent yet.
HEARTBEAT = int(processes.patience(2))


@pytest.fixture
def settings(lab: labs.Lab) -> broker.BrokerSettings:
    return settings_for(lab.broker_url, heartbeat_timeout_threshold=HEARTBEAT)


@pytest.fixture
def nova(settings: broker.BrokerSettings) -> collections.abc.Iterator[Nova]:
    one = Nova(settings)
    one.make_exchange()
    yield one
    one.close()


@pytest.fixture
def run() -> collections.abc.Iterator[collections.abc.Callable[..., tap.Tap]]:
    """Starts taps with any settings, and stops them at the end."""
    taps: list[tap.Tap] = []

    def started(settings: broker.BrokerSettings, **changes: object) -> tap.Tap:
        taps.append(tap.Tap(settings, HOST, options(**changes), Handler()))
        taps[-1].start()
        return taps[-1]
    yield started
    for one in taps:
        assert one.stop()


def at(settings: broker.BrokerSettings, port: int, **changes: object) -> broker.BrokerHost:
    """The broker's user at another address."""
    host = dataclasses.replace(settings.hosts[0], hostname="localhost", port=port)
    return dataclasses.replace(host, **changes)


@pytest.fixture
def held() -> collections.abc.Iterator[socket.socket]:
    """Has a port that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one


@pytest.fixture
def closed_port(held: socket.socket) -> int:
    return int(held.getsockname()[1])


def test_heartbeats_keep_an_idle_connection_alive(settings, nova, run):
    """RabbitMQ gives a silent client up after two of its heartbeats."""
    one = run(settings, probe_interval=60)
    assert one.wait_hearing(processes.patience(10))
    time.sleep(4.5 * HEARTBEAT)
    assert one.is_hearing
    assert one.status().counters.reconnects == 0


def test_a_broker_that_falls_silent_is_given_up(settings, nova, run):
    with Relay(settings.hosts[0]) as relay:
        one = run(dataclasses.replace(settings, hosts=(at(settings, relay.port),)),
                  probe_interval=60)
        assert one.wait_hearing(processes.patience(10))
        relay.freeze()
        wait_until(lambda: not one.is_hearing)
        relay.thaw()
        assert one.wait_hearing(processes.patience(30))
        assert one.stop()


def test_a_host_of_the_cluster_that_is_down_is_passed_over(settings, nova, run, closed_port):
    hosts = (at(settings, closed_port), at(settings, closed_port), settings.hosts[0])
    one = run(dataclasses.replace(settings, hosts=hosts))
    begin = time.monotonic()
    assert one.wait_hearing(processes.patience(10))
    assert time.monotonic() - begin < processes.patience(2)
    assert one.status().reason.endswith(str(settings.hosts[0]))


def test_a_broker_that_starts_later_is_found(settings, nova, run, held, closed_port):
    one = run(dataclasses.replace(settings, hosts=(at(settings, closed_port),)))
    wait_until(lambda: one.status().counters.reconnects > 0)
    with Relay(settings.hosts[0], held=held):
        assert one.wait_hearing(processes.patience(20))
        one.stop()


def test_a_wrong_password_is_reported_and_never_shown(settings, nova, run, caplog):
    host = at(settings, settings.hosts[0].port, password=PASSWORD,
              hostname=settings.hosts[0].hostname)
    one = run(dataclasses.replace(settings, hosts=(host,)))
    wait_until(lambda: "refused" in caplog.text.lower())
    assert PASSWORD not in caplog.text
    assert PASSWORD not in f"{one.status()}{host!r}{settings!r}"


def test_an_unknown_vhost_is_reported(settings, nova, run, caplog):
    run(dataclasses.replace(settings, virtual_host="not-there"))
    wait_until(lambda: "not-there" in caplog.text)
    assert "%2F" not in caplog.text


def test_asking_for_consumers_fails_where_no_host_answers(settings, closed_port):
    with pytest.raises(errors.BrokerUnavailable, match="refused"):
        tap.consumers_of(dataclasses.replace(settings, hosts=(at(settings, closed_port),)), "q")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tls"))


def over_tls(settings: broker.BrokerSettings, relay: Relay, ca: pathlib.Path,
             hostname: str = "localhost") -> broker.BrokerSettings:
    return dataclasses.replace(settings, hosts=(at(settings, relay.port, hostname=hostname),),
                               tls=broker.TlsSettings(ca_file=str(ca)))


def test_messages_are_heard_over_tls(settings, nova, run, authority):
    handler = Handler()
    with Relay(settings.hosts[0], authority) as relay:
        one = tap.Tap(over_tls(settings, relay, authority.ca), HOST, options(), handler)
        one.start()
        assert one.wait_hearing(processes.patience(10))
        nova.publish(cast("big " + "x" * 100))
        for number in range(500):
            nova.publish(cast(number))
        assert handler.wait_for(501)[1:] == [str(number) for number in range(500)]
        assert one.stop()


def test_a_broker_of_another_authority_is_refused(
        settings, nova, run, authority, tmp_path, caplog):
    with Relay(settings.hosts[0], authority) as relay:
        one = run(over_tls(settings, relay, make_authority(tmp_path).ca))
        wait_until(lambda: "certificate" in caplog.text.lower())
        assert not one.is_hearing


def test_a_broker_of_another_name_is_refused(settings, nova, run, authority, caplog):
    with Relay(settings.hosts[0], authority) as relay:
        one = run(over_tls(settings, relay, authority.ca, hostname="127.0.0.1"))
        wait_until(lambda: "certificate" in caplog.text.lower())
        assert not one.is_hearing
    assert nova.queue(QUEUE) is None
