# SPDX-License-Identifier: Apache-2.0
"""Nova's rhythm of retries: how often, how far apart, and what ends it."""

import threading

import pytest
import tenacity

from rbd_worker import errors, retries


class CountingEvent(threading.Event):
    """A shutdown event whose waiting takes no time; it may be set at the n-th pause."""

    def __init__(self, set_at_pause: int | None = None) -> None:
        super().__init__()
        self.pauses: list[float | None] = []
        self._set_at_pause = set_at_pause

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout)
        if len(self.pauses) == self._set_at_pause:
            self.set()
        return self.is_set()


class Unlucky:
    """Fails with the given errors, one a call, then succeeds."""

    def __init__(self, *failures: Exception) -> None:
        self.calls = 0
        self._failures = list(failures)

    def __call__(self) -> str:
        self.calls += 1
        if self._failures:
            raise self._failures.pop(0)
        return "done"


def _away() -> errors.Error:
    return errors.PeerUnreachable(host="node02", reason="no answer")


def test_a_transient_error_is_repeated_one_second_apart() -> None:
    shutdown, action = CountingEvent(), Unlucky(_away(), _away())
    assert retries.each_second(30, shutdown)(action) == "done"
    assert action.calls == 3
    assert shutdown.pauses == [1, 1]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_retry_count_is_counted_beside_the_first_attempt(count: int) -> None:
    shutdown, action = CountingEvent(), Unlucky(*[_away() for _ in range(100)])
    with pytest.raises(errors.PeerUnreachable):
        retries.each_second(count, shutdown)(action)
    assert action.calls == count + 1
    assert len(shutdown.pauses) == count


@pytest.mark.parametrize("error", [
    errors.PeerSaysNo(host="node02", reason="no"), errors.NoSpace(path="x"),
    errors.NotProven(instance="i", reason="doubt"), ValueError("a bug")], ids=repr)
def test_what_time_does_not_heal_is_raised_at_once(error: Exception) -> None:
    shutdown, action = CountingEvent(), Unlucky(error)
    with pytest.raises(type(error)):
        retries.each_second(30, shutdown)(action)
    assert action.calls == 1
    assert shutdown.pauses == []


def test_a_shutdown_during_a_pause_ends_the_attempts() -> None:
    shutdown, action = CountingEvent(set_at_pause=2), Unlucky(*[_away() for _ in range(100)])
    with pytest.raises(errors.PeerUnreachable):
        retries.each_second(30, shutdown)(action)
    assert action.calls <= 3
    assert len(shutdown.pauses) == 2


def test_without_a_pause_who_asks_is_told_when_to_come_again() -> None:
    action = Unlucky(_away())
    with pytest.raises(retries.Later) as told:
        retries.without_pause(1, CountingEvent())(action)
    assert (told.value.seconds, str(told.value.error)) == (retries.PAUSE, str(_away()))
    assert action.calls == 1


def test_the_oldest_tenacity_that_is_allowed_tells_as_much() -> None:
    """``upcoming_sleep`` is of 8.3; Debian 12 and Ubuntu 24.04 have 8.2."""
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.outcome = tenacity.Future.construct(1, _away(), has_exception=True)
    state.next_action = tenacity.RetryAction(retries.PAUSE)
    vars(state).pop("upcoming_sleep", None)
    before_sleep = retries.without_pause(1, CountingEvent()).before_sleep
    assert before_sleep is not None
    with pytest.raises(retries.Later) as told:
        before_sleep(state)
    assert told.value.seconds == retries.PAUSE
