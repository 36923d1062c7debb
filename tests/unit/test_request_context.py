# SPDX-License-Identifier: Apache-2.0
"""Whole migrations on the fakes, and their lines as oslo.log writes them."""

import collections.abc
import io
import logging
import threading

import pytest

from rbd_worker import request_context
from tests.unit.conftest import MakeWorld, oslo_formatter

OURS = "req-11111111-2222-3333-4444-555555555555"


@pytest.fixture
def log() -> collections.abc.Iterator[io.StringIO]:
    """What the worker's log file would have."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(oslo_formatter())
    handler.addFilter(request_context.Mark())
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.setLevel(level)
    root.removeHandler(handler)


@pytest.mark.parametrize("executor", ["nova", "libvirt"])
@pytest.mark.parametrize("how", ["complete", "fail"])
def test_each_line_of_a_migration_carries_the_id_of_its_request(
        log: io.StringIO, make_world: MakeWorld, executor: str, how: str) -> None:
    world = make_world(executor)
    order = world.migrate(world.boot(world.hosts[0]), *world.hosts, how=how)
    lines = [line for line in log.getvalue().splitlines() if order.uuid in line]
    for role in ("source", "destination"):
        assert any(f"begins as {role}" in line for line in lines)
        assert any(line.endswith(f"as {role}") or f"as {role} " in line for line in lines)
    assert [line for line in lines if f"[None {order.request_id} " not in line] == []


def test_lines_beside_a_migration_name_no_request(log: io.StringIO) -> None:
    with request_context.of(OURS):
        logging.getLogger("rbd_worker.x").info("during")
    logging.getLogger("rbd_worker.x").info("afterwards")
    during, afterwards = log.getvalue().splitlines()
    assert OURS in during
    assert "[-]" in afterwards and OURS not in afterwards


def test_a_thread_for_the_same_work_logs_for_the_same_request(log: io.StringIO) -> None:
    def work() -> None:
        logging.getLogger("rbd_worker.x").info("beside")

    with request_context.of(OURS):
        threads = [threading.Thread(target=request_context.bound(work)),
                   threading.Thread(target=work)]
        for thread in threads:
            thread.start()
            thread.join()
    bound, stranger = log.getvalue().splitlines()
    assert OURS in bound
    assert OURS not in stranger


def test_a_migration_without_an_id_keeps_that_of_who_woke_it() -> None:
    with request_context.of(OURS), request_context.of(""):
        assert request_context.current() == OURS
    assert request_context.current() == ""
