# SPDX-License-Identifier: Apache-2.0
"""Questions of several threads to one host, in fewer calls than questions.

When a host is drained, each of hundreds of migrations asks the other host what
it observes, several times.  Most of what that costs is the message, not the
question.
"""

import collections.abc
import concurrent.futures
import threading
import typing as ty

#: Calls to one host at the same time; what comes up meanwhile is gathered.  More than one,
#: so that a single call that waits for its time limit holds nobody up.
LANES = 2
#: Questions in one call: the peer answers them one after the other.
MOST = 16

Question = ty.TypeVar("Question")
Answer = ty.TypeVar("Answer")


class _Gathered(ty.Generic[Question, Answer]):
    def __init__(self) -> None:
        self.questions: dict[str, Question] = {}
        self.answers: concurrent.futures.Future[collections.abc.Mapping[str, Answer]] = (
            concurrent.futures.Future())


class Joined(ty.Generic[Question, Answer]):
    """Thread-safe.

    A call that is under way takes no further question, so that every answer was
    observed after its question was put; a question that is alone goes at once.

    :param ask: one call to a host with questions by their subjects; returns an
        answer to each of them, or raises for all.
    """

    def __init__(self, ask: ty.Callable[[str, collections.abc.Mapping[str, Question]],
                                        collections.abc.Mapping[str, Answer]]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._next: dict[str, _Gathered[Question, Answer]] = {}
        self._lanes: dict[str, threading.Semaphore] = {}

    def ask(self, host: str, subject: str, question: Question) -> Answer:
        """The answer of ``host``, whoever's call brings it.

        :raises Exception: whatever the call for this question raised.
        """
        with self._lock:
            gathered = self._next.get(host)
            has_a_caller = (gathered is not None and subject not in gathered.questions
                            and len(gathered.questions) < MOST)
            if gathered is None or not has_a_caller:
                gathered = self._next[host] = _Gathered()
            gathered.questions[subject] = question
            lane = self._lanes.setdefault(host, threading.Semaphore(LANES))
        if not has_a_caller:
            with lane:
                self._call(host, gathered)
        return gathered.answers.result()[subject]

    def _call(self, host: str, gathered: _Gathered[Question, Answer]) -> None:
        with self._lock:
            if self._next.get(host) is gathered:
                del self._next[host]
        try:
            gathered.answers.set_result(self._ask(host, gathered.questions))
        except BaseException as e:  # noqa: BLE001 -- nobody may wait for ever
            gathered.answers.set_exception(e)
