# SPDX-License-Identifier: Apache-2.0
"""The id of the request that a line of the log belongs to: ``req-...``, as Nova's logs have it.

Whoever works on a migration says so with :func:`of`; every line that this
thread logs meanwhile, of whatever module, then carries the id of the cast
that the migration came with, where oslo.log puts it.  A thread that is
started for the same work gets its function through :func:`bound`.
"""

import contextvars
import functools
import logging
import typing as ty

P = ty.ParamSpec("P")
T = ty.TypeVar("T")

_current: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")


class of:  # a class, for a migration enters some hundred of these
    """Work on that request until the block ends; an empty id changes nothing."""

    __slots__ = ("_request_id", "_token")

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id

    def __enter__(self) -> None:
        self._token = _current.set(self._request_id or _current.get())

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def current() -> str:
    """The id of the request that this thread works on; empty where it is none."""
    return _current.get()


def bound(function: ty.Callable[P, T]) -> ty.Callable[P, T]:
    """``function``, in whatever thread, for the request of the caller."""
    request_id = current()

    @functools.wraps(function)
    def called(*arguments: P.args, **named: P.kwargs) -> T:
        with of(request_id):
            return function(*arguments, **named)
    return called


class Mark(logging.Filter):
    """Gives each record the context that oslo.log's formatters look for; lets all through.

    A plain dict, which they take as well: to make a RequestContext would leave
    it in the thread for whatever is logged there later.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        request_id = current()
        if request_id and not hasattr(record, "context"):
            record.context = {"request_id": request_id, "global_request_id": None}
        return True


def mark_log() -> None:
    """Called once the handlers of the log are there."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(Mark())
