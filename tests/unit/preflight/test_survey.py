# SPDX-License-Identifier: Apache-2.0
"""A survey tells of each check what was found, or that nothing was measured."""

import dataclasses
import threading
import typing as ty

import pytest

from rbd_worker import errors
from rbd_worker.model import Executor
from rbd_worker.preflight import survey
from rbd_worker.preflight.bench import Bench, Check, Hearing, Rows, Say
from rpcapi import preflight as contract
from tests.unit.conftest import MakeWorld

REQUEST = contract.SurveyRequest(asker="node01", salt="0" * 32)


@pytest.fixture
def bench(make_world: MakeWorld) -> Bench:
    host = make_world("libvirt").hosts[0]
    ports = host.alive.coordinator.ports
    return Bench(settings=ports.settings, hypervisor=ports.hypervisor, images=host.ceph,
                 directories=ports.directories, secrets=ty.cast(ty.Any, None),
                 journal=ports.journal, hearing=lambda: Hearing(True, "hearing"))


def rows(bench: Bench, *checks: Check, seconds: float = 5.0) -> list[contract.Row]:
    return list(survey.Surveyor(bench, checks, seconds).survey(REQUEST).rows)


def _found(_bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    yield say.ok("it is there")


def _raises(_bench: Bench, _request: contract.SurveyRequest, _say: Say) -> Rows:
    raise errors.HypervisorUnavailable(uri="qemu:///system", reason="no such socket")
    yield


def _breaks(_bench: Bench, _request: contract.SurveyRequest, _say: Say) -> Rows:
    raise KeyError("secret-content")
    yield


def test_rows_come_in_the_order_of_the_checks(bench: Bench) -> None:
    first, second = rows(bench, Check("a.first", _found), Check("a.second", _found))
    assert (first.name, first.host, first.state, first.found) == (
        "a.first", "node01", "ok", "it is there")
    assert second.name == "a.second"


def test_what_cannot_be_asked_is_not_known_and_says_why(bench: Bench) -> None:
    (row,) = rows(bench, Check("a.libvirt", _raises))
    assert row.state == "unknown"
    assert "no such socket" in row.found


def test_a_check_that_breaks_is_not_known_and_keeps_its_content_to_itself(bench: Bench) -> None:
    broken, sound = rows(bench, Check("a.broken", _breaks), Check("a.sound", _found))
    assert (broken.state, sound.state) == ("unknown", "ok")
    assert "KeyError" in broken.found and "secret-content" not in broken.found


def test_a_check_that_hangs_holds_up_no_other(bench: Bench) -> None:
    released = threading.Event()

    def hangs(_bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
        released.wait(30)
        yield say.ok("too late")

    try:
        hanging, sound = rows(bench, Check("a.hangs", hangs), Check("a.sound", _found),
                              seconds=0.3)
    finally:
        released.set()
    assert (hanging.state, hanging.found) == ("unknown", "not measured within 0.3 s")
    assert sound.state == "ok"


def test_a_row_without_a_finding_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="what was found"):
        Say("a.row", "node01").ok("")


@pytest.mark.parametrize(("executor", "state"), [(Executor.NOVA, "failed"),
                                                 (Executor.LIBVIRT, "warning")])
def test_a_tap_that_hears_nothing_fails_where_nova_moves_the_guests(
        bench: Bench, executor: Executor, state: str) -> None:
    deaf = dataclasses.replace(
        bench, hearing=lambda: Hearing(False, "waiting for the exchange"),
        settings=dataclasses.replace(bench.settings, executor=executor))
    (row,) = [r for r in survey.Surveyor(deaf).survey(REQUEST).rows if r.name == "worker.tap"]
    assert (row.state, row.found) == (state, "waiting for the exchange")
    assert row.remedy
