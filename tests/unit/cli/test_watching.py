# SPDX-License-Identifier: Apache-2.0
"""What ``migration watch`` draws on a terminal."""

import io

import pytest
from rich import console

from rbd_worker.cli import watching
from rpcapi import control as contract


@pytest.mark.parametrize("reason", [
    "deeper than 8 directories. Raise [rbd_worker] max_depth", "[/var/lib/nova] is in the way",
    "[bold]"])
def test_a_reason_is_shown_as_it_is_whatever_it_has_in_brackets(reason: str) -> None:
    role = contract.Progress(
        migration="m", instance="a05482ec-d71a-48c7-bf99-94d829b20aef", role="source",
        source="node1", destination="node2", executor="nova", phase="rollback",
        outcome="failed", reason=reason)
    screen = console.Console(file=io.StringIO(), width=200, force_terminal=True)
    with screen.capture() as shown:
        screen.print(watching.drawn([role]))
    assert f" {reason} " in f"{shown.get()} ".replace("\n", " ")
