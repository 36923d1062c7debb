# SPDX-License-Identifier: Apache-2.0
"""Blocking calls with a time limit."""

import threading
import time

import pytest

from devstack.lab import processes
from rbd_worker import errors
from rbd_worker.host.bounded import Bounded, _Job


class Refused(errors.Transient):
    msg = "refused: {reason}"


def pool(threads: int = 2, seconds: float = 0.2) -> Bounded:
    return Bounded("test", seconds, lambda reason: Refused(reason=reason), threads)


def stick(bounded: Bounded, count: int) -> threading.Event:
    """Leave ``count`` calls behind that return only once the event is set."""
    release = threading.Event()
    while bounded.stuck < count:  # one that did not begin in time was not left behind
        with pytest.raises(Refused):
            bounded.run(release.wait, 0.02)
    return release


def test_a_call_gives_its_result_and_its_own_error():
    bounded = pool()
    assert bounded.run(lambda: 6 * 7) == 42
    with pytest.raises(KeyError, match="x"):
        bounded.run(lambda: {}["x"])


def test_a_call_that_does_not_return_is_refused_in_time():
    release = threading.Event()
    began = time.monotonic()
    with pytest.raises(Refused, match=r"no answer within 0\.2 s"):
        pool().run(release.wait)
    assert 0.2 <= time.monotonic() - began < processes.patience(1.0)
    release.set()


def test_stuck_calls_make_further_questions_end_at_once():
    bounded = pool(threads=2)
    release = stick(bounded, 2)
    began = time.monotonic()
    with pytest.raises(Refused, match="2 earlier calls"):
        bounded.run(lambda: None, 5.0)
    assert time.monotonic() - began < processes.patience(0.5)
    release.set()


def test_one_stuck_call_leaves_the_other_threads_to_work():
    bounded = pool(threads=2)
    release = stick(bounded, 1)
    assert [bounded.run(lambda: 1) for _ in range(5)] == [1] * 5
    release.set()


def test_a_stuck_call_holds_up_no_question_that_came_at_the_same_moment():
    bounded = pool(threads=2, seconds=5)
    bounded.run(lambda: None)
    processes.wait_until(lambda: bounded._idle == 1, 5, "an idle thread")
    release, answers = threading.Event(), []
    with bounded._changed:  # the idle thread wakes only when both are there
        bounded._hand_over(_Job(release.wait))
        bounded._hand_over(_Job(lambda: answers.append(1)))
    processes.wait_until(lambda: answers == [1], 2, "the second answer")
    release.set()


def test_questions_are_answered_again_once_the_system_has_threads_again(
        monkeypatch: pytest.MonkeyPatch):
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")
    bounded = pool(threads=2, seconds=5)
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refused)
        for _ in range(3):
            with pytest.raises(Refused, match="can't start new thread"):
                bounded.run(lambda: None)
    assert bounded.run(lambda: "again") == "again"
    assert bounded.stuck == 0


def test_questions_are_answered_again_once_a_stuck_call_returned():
    bounded = pool(threads=2)
    release = stick(bounded, 2)
    release.set()
    processes.wait_until(lambda: bounded.stuck == 0, 5, "the end of the calls left behind")
    assert bounded.run(lambda: "again") == "again"


def test_more_questions_than_threads_wait_for_their_turn():
    bounded = pool(threads=2, seconds=5)
    running, most, lock = [0], [0], threading.Lock()
    answers: list[int] = []

    def slow() -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.02)
        with lock:
            running[0] -= 1
        return 1
    askers = [threading.Thread(target=lambda: answers.append(bounded.run(slow)))
              for _ in range(10)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(5)
    assert sum(answers) == 10
    assert most[0] == 2


def test_a_question_that_never_got_a_thread_is_not_put_later():
    bounded = pool(threads=1, seconds=5)
    release, asked = threading.Event(), []
    first = threading.Thread(target=bounded.run, args=(release.wait,))
    first.start()
    processes.wait_until(lambda: any(t.name == "test" for t in threading.enumerate()), 5,
                         "a thread")
    with pytest.raises(Refused):
        bounded.run(lambda: asked.append(1), 0.05)
    release.set()
    first.join(5)
    assert bounded.run(lambda: "next") == "next"
    assert asked == []
    assert bounded.stuck == 0
