# SPDX-License-Identifier: Apache-2.0
"""The tap against a bare kombu consumer that only acknowledges, same prefetch.

Messages of 20 KB in Nova's form, 95 of 100 not ours, are in both queues
before either consumer starts.  Each consumer is a process of its own; its
time runs from its connection to its last message, its CPU is the process's.
"""

import json
import pathlib
import subprocess
import sys
import typing as ty
import uuid

from devstack import conductor as wire
from devstack import lab as labs
from tests.benchmarks import tap_consumer
from tests.benchmarks.bench import Bench
from tests.benchmarks.measure import Series
from tests.benchmarks.results import Goal, Result, Table

ROUNDS = 7
MESSAGES = 12000
BYTES = 20_000
#: What one more entry of the catalogue costs in the twice encoded message, beside its name.
_CLOSING = b', {\\"name\\": \\"\\"}'


def run(bench: Bench) -> Result:
    lab = bench.lab
    results: dict[str, list[dict[str, float]]] = {kind: [] for kind in tap_consumer.KINDS}
    with wire.Conductor(lab.broker_url) as conductor:
        for kind in tap_consumer.KINDS:
            _consume(lab, kind, 0)  # makes its queue, with its bindings
        with bench.progress("tap", 2 * ROUNDS) as step:
            for number in range(ROUNDS):
                _publish(conductor)
                for kind in tap_consumer.KINDS[::-1 if number % 2 else 1]:
                    results[kind].append(_consume(lab, kind, MESSAGES))
                    step()
    rates = Table(f"{MESSAGES} messages of 20 KB, 95 of 100 not ours", "1/s", [
        Series(kind, [MESSAGES / r["seconds"] for r in runs]) for kind, runs in results.items()])
    cpu = Table("CPU for each message", "µs", [
        Series(kind, [r["cpu"] / MESSAGES * 1e6 for r in runs])
        for kind, runs in results.items()])
    return Result("tap", [rates, cpu], [
        Goal("rate: ratio to a bare kombu consumer", rates.ratio(tap_consumer.BARE), 0.8,
             at_least=True),
        Goal("CPU a message: ratio to the same", cpu.ratio(tap_consumer.BARE), 1.3)])


def _publish(conductor: wire.Conductor) -> None:
    order = wire.LiveMigration(str(uuid.uuid4()), "bench", "elsewhere")
    ours = _of_20_kb(wire.live_migration(order))
    other = wire.live_migration(order) | {"method": "build_and_run_instance"}
    other["args"].pop("migrate_data")
    irrelevant = _of_20_kb(other)
    for number in range(MESSAGES - 1):
        conductor.publish("compute.bench", irrelevant if number % 20 else ours)
    conductor.publish("compute.bench", ours.replace(order.uuid.encode(), tap_consumer.LAST))


def _of_20_kb(message: dict[str, ty.Any]) -> bytes:
    """The message with as long a service catalogue in its context as makes it 20 KB."""
    catalogue: list[dict[str, ty.Any]] = []
    body = wire.envelope(message)
    while len(body) < BYTES - 600:
        catalogue.append({"type": "compute", "name": "nova", "endpoints": [
            {"region": "RegionOne", "publicURL": f"http://cloud/{len(catalogue)}/v2.1"}]})
        body = wire.envelope(message | {"_context_service_catalog": catalogue})
    catalogue.append({"name": "x" * (BYTES - len(body) - len(_CLOSING))})
    body = wire.envelope(message | {"_context_service_catalog": catalogue})
    assert len(body) == BYTES, len(body)
    return body


def _consume(lab: labs.Lab, kind: str, messages: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", tap_consumer.__name__, lab.broker_url, kind, str(messages)],
        stdout=subprocess.PIPE, text=True, check=True, timeout=120,
        cwd=pathlib.Path(__file__).parents[2])
    return dict(json.loads(done.stdout))
