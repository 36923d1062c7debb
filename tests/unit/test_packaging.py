# SPDX-License-Identifier: Apache-2.0
"""What setup.py promises: commands, entry points and the version exist as named."""

import importlib.metadata
import pathlib
import subprocess
import sys

import pytest

from rbd_worker import conf, version

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _entry_points(group: str) -> list[importlib.metadata.EntryPoint]:
    return [e for e in importlib.metadata.entry_points(group=group)
            if e.dist is not None and e.dist.name == "rbd-worker"]


def test_the_version_is_the_installed_one() -> None:
    assert version.VERSION == importlib.metadata.version("rbd-worker")


def test_both_commands_are_installed() -> None:
    assert {e.name for e in _entry_points("console_scripts")} >= {"rbd-worker", "rbd-workerctl"}


@pytest.mark.parametrize("entry", [e for group in ("console_scripts", "rbd_worker.cli",
                                                   "oslo.config.opts")
                                   for e in _entry_points(group)], ids=lambda e: e.name)
def test_every_entry_point_can_be_loaded(entry: importlib.metadata.EntryPoint) -> None:
    assert callable(entry.load())


def test_the_sample_generator_finds_our_options_by_entry_point() -> None:
    (entry,) = _entry_points("oslo.config.opts")
    assert entry.load()() == [("rbd_worker", conf.WORKER_OPTS)]


@pytest.mark.parametrize("command", ["rbd-worker", "rbd-workerctl"])
def test_a_command_tells_its_version(command: str) -> None:
    script = pathlib.Path(sys.executable).with_name(command)
    done = subprocess.run([script, "--version"], text=True, capture_output=True, timeout=60)
    assert done.returncode == 0
    assert version.VERSION in done.stdout + done.stderr


def test_both_packages_say_that_they_are_typed() -> None:
    assert (ROOT / "rbd_worker/py.typed").exists()
    assert (ROOT / "rpcapi/py.typed").exists()
