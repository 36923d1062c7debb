# SPDX-License-Identifier: Apache-2.0
"""One question for all who ask at the same moment, and never an answer older than the asking."""

import concurrent.futures
import threading
import time

import pytest

from rbd_worker import errors
from rbd_worker.triggers.consumers import Consumers


class Broker:
    """Counts consumers as slowly as the test wants; each question's answer is its number."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.questions = 0

    def ask(self) -> int:
        self.questions += 1
        number = self.questions
        self.begun.release()
        assert self.may_end.acquire(timeout=10)
        return number


Answer = concurrent.futures.Future[int]


def _asked_meanwhile(consumers: Consumers, broker: Broker,
                     pool: concurrent.futures.Executor) -> tuple[Answer, list[Answer]]:
    """A question that the broker has begun to answer, and eight that came meanwhile."""
    first = pool.submit(consumers.count)
    assert broker.begun.acquire(timeout=10)
    later = [pool.submit(consumers.count) for _ in range(8)]
    while not all(each.running() for each in later):
        pass
    return first, later


def test_each_question_alone_is_put_to_the_broker():
    broker = Broker()
    consumers = Consumers(broker.ask)
    for number in (1, 2, 3):
        broker.may_end.release()
        assert consumers.count() == number


def test_whoever_comes_during_a_question_shares_the_next_one():
    broker = Broker()
    consumers = Consumers(broker.ask)
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        first, later = _asked_meanwhile(consumers, broker, pool)
        for _ in range(9):
            broker.may_end.release()
        assert first.result(10) == 1  # which began before the later ones asked
        assert all(each.result(10) >= 2 for each in later)
    assert broker.questions < 9


def test_a_queue_that_is_not_there_has_no_consumers():
    assert Consumers(lambda: None).count() == 0


def test_a_broker_that_is_away_is_told_and_asked_again():
    answers: list[int | Exception] = [
        errors.BrokerUnavailable(url="rabbit://b:5672/", reason="refused"), 1]

    def ask() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    consumers = Consumers(ask)
    with pytest.raises(errors.BrokerUnavailable):
        consumers.count()
    assert consumers.count() == 1


def test_after_an_error_that_is_not_foreseen_nobody_gets_an_older_answer():
    broker = Broker()

    def ask() -> int:
        number = broker.ask()
        if number > 1:
            raise RuntimeError("not foreseen")
        return 0
    consumers = Consumers(ask)
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        first, later = _asked_meanwhile(consumers, broker, pool)
        time.sleep(0.1)  # all of them wait for the one question by now
        for _ in range(9):
            broker.may_end.release()
        assert first.result(10) == 0
        for each in later:
            with pytest.raises((RuntimeError, errors.BrokerUnavailable)):
                each.result(10)
