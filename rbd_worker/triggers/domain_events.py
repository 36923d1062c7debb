# SPDX-License-Identifier: Apache-2.0
"""libvirt's events, as reasons to look at a guest again.

An event is never evidence: it names an instance whose open migrations are
then looked at.  While the connection is away events are lost, so that once it
is back everything has to be looked at.  Nothing polls: the thread here sleeps
until libvirt's event loop says that the connection is lost.
"""

import contextlib
import logging
import random
import threading
import typing as ty

import libvirt

from rbd_worker import errors
from rbd_worker.host.hypervisor import Hypervisor

LOG = logging.getLogger(__name__)

#: Seconds between two attempts to reach libvirt: doubled each time, up to a limit.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0

OnEvent = ty.Callable[[str, str], None]


class DomainEvents:
    """``start`` and ``stop`` once each.

    :param hypervisor: its connection is shared.
    :param on_event: called from libvirt's event loop with an instance's UUID
        and what happened, for the log; must be fast.
    :param on_reconnected: called from this object's thread when a connection
        that was lost, or could not be had at the start, is there.
    """

    def __init__(self, hypervisor: Hypervisor, on_event: OnEvent,
                 on_reconnected: ty.Callable[[], None]) -> None:
        self._connection = hypervisor.connection
        self._on_event = on_event
        self._on_reconnected = on_reconnected
        self._lost = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="libvirt-events", daemon=True)
        self._subscriptions: list[tuple[libvirt.virConnect, int]] = []

    def start(self) -> None:
        """Subscribe now where libvirt answers, otherwise as soon as it does."""
        self._connection.follow(self._subscribe, self._lost.set)
        try:
            self._connect()
        except errors.HypervisorUnavailable as e:
            LOG.warning("libvirt's events are not heard yet: %s", e.sentence)
            self._lost.set()
        self._thread.start()

    def stop(self) -> None:
        """No event is passed on after this."""
        self._stopped.set()
        self._lost.set()
        self._thread.join(timeout=2)

    # -- inside --------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._lost.wait()
            if self._stopped.is_set():
                return
            self._lost.clear()
            try:
                if self._reconnect():
                    LOG.info("libvirt's events are heard again")
                    self._on_reconnected()
            except Exception:
                LOG.exception("after a lost connection to libvirt")

    def _reconnect(self) -> bool:
        """Try until libvirt answers; False where this object was stopped."""
        pause = FIRST_PAUSE
        while not self._stopped.is_set():
            try:
                self._connect()
                return True
            except errors.HypervisorUnavailable as e:
                LOG.debug("%s", e)
            # spread over a second half, so that not all workers come at once
            self._stopped.wait(pause * (0.5 + random.random() / 2))
            pause = min(pause * 2, LONGEST_PAUSE)
        return False

    def _connect(self) -> None:
        """Have the shared connection opened, which subscribes; any question does."""
        try:
            self._connection.ask(lambda libvirtd: libvirtd.getLibVersion())
        except libvirt.libvirtError as e:
            raise errors.HypervisorUnavailable(uri=self._connection.uri, reason=e) from e

    def _subscribe(self, libvirtd: libvirt.virConnect) -> None:
        """Called by the shared connection, one at a time, whenever it was opened."""
        self._unsubscribe()
        for event, handler in ((libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._lifecycle),
                               (libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, self._job_completed)):
            try:
                number = libvirtd.domainEventRegisterAny(None, event, handler, None)
                self._subscriptions.append((libvirtd, number))
            except libvirt.libvirtError as e:
                LOG.warning("libvirt does not tell of events of kind %d: %s", event, e)

    def _unsubscribe(self) -> None:
        """Give back what a connection that is gone would otherwise be held by."""
        subscriptions, self._subscriptions = self._subscriptions, []
        for libvirtd, number in subscriptions:
            with contextlib.suppress(libvirt.libvirtError):
                libvirtd.domainEventDeregisterAny(number)

    def _lifecycle(self, libvirtd: libvirt.virConnect, domain: libvirt.virDomain,
                   event: int, detail: int, opaque: object) -> None:
        if (event, detail) in _STANDSTILL:
            return
        self._pass_on(domain, f"{_LIFECYCLE.get(event, event)}, detail {detail}")

    def _job_completed(self, libvirtd: libvirt.virConnect, domain: libvirt.virDomain,
                       figures: dict[str, ty.Any], opaque: object) -> None:
        self._pass_on(domain, "a job is over")

    def _pass_on(self, domain: libvirt.virDomain, what: str) -> None:
        if self._stopped.is_set():
            return
        try:
            self._on_event(domain.UUIDString(), what)
        except Exception:
            LOG.exception("an event of libvirt (%s)", what)


#: The guest stands still for the end of its move.  Whatever comes of it has an event of its
#: own (or the connection is lost); questions now would only make the standstill longer.
_STANDSTILL = {(libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED)}

_LIFECYCLE = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: "defined",
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: "undefined",
    libvirt.VIR_DOMAIN_EVENT_STARTED: "started",
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: "suspended",
    libvirt.VIR_DOMAIN_EVENT_RESUMED: "resumed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED: "stopped",
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN: "shutting down",
    libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: "suspended by its system",
    libvirt.VIR_DOMAIN_EVENT_CRASHED: "crashed",
}
