# SPDX-License-Identifier: Apache-2.0
"""What one more host costs RabbitMQ: connections, queues, memory, from 10 to 300 hosts.

Each simulated host is a whole worker with its tap, its RPC server and its
client; many of them share a process.  The broker is asked when all are ready
and at rest, after a garbage collection of all its processes, so that its
memory is what it needs and not what it has not given back yet.
"""

import contextlib
import pathlib
import statistics
import tempfile
import time

import rpcapi
from devstack import lab as labs
from devstack.conductor import Conductor
from devstack.lab import broker
from tests.benchmarks import simulated
from tests.benchmarks.bench import Bench
from tests.benchmarks.measure import Series
from tests.benchmarks.results import Goal, Result, Table

SIZES = (10, 100, 300)
#: Hosts of one process; each has some fifteen threads.
HOSTS_OF_PROCESS = 30
SAMPLES = 5
_CONNECTIONS = "length(rabbit_networking:connections())"
#: But for the one queue that all workers share, which oslo.messaging declares beside theirs.
_QUEUES = (f"length([Q || Q <- rabbit_amqqueue:list(<<\"{broker.VHOST}\">>), "
           f"element(4, amqqueue:get_name(Q)) =/= <<\"{rpcapi.TOPIC}\">>])")
_MEMORY = "[garbage_collect(P) || P <- processes()], erlang:memory(total)"


def run(bench: Bench) -> Result:
    lab = bench.lab
    with tempfile.TemporaryDirectory(prefix="rbdw-bench-broker-", dir="/var/tmp") as name:
        home = pathlib.Path(name)
        settings = simulated.Settings(
            hosts=[], fleet=[f"sim{number:03}" for number in range(SIZES[-1])], home=name,
            url=lab.broker_url, executor="nova", guests=1, states=str(home / "states"),
            gate=str(home / "gate"))
        simulated.prepare(settings)
        with (contextlib.ExitStack() as ends, Conductor(lab.broker_url),
              bench.progress("broker", SIZES[-1]) as step):
            before = _Census.of(lab)
            found, running = {}, 0
            for size in SIZES:
                while running < size:
                    hosts = settings.fleet[running:min(size, running + HOSTS_OF_PROCESS)]
                    one = simulated.Settings(**vars(settings) | {"hosts": hosts})
                    ends.enter_context(simulated.Process(one)).wait_ready()
                    running += len(hosts)
                    for _ in hosts:
                        step()
                found[size] = _Census.of(lab)
    return _result(before, found)


class _Census:
    """What the broker holds at one moment; memory in bytes, as several samples."""

    def __init__(self, connections: int, queues: int, memory: list[int]) -> None:
        self.connections = connections
        self.queues = queues
        self.memory = memory

    @classmethod
    def of(cls, lab: labs.Lab) -> "_Census":
        time.sleep(5)  # the last ones' declarations are over
        memory = []
        for _ in range(SAMPLES):
            memory.append(_number(lab, _MEMORY))
            time.sleep(0.5)
        return cls(_number(lab, _CONNECTIONS), _number(lab, _QUEUES), memory)


def _number(lab: labs.Lab, erlang: str, attempts: int = 5) -> int:
    """What the broker answers; under load its node may miss the time to be connected to."""
    for _ in range(attempts - 1):
        try:
            return int(lab.broker.evaluate(erlang))
        except labs.CommandFailed:
            time.sleep(1)
    return int(lab.broker.evaluate(erlang))


def _result(before: _Census, found: dict[int, _Census]) -> Result:
    connections, queues, memory = [], [], []
    base, hosts = before, 0
    per_host = {}
    for size, now in found.items():
        name, count = f"up to {size} hosts", size - hosts
        connections.append(Series(name, [(now.connections - base.connections) / count]))
        queues.append(Series(name, [(now.queues - base.queues) / count]))
        memory.append(Series(name, [
            (one - statistics.median(base.memory)) / count / 1024 for one in now.memory]))
        per_host[size] = (statistics.median(now.memory)
                          - statistics.median(before.memory)) / size
        base, hosts = now, size
    apart = max(per_host.values()) / min(per_host.values()) - 1
    return Result("broker", [
        Table("connections of one more host", "", connections),
        Table("queues of one more host", "", queues),
        Table("broker's memory for one more host", "KiB", memory)], [
        Goal("connections a host", max(one.median for one in connections), 3),
        Goal("queues a host", max(one.median for one in queues), 4),
        Goal("memory a host of 10, 100, 300 hosts: largest to smallest, minus 1", apart, 0.2)])
