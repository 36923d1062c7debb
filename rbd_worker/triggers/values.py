# SPDX-License-Identifier: Apache-2.0
"""Single values of a message, each checked; what is strange is no value, never an error."""

import datetime
import re
import typing as ty
from collections import abc

from rbd_worker import errors

Object = abc.Mapping[str, ty.Any]

_MAX_ID = 2 ** 63 - 1
#: nova.objects' prefix, and oslo.versionedobjects' own.
_OBJECT_DATA = ("nova_object.data", "versioned_object.data")
_MOMENT = re.compile(r"[0-9]{4}(?:-[0-9]{2}){2}T[0-9]{2}(?::[0-9]{2}){2}(?:\.[0-9]{1,6})?\Z")


def data(value: object) -> Object:
    """The fields of a versioned object or of a plain dict; none for anything else."""
    if not isinstance(value, dict):
        return {}
    for name in _OBJECT_DATA:
        if name in value:
            fields = value[name]
            return fields if isinstance(fields, dict) else {}
    return value


def is_good(check: abc.Callable[[object], str], value: object) -> bool:
    try:
        check(value)
    except errors.BadInput:
        return False
    return True


def if_matches(pattern: re.Pattern[str], value: object) -> str | None:
    return value if isinstance(value, str) and pattern.match(value) else None


def number(value: object) -> int | None:
    """A database id: a positive integer; True is none."""
    if type(value) is int and 0 < value <= _MAX_ID:
        return value
    return None


def shape(value: object) -> str:
    """What a refused value looks like, without quoting it."""
    if not isinstance(value, str):
        return f"of type {type(value).__name__}"
    path = ", with a path in it" if "/" in value or ".." in value else ""
    return f"a string of {len(value)} characters{path}"


def moment(value: object) -> float | None:
    """A time as every Nova writes it, in UTC and without saying so; seconds since the epoch."""
    if not isinstance(value, str) or not _MOMENT.match(value):
        return None
    try:
        return datetime.datetime.fromisoformat(value).replace(
            tzinfo=datetime.UTC).timestamp()
    except ValueError:  # a thirteenth month
        return None
