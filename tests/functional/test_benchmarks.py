# SPDX-License-Identifier: Apache-2.0
"""A benchmark that nobody runs for a while still comes to its end, at a small size."""

import pytest
from rich.console import Console

from devstack import lab as labs
from tests.benchmarks import drain
from tests.benchmarks.bench import Bench


def test_simulated_hosts_drain(lab: labs.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in (("WARM", 1), ("MIGRATIONS", 5), ("ROUNDS", 1)):
        monkeypatch.setattr(drain, name, number)
    with Bench(Console(quiet=True), lab) as bench:
        result = drain.run(bench)
    rate, _waits, _fairness, cpu, _memory = result.tables
    assert rate.series[0].median > 0
    assert [len(series.values) for series in cpu.series] == [1, 1]
