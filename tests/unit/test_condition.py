# SPDX-License-Identifier: Apache-2.0
import collections.abc
import typing as ty

import pytest

from rbd_worker import condition, vitals
from rbd_worker.host import deputy


class _Ended:
    """A process with privileges that is no more."""

    is_alive = False

    def ask(self, what: str, descriptors: collections.abc.Sequence[int],
            *arguments: object) -> list[int]:
        raise deputy.Gone


@pytest.fixture
def ended() -> ty.Iterator[None]:
    deputy.appoint(_Ended())
    yield
    deputy.appoint(None)


def test_only_a_new_start_brings_the_process_with_privileges_back(ended: None) -> None:
    """The watchdog hears of it before anything else is looked at."""
    nothing_else = ty.cast(condition.Condition, object())
    assert condition.Condition.ailment(nothing_else) == (
        "the process for privileged file work has ended")


def test_a_worker_that_is_deaf_to_peers_needs_a_new_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitals, "missing_threads", lambda names: [])
    one = condition.Condition(*[ty.cast(ty.Any, None)] * 7, is_deaf_to_peers=lambda: True)
    assert one.ailment() == "the thread that hears peers has ended"
