# SPDX-License-Identifier: Apache-2.0
"""A worker in a process of its own gets SIGUSR2, and what it writes is read."""

import collections.abc
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from devstack.lab import processes
from rbd_worker.insight import guru
from rbd_worker.insight.guru import Report

SECONDS = 60.0
PASSWORDS = ("broker-password", "notify-password", "nova-password")


@pytest.fixture
def reports(tmp_path: pathlib.Path) -> pathlib.Path:
    """Where the worker writes its reports."""
    folder = tmp_path / "reports"
    folder.mkdir()
    (tmp_path / "instances").mkdir()
    return folder


@pytest.fixture
def worker(tmp_path: pathlib.Path, reports: pathlib.Path,
           ) -> collections.abc.Iterator["subprocess.Popen[bytes]"]:
    """Started, with a broker that is away and passwords wherever there may be some."""
    pytest.importorskip("libvirt")
    nova_conf = tmp_path / "nova.conf"
    nova_conf.write_text(
        f"[DEFAULT]\nhost = node1\nstate_path = {tmp_path}\n"
        "transport_url = rabbit://nova:broker-password@127.0.0.1:9/\n"
        "[libvirt]\nimages_type = rbd\nrbd_user = nova\nconnection_uri = test:///default\n"
        "[oslo_messaging_notifications]\ndriver = noop\n"
        "transport_url = rabbit://nova:notify-password@127.0.0.1:9/\n"
        "[service_user]\nauth_type = password\npassword = nova-password\n"
        f"[oslo_reports]\nlog_dir = {reports}\n[rbd_worker]\nmetrics_listen =\n")
    log = tmp_path / "log"
    with log.open("wb") as out:
        one = subprocess.Popen(
            [sys.executable, "-m", "rbd_worker.service", "--config-file", str(nova_conf)],
            stdout=out, stderr=out)
    try:
        processes.wait_until(lambda: b"starts on node1" in log.read_bytes(), SECONDS,
                             "the start", log, failed=lambda: one.poll() is not None)
        yield one
    finally:
        one.kill()
        one.wait()


def test_the_report_tells_threads_and_options_and_no_password(
        worker: "subprocess.Popen[bytes]", reports: pathlib.Path) -> None:
    worker.send_signal(signal.SIGUSR2)
    processes.wait_until(lambda: any(file.read_text() for file in reports.iterdir()), SECONDS,
                         "the report")
    (file,) = reports.iterdir()
    processes.wait_until(lambda: "open = none" in file.read_text(), SECONDS, "its last section")
    text = file.read_text()
    assert worker.poll() is None
    assert "rbd_worker/triggers/tap.py" in text, "the thread that hears Nova"
    assert "rbd_user = nova" in text
    assert "ailment = none" in text
    assert "transport_url = ***" in text
    for password in PASSWORDS:
        assert password not in text


def test_a_section_that_hangs_does_not_keep_the_others_back(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guru, "SECTION_SECONDS", 0.2)
    monkeypatch.setattr(Report, "persistent_sections", [])
    never = threading.Event()

    def stuck() -> dict[str, object]:
        never.wait(SECONDS)
        return {}

    guru.add("Stuck", stuck)
    guru.add("Fine", lambda: {"open": 3})
    began = time.monotonic()
    text = Report(guru.Product()).run()
    never.set()
    assert "nothing was told within 0.2 s" in text
    assert "open = 3" in text
    assert time.monotonic() - began < processes.patience(30)
