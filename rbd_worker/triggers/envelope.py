# SPDX-License-Identifier: Apache-2.0
"""oslo.messaging's two layers of JSON, opened only where they must be.

A message body is ``{"oslo.version": "2.0", "oslo.message": "<JSON text>"}``
and the method's name is inside the inner text.  Nearly everything that
reaches a compute host's queue is of no concern here, so ``may_concern`` tells
by a look at the bytes, and ``opened`` decodes what is left.

A body holds the user's token.  No error made here quotes it, nor keeps a
reference to it by way of ``__context__`` (json's and codec's own errors do).
"""

import json
import re
import typing as ty

from rbd_worker import errors

#: Bytes.  Nova's largest casts are some 100 KB; RabbitMQ allows 128 MiB.
MAX_BODY = 4 * 1024 * 1024

#: How oslo.messaging begins a body.  Another beginning (another major version,
#: no envelope, no JSON at all) is not known, hence it is never dropped unseen.
_KNOWN_BEGINNING = re.compile(rb'\s*\{\s*"oslo\.version"\s*:\s*"2\.')
#: Under Python 2 the version comes last, and these are both ends of a body.
_OLD_BEGINNING = b'{"oslo.message": "'
_OLD_END = b'", "oslo.version": "2.0"}'
#: Part of the name of each method that is listened for.
_IN_EVERY_NAME = b"live_migrat"
#: An ASCII letter or underscore may be written as an escape in JSON.
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
#: Every match of it begins so; to look for fixed bytes takes a fifth of the time.
_ESCAPE = b"\\u00"


class MessageTooLarge(errors.BadInput):
    msg = "a message of {size} bytes is over the limit of {limit} bytes"


class BadEnvelope(errors.BadInput):
    msg = "a message is not in the form of oslo.messaging 2.x: {reason}"


def may_concern(body: bytes) -> bool:
    """False only where ``body`` is certain to hold none of the methods listened for.

    Decodes nothing.  True promises nothing: such a body costs a decode.
    """
    return (_IN_EVERY_NAME in body
            or not body.endswith(b"}")
            or not _is_known(body)
            or (_ESCAPE in body and _ESCAPED_LETTER.search(body) is not None))


def _is_known(body: bytes) -> bool:
    return (_KNOWN_BEGINNING.match(body) is not None
            or (body.startswith(_OLD_BEGINNING) and body.endswith(_OLD_END)))


def opened(body: bytes | str) -> dict[str, ty.Any]:
    """Return the RPC message (``method``, ``args``, ``_context_*`` ...) inside ``body``.

    A body without an envelope is taken as the message itself, because
    oslo.messaging takes it so too: what nova-compute will act on must be heard.

    :raises BadEnvelope: for anything that oslo.messaging could not have sent.
    """
    outer = _object(body, "body")
    if "oslo.version" not in outer and "oslo.message" not in outer:
        return outer
    version = outer.get("oslo.version")
    if not isinstance(version, str) or not version.startswith("2."):
        raise BadEnvelope(reason="its oslo.version is not 2.x")
    inner = outer.get("oslo.message")
    if not isinstance(inner, str):
        raise BadEnvelope(reason="its oslo.message is not a string")
    return _object(inner, "oslo.message")


def _object(text: bytes | str, what: str) -> dict[str, ty.Any]:
    value, problem = _decoded(text)
    if problem:
        raise BadEnvelope(reason=f"its {what} {problem}")
    if not isinstance(value, dict):
        raise BadEnvelope(reason=f"its {what} is not a JSON object")
    return value


def _decoded(text: bytes | str) -> tuple[object, str]:
    """Return value and problem; the problem is raised by the caller, outside any ``except``.

    Strictly UTF-8: json would guess at UTF-16 and UTF-32, which ``may_concern``
    cannot see through.
    """
    try:
        return json.loads(text if isinstance(text, str) else str(text, "utf-8")), ""
    except UnicodeDecodeError:
        return None, "is not UTF-8, or compressed in another way than by gzip, bzip2 and xz"
    except RecursionError:
        return None, "is nested too deeply"
    except ValueError:  # JSONDecodeError, and integers of absurd length
        return None, "is not valid JSON"
