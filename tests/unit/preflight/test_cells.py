# SPDX-License-Identifier: Apache-2.0
"""What is claimed of a way between two hosts, and how many are shown."""

import time

from devstack.lab import processes
from rbd_worker.cli import matrix_table
from rbd_worker.preflight import cells
from rpcapi import preflight as contract

OK = contract.Row(name="route.libvirt", host="node000", state="ok", found="opens")


def survey(number: int, **traits: object) -> contract.Survey:
    known: dict[str, object] = {
        "host": f"node{number:03}", "worker_version": "1", "rpc_version": "1.1",
        "executor": "nova", "host_uuid": str(number), "libvirt_version": 9_000_000,
        "hypervisor_version": 7_002_000, "native_tls": False, "tunnelled": False}
    return contract.Survey(traits=contract.Traits(**{**known, **traits}))  # type: ignore[arg-type]


def tried(source: int, destination: int) -> contract.RoutesTried:
    return contract.RoutesTried(token="t", source=f"node{source:03}",
                                destination=f"node{destination:03}", rows=(OK,))


def test_a_way_that_was_not_tried_is_never_ok() -> None:
    found = cells.cells(contract.MatrixReply(surveys=(survey(0), survey(1)),
                                             routes=(tried(0, 1),)))
    there, back = found
    assert there.is_tried and not back.is_tried
    assert back.state == "unknown"


def test_what_one_host_lacks_is_told_of_every_way_to_and_from_it() -> None:
    bad = survey(1, executor="libvirt")
    found = cells.cells(contract.MatrixReply(surveys=(survey(0), bad, survey(2))))
    assert {(c.source, c.destination): c.state for c in found if "worker.executor" in c.checks
            }.keys() == {("node000", "node001"), ("node001", "node000"),
                         ("node001", "node002"), ("node002", "node001")}


def test_a_hundred_hosts_are_compared_in_seconds_and_shown_in_a_line_each() -> None:
    surveys = tuple(survey(n) for n in range(100))
    began = time.monotonic()
    found = cells.cells(contract.MatrixReply(surveys=surveys))
    _, rows = matrix_table.summary([s.traits.host for s in surveys], found)
    assert time.monotonic() - began < processes.patience(10)
    assert (len(found), len(rows)) == (9900, 100)
