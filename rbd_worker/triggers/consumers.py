# SPDX-License-Identifier: Apache-2.0
"""Who consumes Nova's queue of this host: one connection for all who ask at the same moment.

Each question opens a connection to RabbitMQ, since a kept one would have to be
kept alive for a question that is rare.  When many guests are to be moved at
once, those who come while a question is being put wait for the next one, and
share its answer: it is newer than their own asking.
"""

import threading
import typing as ty

from rbd_worker import errors


class Consumers:
    """Thread-safe.

    :param ask: opens a connection and counts; None where there is no such queue.
    """

    def __init__(self, ask: ty.Callable[[], int | None]) -> None:
        self._question = ask
        self._asking = threading.Lock()
        self._counting = threading.Lock()
        self._begun = 0
        self._answer: int | errors.BrokerUnavailable = 0

    def count(self) -> int:
        """How many consumers the queue has, counted after this call began; 0 without a queue.

        :raises errors.BrokerUnavailable: no host of the broker could be asked.
        """
        with self._counting:
            seen = self._begun
        with self._asking:
            if self._begun == seen:
                self._ask()
            answer = self._answer
        if isinstance(answer, errors.BrokerUnavailable):
            raise answer
        return answer

    def _ask(self) -> None:
        with self._counting:
            self._begun += 1
        try:
            self._answer = self._question() or 0
        except errors.BrokerUnavailable as e:
            self._answer = e
        except Exception as e:  # whoever shares this question may not take an older answer
            self._answer = errors.BrokerUnavailable(url="Nova's queue", reason=type(e).__name__)
            raise
