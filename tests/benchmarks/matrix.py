# SPDX-License-Identifier: Apache-2.0
"""``preflight --all`` of 10, 30 and 100 hosts, and what each of them has to do for it.

All hosts but two are light: an RPC server and a client of their own, with the
worker's code for the matrix, whose survey is one of a real worker of the lab
under another name and takes as long as that one did.  Timed is the operator's
question, from this process over the broker to the comparison of every pair.
"""

import collections
import concurrent.futures
import contextlib
import logging
import threading
import time
import types
import typing as ty

import msgspec
import oslo_messaging

import rpcapi
from devstack import lab as labs
from devstack.conductor import Conductor
from rbd_worker.cli import matrix_table
from rbd_worker.preflight import cells
from rbd_worker.preflight.matrix import Matrix
from rbd_worker.triggers.preflight_endpoint import PreflightEndpoint
from rpcapi import client as rpc_client
from rpcapi import preflight as contract
from tests.benchmarks.audit import transport_to
from tests.benchmarks.bench import Bench
from tests.benchmarks.measure import Series
from tests.benchmarks.results import Goal, Result, Table

ROUNDS = 5
SIZES = (10, 30, 100)
_ASKER = "sim000"


def run(bench: Bench) -> Result:
    lab = bench.lab
    with (Conductor(lab.broker_url), contextlib.ExitStack() as ends,
          bench.progress("matrix", SIZES[-1]) as step):
        pattern, seconds = _pattern(lab)
        transport = transport_to(lab)
        ends.callback(transport.cleanup)
        client = rpc_client.Client(transport)
        hosts: list[Light] = []
        ends.callback(_stop, hosts)
        taken, handled = [], []
        for size in SIZES:
            while len(hosts) < size:
                hosts.append(Light(f"sim{len(hosts):03}", lab, pattern, seconds))
                step()
            times, messages = _measured(client, hosts)
            taken.append(Series(f"{size} hosts", times))
            handled.append(Series(f"{size} hosts", messages))
    return Result("matrix", [Table("all pairs, asked and compared", "s", taken),
                             Table("what a host is sent", "messages", handled)],
                  [Goal("seconds for 100 hosts", taken[-1].median, 10),
                   Goal("messages for a host at 100 hosts, against 10",
                        handled[-1].median / handled[0].median, 1)],
                  [f"one survey, of a real worker of the lab, took {seconds:.2f} s"])


class Light(PreflightEndpoint):
    """One host: what of a worker answers the matrix."""

    def __init__(self, name: str, lab: labs.Lab, pattern: contract.Survey,
                 seconds: float) -> None:
        self.taken: collections.Counter[str] = collections.Counter()
        self._pattern = contract.Survey(
            traits=msgspec.structs.replace(pattern.traits, host=name, host_uuid=name,
                                           inbound_address="127.0.0.1", data_port=0),
            rows=tuple(msgspec.structs.replace(row, host=name) for row in pattern.rows))
        self._seconds = seconds
        bench = types.SimpleNamespace(
            settings=types.SimpleNamespace(host=name, libvirt=types.SimpleNamespace(
                live_migration_uri=None, live_migration_scheme="tcp",
                live_migration_tunnelled=False)),
            hypervisor=types.SimpleNamespace(try_uri=lambda uri, seconds: None))
        self._transport = transport_to(lab)
        surveyor: ty.Any = types.SimpleNamespace(bench=bench, survey=self._look)
        super().__init__(surveyor, ty.cast(ty.Any, None),
                         Matrix(surveyor, rpc_client.Client(self._transport)))
        target = oslo_messaging.Target(exchange=rpcapi.EXCHANGE, topic=rpcapi.TOPIC, server=name)
        self._server = oslo_messaging.get_rpc_server(self._transport, target, [self])
        self._server.start()

    def survey_all(self, context: ty.Any, request: object) -> None:
        self.taken["survey_all"] += 1
        super().survey_all(context, request)

    def try_routes(self, context: ty.Any, request: object) -> None:
        self.taken["try_routes"] += 1
        super().try_routes(context, request)

    def _look(self, _request: contract.SurveyRequest) -> contract.Survey:
        """What a surveyor gives, after as long as it takes."""
        threading.Event().wait(self._seconds)
        return self._pattern

    def stop(self) -> None:
        self._server.stop()
        self._server.wait()
        self._transport.cleanup()


def _stop(hosts: list[Light]) -> None:
    """All at once: a listener that hears nothing sees its end up to 5 s later."""
    logging.getLogger("amqp").setLevel(logging.ERROR)  # of what comes while they end
    with concurrent.futures.ThreadPoolExecutor(len(hosts) or 1) as pool:
        list(pool.map(Light.stop, hosts))


def _pattern(lab: labs.Lab) -> tuple[contract.Survey, float]:
    """A survey of a real worker, and the seconds it took."""
    host = lab.host("node2")
    lab.write_config(host)
    worker = lab.start_worker(host).wait_ready()
    transport = transport_to(lab)
    try:
        client = rpc_client.Client(transport)
        request = contract.SurveyRequest(asker=_ASKER, salt="0" * 32)
        contract.survey(client, host.name, request)  # the connections are there
        began = time.perf_counter()
        survey = contract.survey(client, host.name, request)
        return survey, time.perf_counter() - began
    finally:
        transport.cleanup()
        worker.kill9()


def _measured(client: rpc_client.Client, hosts: list["Light"],
              ) -> tuple[list[float], list[float]]:
    """Seconds of each round, and messages that each host but the asker took in one."""
    times = []
    for host in hosts:
        host.taken.clear()
    for _ in range(ROUNDS):
        began = time.perf_counter()
        reply = contract.matrix(client, _ASKER, contract.MatrixRequest())
        found = cells.cells(reply)
        names = [survey.traits.host for survey in reply.surveys]
        _, lines = matrix_table.summary(names, found)
        times.append(time.perf_counter() - began)
        assert len(lines) == len(hosts) and len(found) == len(hosts) * (len(hosts) - 1)
        assert len(reply.routes) == len(hosts) and sum(c.is_tried for c in found) == len(hosts)
        assert not any("worker.peer" in cell.checks for cell in found), "a host was too slow"
    return times, [host.taken.total() / ROUNDS for host in hosts[1:]]
