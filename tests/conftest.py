# SPDX-License-Identifier: Apache-2.0
"""For all tests: oslo.service is told to use threads before oslo.messaging is imported."""

import pytest

import rpcapi  # noqa: F401
from devstack.lab import processes


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell in full why a test was tried again."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"the first attempt of {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test may take so many times longer as the machine may be slower."""
    usual = float(config.getini("timeout"))
    for item in items:
        marker = item.get_closest_marker("timeout")
        seconds = marker.args[0] if marker else usual
        item.add_marker(pytest.mark.timeout(processes.patience(seconds)), append=False)
