# SPDX-License-Identifier: Apache-2.0
"""What oslo.messaging's notifier is given, and when it is there at all."""

import logging
import pathlib
import threading
import typing as ty

import oslo_messaging
import pytest
from oslo_config import cfg

from rbd_worker import errors, news
from rbd_worker.insight import notices, notifying
from rpcapi import client

PATIENCE = 30.0


class Notifier:
    """Stands in for oslo.messaging's, with a broker that may be away."""

    def __init__(self, is_away: bool = False) -> None:
        self.sent: list[str] = []
        self.asked = threading.Event()
        self.broker = threading.Event()
        if not is_away:
            self.broker.set()

    def info(self, context: dict[str, str], event_type: str, payload: dict[str, int]) -> None:
        self.asked.set()
        if payload["number"] < 0:
            raise OSError("the driver gives up")
        assert self.broker.wait(PATIENCE)
        self.sent.append(f"{event_type} {payload['number']}")


def notice(number: int) -> notices.Notice:
    return notices.Notice(notices.START, {"number": number})


def sender(notifier: Notifier, waiting: int = 10) -> notifying.Sender:
    one = notifying.Sender(ty.cast(ty.Any, notifier), waiting)
    one.start()
    return one


def test_a_stop_sends_what_waits() -> None:
    notifier = Notifier()
    one = sender(notifier)
    for number in range(3):
        one.send(notice(number))
    one.stop(PATIENCE)
    assert notifier.sent == [f"rbd_worker.migration.start {n}" for n in range(3)]


def test_a_broker_that_is_away_holds_up_nobody_and_what_is_too_much_is_dropped(
        caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(is_away=True)
    one = sender(notifier, waiting=2)
    one.send(notice(0))
    assert notifier.asked.wait(PATIENCE)  # it is taken out of the queue, and hangs
    with caplog.at_level(logging.WARNING):
        for number in range(1, 6):
            one.send(notice(number))
    assert len([r for r in caplog.records if "are dropped" in r.message]) == 1
    one.stop(0.1)  # does not wait for the broker
    notifier.broker.set()
    one.stop(PATIENCE)
    assert [line.split()[1] for line in notifier.sent] == ["0", "1", "2"]


def test_a_driver_that_fails_is_logged_and_the_next_one_is_sent(
        caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier()
    one = sender(notifier)
    one.send(notice(-1))
    one.send(notice(1))
    one.stop(PATIENCE)
    assert notifier.sent == ["rbd_worker.migration.start 1"]
    assert "was not sent" in caplog.text


def configured(tmp_path: pathlib.Path, *files: str) -> oslo_messaging.Transport:
    """The RPC transport that several configuration files describe."""
    arguments = []
    for number, text in enumerate(("[DEFAULT]\ntransport_url = fake://\n", *files)):
        path = tmp_path / f"{number}.conf"
        path.write_text(text)
        arguments += ["--config-file", str(path)]
    config = cfg.ConfigOpts()
    config(arguments, project="test", default_config_files=[])
    return client.transport_for(config)


DRIVER = "[oslo_messaging_notifications]\ndriver = "


def test_nothing_is_sent_where_no_driver_is_named(tmp_path: pathlib.Path) -> None:
    assert notifying.opened(configured(tmp_path), "node1", news.News()) is None


def test_noop_in_the_workers_file_takes_back_what_nova_conf_has(tmp_path: pathlib.Path) -> None:
    both = configured(tmp_path, f"{DRIVER}messagingv2\n", f"{DRIVER}noop\n")
    assert notifying.opened(both, "node1", news.News()) is None


def test_a_driver_of_nova_conf_is_used(tmp_path: pathlib.Path,
                                       caplog: pytest.LogCaptureFixture) -> None:
    one = notifying.opened(configured(tmp_path, f"{DRIVER}log\n"), "node1", news.News())
    assert one is not None
    one.start()
    with caplog.at_level(logging.INFO, "oslo.messaging"):
        one.send(notice(7))
        one.stop(PATIENCE)
    assert "rbd_worker.node1" in caplog.text
    assert "rbd_worker.migration.start" in caplog.text


def test_a_url_that_is_none_is_refused_and_not_shown(tmp_path: pathlib.Path) -> None:
    bad = configured(tmp_path, f"{DRIVER}messagingv2\ntransport_url = rabbitt://u:pass-word@h/\n")
    with pytest.raises(errors.BadConfiguration) as refused:
        notifying.opened(bad, "node1", news.News())
    assert "transport_url" in refused.value.sentence
    assert "pass-word" not in refused.value.sentence


def test_the_same_url_ends_no_start_where_nothing_is_sent(tmp_path: pathlib.Path) -> None:
    bad = configured(tmp_path, f"{DRIVER}noop\ntransport_url = rabbitt://u:pass-word@h/\n")
    assert notifying.opened(bad, "node1", news.News()) is None
