# SPDX-License-Identifier: Apache-2.0
"""The workers of other hosts; their answers and refusals in this worker's terms."""

import contextlib
import logging
import typing as ty

import msgspec

import rpcapi
from rbd_worker import errors
from rbd_worker.host import joined
from rpcapi import client as rpc_client
from rpcapi import errors as peer_errors
from rpcapi import fields, payloads

LOG = logging.getLogger(__name__)

#: Pieces from here on come as parcels: the first few of a file are not worth a connection.
PARCELS_FROM = 4 << 20
#: A parcel was sent before the answer that announced it.
_PARCEL_SECONDS = 20.0


class Parcel(ty.Protocol):
    """A message of its own that brings one piece of a file."""

    @property
    def queue(self) -> str: ...

    @property
    def token(self) -> str: ...

    def content(self, seconds: float) -> bytes | None: ...


class Parcels(ty.Protocol):
    """Where parcels arrive; see ``rbd_worker.triggers.parcels``."""

    def expect(self) -> Parcel | None: ...

    def forget(self, parcel: ty.Any) -> None: ...


class Peers:
    """Every method is one call, may block for its time limit, and is thread-safe.

    :raises errors.PeerUnreachable: no answer; ask again.
    :raises errors.PeerSaysNo: a refusal that repeating cannot change.
    :raises errors.PeerTooNew: the peer does not know the call.
    :raises errors.PeerUndecided: the peer cannot tell.
    """

    def __init__(self, client: rpc_client.Client, own_host: str,
                 parcels: Parcels | None = None) -> None:
        self._client = client
        self._own_host = own_host
        self._parcels = parcels
        self._joined: joined.Joined[payloads.PathProbe | None, payloads.Testimony] = (
            joined.Joined(self.testify_all))

    def describe(self, host: str) -> payloads.Description:
        with translated(host):
            return self._client.describe(host)

    def pre_live_migration(self, host: str,
                           request: payloads.PrepareRequest) -> payloads.PrepareReply:
        with translated(host):
            return self._client.pre_live_migration(host, request)

    def read_chunk(self, host: str, request: payloads.ChunkRequest) -> payloads.Chunk:
        """A piece of a file, in the answer or, of a large file, in a parcel."""
        parcel = None
        if self._parcels and request.offset >= PARCELS_FROM:
            parcel = self._parcels.expect()
        if parcel is not None and self._parcels:
            try:
                chunk = self._read_parcel(host, request, parcel)
            finally:
                self._parcels.forget(parcel)
            if chunk is not None:
                return chunk
        with translated(host):
            return self._client.read_chunk(host, request)

    def _read_parcel(self, host: str, request: payloads.ChunkRequest,
                     parcel: Parcel) -> payloads.Chunk | None:
        """The piece; None where it has to be asked for again, without a parcel."""
        with translated(host):
            chunk = self._client.read_chunk(host, msgspec.structs.replace(
                request, queue=parcel.queue, token=parcel.token))
        if not chunk.apart:  # an older worker, or one that reaches RabbitMQ by answers only
            return chunk
        data = parcel.content(_PARCEL_SECONDS)
        if data is None or len(data) != chunk.apart:
            LOG.info("a piece of a file did not come by the queue for it; asking again")
            return None
        return msgspec.structs.replace(chunk, data=data, apart=0)

    def post_live_migration(self, host: str,
                            request: payloads.FinishRequest) -> payloads.FinishReply:
        with translated(host):
            return self._client.post_live_migration(host, request)

    def rollback_live_migration(self, host: str, request: payloads.RollbackRequest,
                                ) -> payloads.RollbackReply:
        with translated(host):
            return self._client.rollback_live_migration(host, request)

    def look_again(self, host: str, request: payloads.LookRequest) -> payloads.LookReply:
        with translated(host):
            return self._client.look_again(host, request)

    def testify(self, host: str, instance: str,
                probe: payloads.PathProbe | None = None) -> payloads.Testimony:
        """What ``host`` observes of one instance right now.

        Threads that ask the same host at the same time may share a call.
        """
        return self._joined.ask(host, instance, probe)

    def testify_all(self, host: str, probes: ty.Mapping[str, payloads.PathProbe | None],
                    ) -> dict[str, payloads.Testimony]:
        """What ``host`` observes of several instances right now, in one call."""
        request = payloads.TestifyRequest(
            asker=self._own_host,
            questions=tuple(payloads.Question(instance=instance, probe=probe)
                            for instance, probe in probes.items()))
        with translated(host):
            reply = self._client.testify(host, request)
        found = {t.instance: t for t in reply.testimonies if t.host == host}
        if found.keys() != probes.keys():
            raise errors.PeerUnreachable(host=host, reason="its answer is about something else")
        return found

    def audit(self, host: str, request: payloads.AuditRequest) -> payloads.AuditReply:
        with translated(host):
            return self._client.audit(host, request)

    def who_holds(self, request: payloads.WhoHoldsRequest) -> None:
        """Ask all workers; their answers come to this host's own RPC server."""
        with translated("any host"):
            self._client.who_holds(request)

    def holding(self, host: str, report: payloads.HoldingReport) -> None:
        with translated(host):
            self._client.holding(host, report)


@contextlib.contextmanager
def translated(host: str) -> ty.Iterator[None]:
    """The client's errors about ``host`` as this worker's own."""
    try:
        yield
    except rpc_client.Unreachable as e:
        raise errors.PeerUnreachable(host=host, reason=e) from e
    except rpc_client.TooNew as e:
        raise errors.PeerTooNew(host=host, version=rpcapi.VERSION) from e
    except peer_errors.PeerRefused as e:
        raise errors.PeerSaysNo(host=host, reason=e) from e
    except peer_errors.PeerBusy as e:
        raise errors.PeerIsBusy(host=host, reason=e) from e
    except peer_errors.PeerUndecided as e:
        raise errors.PeerUndecided(host=host, reason=e) from e
    except fields.BadPayload as e:
        raise errors.PeerSaysNo(host=host, reason=f"its answer breaks the contract: {e}") from e
