# SPDX-License-Identifier: Apache-2.0
"""The workers of other hosts; their answers and refusals in this worker's terms."""

import contextlib
import typing as ty

import rpcapi
from rbd_worker import errors
from rpcapi import client as rpc_client
from rpcapi import errors as peer_errors
from rpcapi import fields, payloads


class Peers:
    """Every method is one call, may block for its time limit, and is thread-safe.

    :raises errors.PeerUnreachable: no answer; ask again.
    :raises errors.PeerSaysNo: a refusal that repeating cannot change.
    :raises errors.PeerTooNew: the peer does not know the call.
    :raises errors.PeerUndecided: the peer cannot tell.
    """

    def __init__(self, client: rpc_client.Client, own_host: str) -> None:
        self._client = client
        self._own_host = own_host

    def describe(self, host: str) -> payloads.Description:
        with translated(host):
            return self._client.describe(host)

    def pre_live_migration(self, host: str,
                           request: payloads.PrepareRequest) -> payloads.PrepareReply:
        with translated(host):
            return self._client.pre_live_migration(host, request)

    def read_chunk(self, host: str, request: payloads.ChunkRequest) -> payloads.Chunk:
        with translated(host):
            return self._client.read_chunk(host, request)

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
        """What ``host`` observes of one instance right now."""
        return self.testify_all(host, {instance: probe})[instance]

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
        raise errors.PeerUnreachable(host=host, reason=e) from e
    except peer_errors.PeerUndecided as e:
        raise errors.PeerUndecided(host=host, reason=e) from e
    except fields.BadPayload as e:
        raise errors.PeerSaysNo(host=host, reason=f"its answer breaks the contract: {e}") from e
