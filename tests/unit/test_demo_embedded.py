# SPDX-License-Identifier: Apache-2.0
"""``make demo-embedded`` builds the worker with stand-ins of its own: does it still?"""

import pathlib
import subprocess
import sys

import pytest

from devstack.lab import processes

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_embedded_demo_moves_its_guest() -> None:
    pytest.importorskip("libvirt")
    done = subprocess.run([sys.executable, "-m", "devstack.demo_embedded"], cwd=ROOT, text=True,
                          capture_output=True, timeout=processes.patience(120))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict: as it should be" in done.stdout
