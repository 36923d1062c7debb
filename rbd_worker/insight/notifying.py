# SPDX-License-Identifier: Apache-2.0
"""Sends notifications, as ``[oslo_messaging_notifications]`` says.

A thread of its own sends them one after the other: a broker that is away
holds up this thread, for as long as that section's ``retry`` says, and nobody
else.  So many wait for it; what comes then is dropped, and the log says so.
The journal is what counts, a notification only tells of it.
"""

import contextlib
import logging
import queue
import threading
import time

import oslo_messaging

from rbd_worker import errors, news
from rbd_worker.insight.notices import Notice, Notices

LOG = logging.getLogger(__name__)

#: Notifications that wait for the broker: two for each of 1000 open migrations.
MAX_WAITING = 2000
#: Seconds that a stop gives to those that still wait.
STOP_SECONDS = 2.0


class Sender:
    """From ``start`` to ``stop``; ``send`` may be called from any thread, at any time."""

    def __init__(self, notifier: oslo_messaging.Notifier, waiting: int = MAX_WAITING) -> None:
        self._notifier = notifier
        self._waiting: queue.Queue[Notice | None] = queue.Queue(waiting)
        self._is_dropping = False
        self._thread = threading.Thread(target=self._run, name="notifications", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def send(self, notice: Notice) -> None:
        """Have it sent soon; never waits."""
        try:
            self._waiting.put_nowait(notice)
            self._is_dropping = False
        except queue.Full:
            if not self._is_dropping:
                LOG.warning("%d notifications wait for the broker; further ones are dropped "
                            "until it takes some", self._waiting.maxsize)
            self._is_dropping = True

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """What waits is sent first, unless that takes longer; safe to repeat."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=seconds)
        if self._thread.is_alive():
            self._thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while (notice := self._waiting.get()) is not None:
            event = notice.event
            try:
                getattr(self._notifier, event.priority.value)({}, event.type, notice.payload)
            except Exception:  # a driver's; the next notification may be luckier
                LOG.exception("a notification %s was not sent", event.type)


def opened(rpc: oslo_messaging.Transport, host: str, told: news.News) -> Sender | None:
    """A sender, not started yet, that hears ``told`` from now on; None where none is wanted.

    nova-compute may have a driver in the same nova.conf.  oslo.config adds up
    the drivers of all files, so that a later one cannot take it back: a
    ``noop`` anywhere counts as "none" for this worker.

    :param rpc: whose configuration it is; notifications get a transport of their own.
    :raises errors.BadConfiguration: they are wanted, and the URL for them is none.
    """
    transport = _transport(rpc)
    drivers = rpc.conf.oslo_messaging_notifications.driver
    if not drivers or "noop" in drivers:
        return None
    if transport is None:
        raise errors.BadConfiguration(
            option="[oslo_messaging_notifications] transport_url",
            reason="oslo.messaging cannot use it",
            fix="Write it as rabbit://user:password@host:port/vhost, or leave it out: "
                "[DEFAULT] transport_url is taken then")
    sender = Sender(oslo_messaging.Notifier(transport, publisher_id=f"rbd_worker.{host}"))
    told.add(Notices(host, sender.send))
    return sender


def _transport(rpc: oslo_messaging.Transport) -> oslo_messaging.Transport | None:
    """Not connected yet; registers the options, too. None where the URL is none."""
    try:
        return oslo_messaging.get_notification_transport(rpc.conf)
    except (oslo_messaging.InvalidTransportURL, oslo_messaging.DriverLoadFailure):
        return None  # both quote the URL, password included
