# SPDX-License-Identifier: Apache-2.0
"""Questions that share a call."""

import collections.abc
import concurrent.futures
import threading

import pytest

from rbd_worker.host import joined

SECONDS = 20


class Peer:
    """Answers with the number of the call; each call ends when it is let go."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.error: Exception | None = None

    def ask(self, host: str, questions: collections.abc.Mapping[str, str]) -> dict[str, str]:
        self.calls.append((host, dict(questions)))
        number = len(self.calls)
        self.begun.release()
        assert self.go.acquire(timeout=SECONDS)
        if self.error is not None:
            raise self.error
        return {subject: f"{question} in call {number}" for subject, question in
                questions.items()}


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
def threads() -> collections.abc.Iterator[concurrent.futures.ThreadPoolExecutor]:
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        yield pool


@pytest.fixture
def put(peer: Peer, threads: concurrent.futures.ThreadPoolExecutor,
        ) -> collections.abc.Callable[..., concurrent.futures.Future[str]]:
    """Puts a question in a thread of its own, and returns once it waits for its answer."""
    questions: joined.Joined[str, str] = joined.Joined(peer.ask)

    lock = questions._lock = CountedLock()

    def put(subject: str, host: str = "node2") -> concurrent.futures.Future[str]:
        before = lock.uses
        answer = threads.submit(questions.ask, host, subject, f"{subject}?")
        until(lambda: lock.uses > before)
        return answer
    return put


class CountedLock:
    """Tells when a question has been taken in."""

    def __init__(self) -> None:
        self.uses = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.uses += 1
        self._lock.release()


def until(holds: collections.abc.Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(SECONDS * 1000):
        if holds():
            return
        pause.wait(0.001)
    raise AssertionError("it does not come about")


def test_a_question_that_is_alone_goes_at_once(peer, put):
    answer = put("a")
    peer.go.release()
    assert answer.result(SECONDS) == "a? in call 1"
    assert peer.calls == [("node2", {"a": "a?"})]


def busy(peer, put) -> list[concurrent.futures.Future[str]]:
    first = [put(f"first {number}") for number in range(joined.LANES)]
    for _ in first:
        assert peer.begun.acquire(timeout=SECONDS)
    return first


def test_what_comes_up_during_the_calls_goes_in_one_afterwards(peer, put):
    first = busy(peer, put)
    later = [put(subject) for subject in "abc"]
    for _ in range(joined.LANES + 1):
        peer.go.release()
    assert [one.result(SECONDS) for one in later] == [f"{s}? in call 3" for s in "abc"]
    assert len({one.result(SECONDS) for one in first}) == joined.LANES
    assert len(peer.calls) == joined.LANES + 1


def test_an_answer_is_never_older_than_its_question(peer, put):
    busy(peer, put)
    again = put("first 0")  # the same subject as in a call that is under way
    for _ in range(joined.LANES + 1):
        peer.go.release()
    assert again.result(SECONDS) == "first 0? in call 3"


def test_two_questions_about_one_subject_go_in_two_calls(peer, put):
    busy(peer, put)
    both = [put("a"), put("a")]
    for _ in range(joined.LANES + 2):
        peer.go.release()
    assert {one.result(SECONDS) for one in both} == {"a? in call 3", "a? in call 4"}


def test_no_call_has_more_questions_than_it_may(peer, put):
    busy(peer, put)
    later = [put(str(number)) for number in range(joined.MOST + 1)]
    for _ in range(joined.LANES + 2):
        peer.go.release()
    for one in later:
        one.result(SECONDS)
    assert sorted(len(questions) for _, questions in peer.calls[joined.LANES:]) == [
        1, joined.MOST]


def test_a_failure_is_everybodys_in_that_call_and_nobody_elses(peer, put):
    busy(peer, put)
    later = [put(subject) for subject in "ab"]
    peer.error = RuntimeError("no answer")
    for _ in range(joined.LANES + 1):
        peer.go.release()
    for one in later:
        with pytest.raises(RuntimeError, match="no answer"):
            one.result(SECONDS)
    peer.error = None
    answer = put("c")
    peer.go.release()
    assert answer.result(SECONDS) == "c? in call 4"


def test_a_host_that_is_silent_holds_up_no_other(peer, put):
    silent = busy(peer, put)
    other = put("a", host="node3")
    assert peer.begun.acquire(timeout=SECONDS)
    for _ in range(joined.LANES + 1):
        peer.go.release()
    assert other.result(SECONDS) == "a? in call 3"
    for one in silent:
        one.result(SECONDS)
