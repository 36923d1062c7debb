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
    :ivar name: the queue that is bound now.
    :ivar old: a queue with outdated arguments, to be emptied and then given to
        :meth:`drop_old`; mostly None.
    """

    def __init__(self, settings: BrokerSettings, host: str, *, expires: int, message_ttl: int,
                 max_length: int) -> None:
        self.exchange = settings.control_exchange
        self._names = (f"rbd_worker.tap.{host}", f"rbd_worker.tap.{host}.other")
        self.name = self._names[0]
        self.old: str | None = None
        self.probe_key = f"rbd_worker.tap.{host}.probe"
        self._keys = (*(f"{topic}.{host}" for topic in NOVA_TOPICS), self.probe_key)
        self._arguments: dict[str, ty.Any] = {
            "x-queue-type": "quorum" if settings.quorum else "classic",
            "x-expires": expires * 1000, "x-message-ttl": message_ttl * 1000,
            "x-max-length": max_length, "x-overflow": "drop-head"}
        self._is_settled = False

    def ensure(self, link: Link) -> None:
        """Have the queue made and bound, and an outdated one unbound; the exchange exists.

        :raises errors.BrokerUnavailable:
        """
        first, second = self._names
        if self._is_current(link, first):
            self.name = first
            if not self._is_settled:  # only a change of options makes a second queue
                self.old = second if link.queue_state(second) is not None else None
        else:
            LOG.info("queue %s has outdated arguments; it will be replaced", first)
            # Outdated itself after two changes in a row: it still hears while the
            # first is emptied, and its own turn comes after that.
            self._is_current(link, second)
            self.name, self.old = second, first
        self._is_settled = True
        self.bind(link)
        if self.old is not None:
            for key in self._keys:
                link.unbind(self.old, self.exchange, key)

    def bind(self, link: Link) -> None:
        """Have all bindings; also where they are there already."""
        for key in self._keys:
            link.bind(self.name, self.exchange, key)

    def drop_old(self, link: Link) -> bool:
        """Delete the old queue if it is empty; False while it still holds something.

        Where True, the next :meth:`ensure` finds out whether there is more to replace.
        """
        old = ty.cast(str, self.old)
        state = link.queue_state(old)
        if state is not None and (state.messages or not link.delete_if_idle(old)):
            return False
        LOG.info("queue %s was emptied and deleted; %s takes its place", old, self.name)
        self.old, self._is_settled = None, False
        return True

    def _is_current(self, link: Link, name: str) -> bool:
        """True where the queue now exists with these arguments."""
        try:
            link.declare_queue(name, self._arguments)
        except QueueDiffers as e:
            if link.queue_state(name) is None:  # not outdated, but unknown to this RabbitMQ
                raise errors.BrokerUnavailable(url="the tap's queue", reason=e) from e
            return False
        return True
