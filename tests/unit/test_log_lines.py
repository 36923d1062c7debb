# SPDX-License-Identifier: Apache-2.0
"""Lines about errors, as oslo.log writes them for the worker."""

import collections.abc
import io
import logging

import pytest

from rbd_worker import errors, log_lines
from tests.unit.conftest import oslo_formatter

LOG = logging.getLogger("rbd_worker.x")


@pytest.fixture
def log() -> collections.abc.Iterator[io.StringIO]:
    """What the worker's log file would have."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(log_lines.Once(oslo_formatter()))
    LOG.addHandler(handler)
    yield text
    LOG.removeHandler(handler)


def _handled(tell: collections.abc.Callable[[errors.Error], None]) -> None:
    try:
        raise errors.OutcomeUnknown(instance="one", reason="nobody can be asked")
    except errors.Error as e:
        tell(e)


def test_a_warning_has_the_sentence_of_the_error_that_is_handled_once(log: io.StringIO) -> None:
    _handled(lambda e: LOG.warning("it is unresolved: %s", e.sentence))
    (line,) = log.getvalue().splitlines()
    assert line.count("nobody can be asked") == 1
    assert "OutcomeUnknown" not in line


def test_an_error_that_is_not_foreseen_keeps_its_traceback(log: io.StringIO) -> None:
    _handled(lambda _: LOG.exception("a step failed"))
    assert "Traceback" in log.getvalue()
    assert "OutcomeUnknown" in log.getvalue().splitlines()[0]
