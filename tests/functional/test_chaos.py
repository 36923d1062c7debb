# SPDX-License-Identifier: Apache-2.0
"""Ten rounds of ``make chaos``: enough to see that it works, and that what is usual holds."""

import collections.abc
import pathlib
import typing as ty

import pytest

from tests.chaos import __main__ as chaos
from tests.chaos import faults, rounds
from tests.chaos.beside_nova import __main__ as chaos_nova
from tests.chaos.beside_nova import faults as nova_faults
from tests.chaos.beside_nova import rounds as nova_rounds

Main: ty.TypeAlias = collections.abc.Callable[[list[str]], int]

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


def test_ten_rounds_of_chaos_break_no_invariant(
        lab_parts: None, capsys: pytest.CaptureFixture[str]) -> None:
    status = chaos.main(["--rounds", "10", "--seed", "10"])
    told = capsys.readouterr().out
    assert status == 0, told
    assert "seed 10" in told and "10 rounds" in told


def test_a_seed_and_a_number_draw_the_same_round_again() -> None:
    first, second = ([rounds.Draw.of(42, number, list(faults.ALL)) for number in range(50)]
                     for _ in range(2))
    assert [(d.fault, d.delay, d.lasts, d.choice.random()) for d in first] == [
        (d.fault, d.delay, d.lasts, d.choice.random()) for d in second]
    assert len({d.fault.name for d in first}) > len(faults.ALL) / 2


def test_a_seed_and_a_number_draw_the_same_round_beside_nova_again() -> None:
    names = list(nova_faults.ALL)
    first, second = ([nova_rounds.Draw.of(42, number, names, servers=2) for number in range(50)]
                     for _ in range(2))
    assert [(str(d), d.movers, d.choice.random()) for d in first] == [
        (str(d), d.movers, d.choice.random()) for d in second]
    assert {len(d.faults) for d in first} == {len(d.movers) for d in first} == {1, 2}
    assert any(d.is_harmless for d in first) and not all(d.is_harmless for d in first)


@pytest.mark.parametrize(("main", "known"), [
    (chaos.main, "jump_clock"), (chaos_nova.main, "kill_conductor")])
def test_an_unknown_fault_is_refused_with_those_that_there_are(
        capsys: pytest.CaptureFixture[str], main: Main, known: str) -> None:
    with pytest.raises(SystemExit):
        main(["--faults", "kill_broker_node,earthquake"])
    told = capsys.readouterr().err
    assert "earthquake: no such fault" in told and known in told


def test_the_worker_under_a_shifted_clock_is_told_another_time(tmp_path: pathlib.Path) -> None:
    import subprocess
    import sys
    import time
    clock = tmp_path / "clock"
    clock.write_text("-3600\n")
    told = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"], check=True,
        capture_output=True, text=True,
        env={"CHAOS_CLOCK": str(clock),
             "PYTHONPATH": str(pathlib.Path(chaos.__file__).with_name("clock"))})
    assert float(told.stdout) == pytest.approx(time.time() - 3600, abs=30)
