# SPDX-License-Identifier: Apache-2.0
"""How the lab knows its processes again."""

import os
import pathlib
import subprocess
import time

from devstack.lab import processes

#: Starts itself again and again, as rabbitmq-server and libvirtd's wrapper do once or twice.
RESTLESS = 'n=$(($1 - 1)); [ "$n" -gt 0 ] && exec sh "$0" "$n" restless; exec sleep 60'


def test_a_process_is_known_while_it_executes_another_program(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "restless"
    script.write_text(RESTLESS)
    process = subprocess.Popen(["sh", script, "100"], env={**os.environ, "MARK": "mine"})
    try:
        deadline = time.monotonic() + processes.patience(20)
        while (argv := processes.command_line(process.pid))[0] != "sleep":
            assert "MARK=mine" in processes.environment(process.pid)
            assert argv[0] == "sh"
            assert time.monotonic() < deadline
    finally:
        process.kill()
        process.wait()


def test_an_ended_process_has_neither_arguments_nor_environment() -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert processes.command_line(process.pid) == []
        assert processes.environment(process.pid) == []
    finally:
        process.wait()
    assert processes.environment(process.pid) == []
