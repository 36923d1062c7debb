# SPDX-License-Identifier: Apache-2.0
"""The tap's own queue: what it is called, how it is made, bound and replaced.

The queue is bound to Nova's exchange beside Nova's own queues and gets copies;
Nova loses nothing.  Nova's exchange is never declared here: with other flags
than Nova's that would keep Nova from starting.

RabbitMQ does not change a queue's arguments.  When the operator changed an
option, the queue is therefore replaced by one of a second name: the new one is
bound first, then the old one is unbound, emptied and deleted, so that every
message is in at least one of the two.  At the next change the names swap.
"""

import logging
import typing as ty

from rbd_worker import errors
from rbd_worker.triggers.broker import BrokerSettings
from rbd_worker.triggers.link import Link, QueueDiffers

LOG = logging.getLogger(__name__)

#: Since Nova 33 half of the methods come by the second topic, before that none.
NOVA_TOPICS = ("compute", "compute-alt")


class TapQueue:
    """The queue of one host's tap.

    :param expires: seconds that RabbitMQ keeps the queue while nobody consumes it.
    :param message_ttl: seconds that a message waits; bodies hold tokens.
    :param max_length: messages; the oldest leave first.
    """

    def __init__(self, settings: BrokerSettings, host: str, *, expires: int, message_ttl: int,
                 max_length: int) -> None:
        self.exchange = settings.control_exchange
        self._names = (f"rbd_worker.tap.{host}", f"rbd_worker.tap.{host}.other")
        self.name = self._names[0]
        self.probe_key = f"rbd_worker.tap.{host}.probe"
        self._keys = (*(f"{topic}.{host}" for topic in NOVA_TOPICS), self.probe_key)
        self._arguments: dict[str, ty.Any] = {
            "x-queue-type": "quorum" if settings.quorum else "classic",
            "x-expires": expires * 1000, "x-message-ttl": message_ttl * 1000,
            "x-max-length": max_length, "x-overflow": "drop-head"}
        self._may_have_old = True

    def ensure(self, link: Link) -> str | None:
        """Have the queue made and bound; the exchange must exist.

        :returns: the name of a queue with outdated arguments that is to be
            emptied and then dropped by :meth:`dropped`; mostly None.
        :raises errors.BrokerUnavailable:
        """
        old: str | None = None
        first, second = self._names
        try:
            self._declare(link, first)
        except QueueDiffers as e:
            LOG.info("queue %s has outdated arguments and will be replaced (%s)", first, e)
            self._declare_second(link, second)
            old = first
        else:
            if self._may_have_old and link.queue_state(second) is not None:
                old = second
        self.bind(link)
        if old is not None:
            for key in self._keys:
                link.unbind(old, self.exchange, key)
        self._may_have_old = old is not None
        return old

    def bind(self, link: Link) -> None:
        """Have all bindings; also where they are there already."""
        for key in self._keys:
            link.bind(self.name, self.exchange, key)

    def dropped(self, link: Link, old: str) -> bool:
        """Delete an emptied queue; False while it still holds something."""
        state = link.queue_state(old)
        if state is not None and not (state.messages == 0 and link.delete_if_idle(old)):
            return False
        LOG.info("queue %s was emptied and deleted; %s takes its place", old, self.name)
        self._may_have_old = False
        return True

    def _declare(self, link: Link, name: str) -> None:
        link.declare_queue(name, self._arguments)
        self.name = name

    def _declare_second(self, link: Link, second: str) -> None:
        """Both names may be taken, after two changes in a row."""
        try:
            self._declare(link, second)
        except QueueDiffers as e:
            if link.queue_state(second) is None:  # not outdated: unknown to this RabbitMQ
                raise errors.BrokerUnavailable(url="the tap's queue", reason=e) from e
            raise OutdatedTwice(queue=second, reason=e) from e


class OutdatedTwice(errors.Transient):
    """Both names are in use with outdated arguments; the second must be emptied first."""

    msg = "queue {queue} has outdated arguments: {reason}"
