# SPDX-License-Identifier: Apache-2.0
"""Lines of the log that tell their error once.

oslo.log adds the error that is being handled to every warning, as class and
text.  The worker's warnings have its sentence already, with what to do about
it, and would have it twice.
"""

import logging


class Once(logging.Formatter):
    """Another formatter's lines without an error that they were not given.

    ``LOG.exception`` gives one, and has it with its traceback as ever.
    """

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info:
            return self._inner.format(record)
        try:
            raise ValueError  # of those that oslo.log takes for a matter of course
        except ValueError:
            return self._inner.format(record)


def tell_errors_once() -> None:
    """Called once the handlers of the log are there."""
    for handler in logging.getLogger().handlers:
        if handler.formatter is not None:
            handler.setFormatter(Once(handler.formatter))
