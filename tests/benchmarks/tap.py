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
import uuid

from rich.console import Console

from devstack import conductor as wire
from devstack import lab as labs
from tests.benchmarks import measure, tap_consumer

ROUNDS = 5
MESSAGES = 12000


def run(lab: labs.Lab, console: Console) -> list[measure.Series]:
    lab.reset()
    with wire.Conductor(lab.broker_url) as conductor:
        for kind in tap_consumer.KINDS:
            _consume(lab, kind, 0)  # makes its queue, with its bindings
        results: dict[str, list[dict[str, float]]] = {kind: [] for kind in tap_consumer.KINDS}
        for _ in range(ROUNDS):
            _publish(conductor)
            for kind in tap_consumer.KINDS:
                results[kind].append(_consume(lab, kind, MESSAGES))
    rates = [measure.Series(kind, [MESSAGES / r["seconds"] for r in runs])
             for kind, runs in results.items()]
    cpu = [measure.Series(kind, [r["cpu"] / MESSAGES * 1e6 for r in runs])
           for kind, runs in results.items()]
    measure.show(f"messages heard a second, {MESSAGES} of 20 KB", "1/s", rates, console)
    measure.show("CPU for each message", "µs", cpu, console)
    return rates + cpu


def _publish(conductor: wire.Conductor) -> None:
    order = wire.LiveMigration(str(uuid.uuid4()), "bench", "elsewhere")
    ours = wire.envelope(wire.live_migration(order))
    other = wire.live_migration(order) | {"method": "build_and_run_instance"}
    other["args"].pop("migrate_data")
    irrelevant = wire.envelope(other)
    pad = b" " * max(0, 20_000 - len(irrelevant))
    for number in range(MESSAGES - 1):
        conductor.publish("compute.bench", ours if number % 20 == 0 else irrelevant + pad)
    conductor.publish("compute.bench", ours.replace(order.uuid.encode(), tap_consumer.LAST))


def _consume(lab: labs.Lab, kind: str, messages: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", tap_consumer.__name__, lab.broker_url, kind, str(messages)],
        stdout=subprocess.PIPE, text=True, check=True, timeout=120,
        cwd=pathlib.Path(__file__).parents[2])
    return dict(json.loads(done.stdout))
