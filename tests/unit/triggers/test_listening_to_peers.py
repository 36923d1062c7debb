# SPDX-License-Identifier: Apache-2.0
"""Does the thread live in which oslo.messaging hears peers?"""

import typing as ty

import oslo_messaging
import pytest
from oslo_config import cfg
from oslo_messaging._drivers import impl_fake

from rbd_worker.triggers import peer_server


@pytest.fixture
def server() -> peer_server.PeerServer:
    transport = oslo_messaging.get_rpc_transport(cfg.ConfigOpts(), "fake://")
    return peer_server.PeerServer(transport, "node01")


def test_a_server_that_waits_for_its_broker_is_not_deaf(server: peer_server.PeerServer) -> None:
    assert not server.is_deaf


def test_a_server_is_not_deaf_from_its_start_to_its_stop(server: peer_server.PeerServer) -> None:
    server.start()
    assert server.wait_started(10)
    assert not server.is_deaf
    server.stop(lambda: None)
    assert not server.is_deaf


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_whose_thread_has_ended_is_deaf(
        server: peer_server.PeerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(*_: object, **__: object) -> ty.NoReturn:
        raise SystemExit  # no Exception: oslo.messaging would go on

    monkeypatch.setattr(impl_fake.FakeListener, "poll", end)
    server.start()
    assert server.wait_started(10)
    server._server.listener._listen_thread.join(10)
    assert server.is_deaf
