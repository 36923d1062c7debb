# SPDX-License-Identifier: Apache-2.0
"""What the worker does again and again beside the migrations, each in a thread of its own."""

import logging
import threading
import typing as ty

from rbd_worker import errors

LOG = logging.getLogger(__name__)


class Periodic:
    """Does ``action`` at once and then every ``seconds`` until the shutdown.

    An error is logged, and the next turn comes all the same.

    :param name: of the thread.
    :param seconds: from the end of one turn to the next; 0 for no turn at all.
    :param trouble: what an error means, in words before its sentence.
    """

    def __init__(self, name: str, action: ty.Callable[[], object], seconds: float,
                 shutdown: threading.Event, trouble: str) -> None:
        self._action = action
        self._seconds = seconds
        self._shutdown = shutdown
        self._trouble = trouble
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        if self._seconds:
            self._thread.start()

    def _run(self) -> None:
        while not self._shutdown.is_set():
            try:
                self._action()
            except errors.Error as e:
                LOG.warning("%s: %s", self._trouble, e.sentence)
            except Exception:
                LOG.exception("%s, in a way that is not foreseen", self._trouble)
            self._shutdown.wait(self._seconds)
