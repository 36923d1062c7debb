# SPDX-License-Identifier: Apache-2.0
"""Nova's record of servers, read through nova-api; only where credentials are configured.

openstacksdk is imported with the first question, so that a worker without
credentials neither waits for it nor carries it.  Lists of a host's servers,
never one request for each of many instances; everything within
``os_timeout``.  Only fields are read that API version 2.1 has, so that any
Nova since Juno can be asked.
"""

import logging
import threading
import time
import typing as ty

from rbd_worker import conf, errors
from rbd_worker.host import bounded
from rbd_worker.model import NovaRecord
from rbd_worker.version import VERSION

LOG = logging.getLogger(__name__)

T = ty.TypeVar("T")
Json: ty.TypeAlias = dict[str, ty.Any]

#: Servers in one page; nova-api may be configured to give fewer.
PAGE = 1000
#: Questions at the same moment; nova-api is not to be flooded by a host in trouble.
THREADS = 2


class NovaApi:
    """Thread-safe; methods block for ``os_timeout`` at most.

    :raises errors.NovaApiUnavailable: no answer, or none that can be read.
    :raises errors.NovaApiForbids: the user may not see other projects' servers.
    :raises errors.OpenstackSdkMissing: as it says.
    """

    def __init__(self, settings: conf.NovaApiSettings) -> None:
        self._settings = settings
        self._bounded = bounded.Bounded("nova-api", settings.timeout, self._unavailable, THREADS)
        self._connecting = threading.Lock()
        self._compute: ty.Any = None

    @property
    def seconds(self) -> float:
        """What one look may take."""
        return self._settings.timeout

    def on_host(self, host: str, deadline: float | None = None) -> dict[str, NovaRecord]:
        """Every server that Nova's record has on that host, by UUID.

        :param deadline: by the monotonic clock, where this is part of a longer look.
        """
        return self._asked(lambda: {
            record.instance: record for record in map(self._record, self._servers(host))},
            deadline)

    def of(self, instance: str, deadline: float | None = None) -> NovaRecord | None:
        """The record of one server with its newest migration; None where Nova has none."""
        def ask() -> NovaRecord | None:
            body = self._get(f"/servers/{instance}", missing={})
            if not body:
                return None
            moves = self._get("/os-migrations", instance_uuid=instance)["migrations"]
            return self._record(body["server"], _newest(moves))
        return self._asked(ask, deadline)

    # -- inside ----------------------------------------------------------------

    def _servers(self, host: str) -> ty.Iterator[Json]:
        """All pages of one list."""
        marker: Json = {}
        while True:
            page = self._get("/servers/detail", all_tenants="1", host=host, limit=str(PAGE),
                             **marker)
            yield from page["servers"]
            if not page["servers"] or not page.get("servers_links"):
                return
            marker = {"marker": page["servers"][-1]["id"]}

    def _record(self, server: Json, migration: str = "") -> NovaRecord:
        host = "OS-EXT-SRV-ATTR:host"
        if host not in server:  # as for everybody but an administrator
            raise errors.NovaApiForbids(origin=self._settings.origin, reason=f"no {host} is shown")
        return NovaRecord(
            instance=server["id"], host=server[host] or None,
            vm_state=str(server["OS-EXT-STS:vm_state"]),
            task_state=server["OS-EXT-STS:task_state"] or None, migration=migration)

    def _get(self, path: str, missing: Json | None = None, **query: str) -> Json:
        """The answer's body, or ``missing`` where that is given and the answer is 404."""
        from openstack import exceptions
        answer = self._connected().get(path, params=query)
        if answer.status_code == 404 and missing is not None:
            return missing
        exceptions.raise_from_response(answer)
        return dict(answer.json())

    def _connected(self) -> ty.Any:
        with self._connecting:
            if self._compute is None:
                self._compute = _connection(self._settings).compute
            return self._compute

    def _asked(self, question: ty.Callable[[], T], deadline: float | None) -> T:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            return self._bounded.run(lambda: self._translated(question), left)
        except ImportError as e:
            raise errors.OpenstackSdkMissing(reason=str(e)) from e

    def _translated(self, question: ty.Callable[[], T]) -> T:
        from keystoneauth1 import exceptions as auth_exceptions
        from openstack import exceptions
        try:
            return question()
        except exceptions.ForbiddenException as e:
            raise errors.NovaApiForbids(origin=self._settings.origin, reason=_brief(e)) from e
        except (exceptions.SDKException, auth_exceptions.ClientException, OSError) as e:
            raise self._unavailable(_brief(e)) from e
        except (KeyError, TypeError, ValueError) as e:  # an answer that is not Nova's
            raise self._unavailable(f"an answer that makes no sense ({e!r})") from e

    def _unavailable(self, reason: str) -> errors.Error:
        return errors.NovaApiUnavailable(origin=self._settings.origin, reason=reason)


def _connection(settings: conf.NovaApiSettings) -> ty.Any:
    """openstacksdk's, which asks keystone with the first request and again when a token ends."""
    import openstack
    from openstack import connection
    common: Json = {"app_name": "rbd-worker", "app_version": VERSION}
    if settings.cloud:
        return openstack.connect(cloud=settings.cloud, api_timeout=settings.timeout, **common)
    return connection.Connection(session=_session(settings), region_name=settings.region,
                                 interface=list(settings.interfaces), **common)


def _session(settings: conf.NovaApiSettings) -> ty.Any:
    from keystoneauth1 import loading
    loader: ty.Any = loading.get_plugin_loader(settings.auth_type)
    return loading.session.Session().load_from_options(
        auth=loader.load_from_options(**settings.auth), insecure=settings.insecure,
        cacert=settings.cafile, cert=settings.certfile, key=settings.keyfile,
        timeout=settings.timeout)


def _newest(migrations: ty.Sequence[Json]) -> str:
    if not migrations:
        return ""
    last = max(migrations, key=lambda each: int(each["id"]))
    kind = last.get("migration_type", "")  # shown from API version 2.23 on
    return (f"{kind} {last['status']}, {last['source_compute']} to "
            f"{last['dest_compute'] or 'nowhere yet'}").strip()


def _brief(error: BaseException) -> str:
    """The first line of what a library says, at most so long."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
