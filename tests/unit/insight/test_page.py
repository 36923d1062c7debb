# SPDX-License-Identifier: Apache-2.0
"""What an HTTP client gets, on a real socket."""

import collections.abc
import http.client
import json
import logging
import socket
import time
import typing as ty

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rbd_worker import errors, news
from rbd_worker.host.trash import Usage
from rbd_worker.insight import outlook, overlap, page, present
from rbd_worker.triggers.edge import Counted
from rbd_worker.triggers.tap_status import Counters, TapState, TapStatus


class Worker:
    """What the metrics look up, and may be changed by a test."""

    def __init__(self) -> None:
        self.told = news.News()
        self.health = page.Health(None, "hearing")
        self.trash: Usage | errors.Error = Usage(2, 4096, None)
        self.last_probe: float | None = time.time() - 7

    def sources(self) -> present.Sources:
        return present.Sources("nova", 1.0, list, self._tap, self._usage, list)

    def page(self, port: int = 0) -> page.Page:
        nobody = overlap.Sight(lambda instance: (), lambda image: frozenset(), frozenset,
                               lambda migration: frozenset())
        return outlook.Outlook(("127.0.0.1", port), self.told, self.sources(),
                               lambda: self.health, nobody).page

    def _tap(self) -> TapStatus:
        return TapStatus(TapState.HEARING, 1.0, "", "queue", self.last_probe, Counters(heard=3))

    def _usage(self) -> Usage:
        if isinstance(self.trash, errors.Error):
            raise self.trash
        return self.trash


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def started(worker: Worker) -> collections.abc.Iterator[page.Page]:
    one = worker.page()
    one.start()
    yield one
    one.stop()


def get(one: page.Page, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=10)
    connection.request("GET", path)
    reply = connection.getresponse()
    return reply.status, reply.read().decode()


def samples(one: page.Page) -> dict[str, float]:
    status, text = get(one, "/metrics")
    assert status == 200
    return {s.name + "".join(s.labels.values()): s.value
            for family in text_string_to_metric_families(text) for s in family.samples}


def test_metrics_tell_the_tap_the_trash_and_the_build(started: page.Page) -> None:
    found = samples(started)
    assert found["rbd_worker_tap_statehearing"] == 1
    assert found["rbd_worker_tap_stateheld"] == 0
    assert 7 <= found["rbd_worker_tap_probe_age_seconds"] < 60
    assert found["rbd_worker_tap_messages_totalheard"] == 3
    assert found["rbd_worker_trash_bytes"] == 4096
    assert found["rbd_worker_open_migrationssource"] == 0
    assert found["process_resident_memory_bytes"] > 0


def test_what_cannot_be_looked_up_is_missing_and_the_rest_is_there(
        worker: Worker, started: page.Page) -> None:
    worker.trash = errors.BadInput(what="trash", reason="it is away")
    worker.last_probe = None
    found = samples(started)
    assert "rbd_worker_trash_bytes" not in found
    assert "rbd_worker_tap_probe_age_seconds" not in found
    assert found["rbd_worker_tap_statehearing"] == 1


def test_health_is_what_the_watchdog_sees(worker: Worker, started: page.Page) -> None:
    status, body = get(started, "/healthz")
    assert (status, json.loads(body)) == (200, {"state": "well", "hearing": "hearing"})
    worker.health = page.Health("the thread tap has ended", "stopped")
    status, body = get(started, "/healthz")
    assert (status, json.loads(body)["ailment"]) == (503, "the thread tap has ended")


def test_there_is_nothing_else(started: page.Page) -> None:
    assert get(started, "/debug")[0] == 404


def test_a_taken_port_is_a_warning_and_no_end(
        worker: Worker, started: page.Page, caplog: pytest.LogCaptureFixture) -> None:
    second = worker.page(ty.cast(int, started.port))
    with caplog.at_level(logging.WARNING):
        second.start()
    assert second.port is None
    assert "metrics_listen" in caplog.text
    second.stop()
    assert get(started, "/healthz")[0] == 200


def test_who_says_nothing_holds_up_nobody_and_is_cut_off(
        started: page.Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page._Handler, "timeout", 0.5)
    with socket.create_connection(("127.0.0.1", ty.cast(int, started.port)), 5) as silent:
        assert get(started, "/healthz")[0] == 200
        assert silent.recv(1) == b""


def test_a_crowd_of_silent_ones_is_turned_away(started: page.Page) -> None:
    address = ("127.0.0.1", ty.cast(int, started.port))
    crowd = [socket.create_connection(address, 5) for _ in range(page.MAX_ASKERS)]
    with socket.create_connection(address, 5) as one_more:
        assert one_more.recv(1) == b""
    for one in crowd:
        one.close()


def test_calls_are_told_by_method_and_an_invented_name_is_not() -> None:
    class Heard(news.Listener):
        calls: ty.ClassVar[list[tuple[str, str]]] = []

        def called(self, method: str, result: str) -> None:
            self.calls.append((method, result))

    class Endpoint:
        target = None

        def testify(self, _context: object) -> int:
            return 1

        def abort(self, _context: object) -> None:
            raise ValueError

    counted = Counted(Endpoint(), Heard())
    assert counted.testify({}) == 1
    with pytest.raises(ValueError):
        counted.abort({})
    assert not hasattr(counted, "invented")
    assert Heard.calls == [("testify", "ok"), ("abort", "failed")]
