# SPDX-License-Identifier: Apache-2.0
"""The edge between oslo.messaging and the worker: what every RPC method has in common.

Arguments are checked by type, length and range (``rpcapi.payloads``), refusals
get the form that a caller understands (``rpcapi.errors``), and whatever is not
foreseen is logged and answered without its text.
"""

import functools
import logging
import typing as ty

import oslo_messaging

from rbd_worker import errors, news
from rpcapi import errors as peer_errors
from rpcapi import fields

LOG = logging.getLogger(__name__)

_EXPECTED = (peer_errors.PeerRefused, peer_errors.PeerBusy, peer_errors.PeerUndecided)

_RESULTS: dict[ty.Any, str] = {
    peer_errors.PeerRefused: "refused", peer_errors.PeerBusy: "busy",
    peer_errors.PeerUndecided: "undecided"}

P = ty.TypeVar("P", bound=fields.Payload)


def expected(method: ty.Callable[..., dict[str, ty.Any]]) -> ty.Callable[..., dict[str, ty.Any]]:
    """The peer gets these errors as they are; oslo.messaging logs them without a traceback."""
    decorated = oslo_messaging.expected_exceptions(*_EXPECTED)(method)
    return ty.cast(ty.Callable[..., dict[str, ty.Any]], decorated)


class Counted:
    """An endpoint whose answers are told: ``ok``, ``refused``, ``busy`` or ``undecided``,
    and ``failed`` for what is none of these.

    A method that the endpoint does not have is not here either, so that
    nobody's invented name is ever told.
    """

    def __init__(self, endpoint: ty.Any, told: news.Listener) -> None:
        self.target = endpoint.target
        self._endpoint = endpoint
        self._told = told

    def __getattr__(self, name: str) -> ty.Callable[..., ty.Any]:
        method = getattr(self._endpoint, name)

        @functools.wraps(method)
        def counted(*arguments: ty.Any, **named: ty.Any) -> ty.Any:
            result = "failed"
            try:
                answered = method(*arguments, **named)
                result = "ok"
                return answered
            except oslo_messaging.ExpectedException as e:
                result = _RESULTS.get(e.exc_info[0], "failed")
                raise
            finally:
                self._told.called(name, result)
        return counted


def answer(request_type: type[P], wire: object,
            method: ty.Callable[[P], fields.Payload]) -> dict[str, ty.Any]:
    try:
        return method(request_type.from_wire(wire)).to_wire()
    except fields.BadPayload as e:
        LOG.warning("a call of a peer is refused: %s", e)
        raise peer_errors.PeerRefused(f"the call breaks the contract: {e}") from e
    except errors.Transient as e:
        raise peer_errors.PeerBusy(e.sentence) from e
    except errors.Permanent as e:
        raise peer_errors.PeerRefused(e.sentence) from e
    except errors.Undecided as e:
        raise peer_errors.PeerUndecided(e.sentence) from e
    except Exception as e:
        LOG.exception("a call of a peer failed in a way that is not foreseen")
        raise peer_errors.PeerBusy(f"internal error {type(e).__name__}, see the log there") from e


def heard(request_type: type[P], wire: object, method: ty.Callable[[P], None]) -> None:
    """A cast: nobody waits for an answer, so an error is only logged."""
    try:
        method(request_type.from_wire(wire))
    except fields.BadPayload as e:
        LOG.warning("a cast of a peer is refused: %s", e)
    except errors.Error as e:
        LOG.warning("a cast of a peer is not followed: %s", e.sentence)
    except Exception:
        LOG.exception("a cast of a peer failed in a way that is not foreseen")
