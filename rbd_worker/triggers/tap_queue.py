# SPDX-License-Identifier: Apache-2.0
"""The tap's own queue: what it is called, how it is made, bound and replaced.

The queue is bound to Nova's exchange beside Nova's own queues and gets copies;
Nova loses nothing.  Nova's exchange is never declared here: with other flags
than Nova's that would keep Nova from starting.

RabbitMQ does not change a queue's arguments.  When the operator changed an
option, a second queue serves as a bridge: it is bound, then the outdated one is
unbound, emptied and deleted, made anew and bound, and the bridge goes the same
way.  At every moment one of the two is bound, so that nothing is lost; what is
in both is heard twice.  After a kill in the middle the next start goes on.
"""

import logging
import typing as ty

from rbd_worker import errors
from rbd_worker.triggers.broker import BrokerSettings
from rbd_worker.triggers.topology import QueueDiffers, Topology

LOG = logging.getLogger(__name__)

#: Since Nova 33 half of the methods come by the second topic, before that none.
NOVA_TOPICS = ("compute", "compute-alt")


class TapQueue:
    """The queue of one host's tap.

    :param expires: seconds that RabbitMQ keeps the queue while nobody consumes it.
    :param message_ttl: seconds that a message waits; bodies hold tokens.
    :param max_length: messages; the oldest leave first.
    :ivar name: the queue that is bound now.
    :ivar old: a queue that was unbound, to be emptied and then given to
        :meth:`drop_old`; mostly None.
    """

    def __init__(self, settings: BrokerSettings, host: str, *, expires: int, message_ttl: int,
                 max_length: int) -> None:
        self.exchange = settings.control_exchange
        self._names = (f"rbd_worker.tap.{host}", f"rbd_worker.tap.{host}.bridge")
        self.name = self._names[0]
        self.old: str | None = None
        self.probe_key = f"rbd_worker.tap.{host}.probe"
        self._keys = (*(f"{topic}.{host}" for topic in NOVA_TOPICS), self.probe_key)
        self._arguments: dict[str, ty.Any] = {
            "x-queue-type": "quorum" if settings.quorum else "classic",
            "x-expires": expires * 1000, "x-message-ttl": message_ttl * 1000,
            "x-max-length": max_length, "x-overflow": "drop-head"}
        self._is_settled = False

    def ensure(self, topology: Topology) -> None:
        """Have the queue made and bound, and an outdated one unbound; the exchange exists.

        :raises errors.BrokerUnavailable:
        """
        own, bridge = self._names
        if self._is_current(topology, own):
            self.name = own
            if not self._is_settled:
                self.old = bridge if topology.queue_state(bridge) is not None else None
        else:
            LOG.info("queue %s has outdated arguments; it will be replaced", own)
            self._is_current(topology, bridge)  # outdated or not: it is a bridge for a moment
            self.name, self.old = bridge, own
        self._is_settled = True
        self.bind(topology)
        if self.old is not None:
            for key in self._keys:
                topology.unbind(self.old, self.exchange, key)

    def bind(self, topology: Topology) -> None:
        """Have all bindings; also where they are there already."""
        for key in self._keys:
            topology.bind(self.name, self.exchange, key)

    def drop_old(self, topology: Topology) -> bool:
        """Delete the old queue if it is empty; False while it still holds something.

        After True, :meth:`ensure` takes the next step.
        """
        old = ty.cast(str, self.old)
        state = topology.queue_state(old)
        if state is not None and (state.messages or not topology.delete_if_idle(old)):
            return False
        LOG.info("queue %s was emptied and deleted", old)
        self.old, self._is_settled = None, False
        return True

    def _is_current(self, topology: Topology, name: str) -> bool:
        """True where the queue now exists with these arguments."""
        try:
            topology.declare_queue(name, self._arguments)
        except QueueDiffers as e:
            if topology.queue_state(name) is None:  # not outdated, but unknown to this RabbitMQ
                raise errors.BrokerUnavailable(url="the tap's queue", reason=e) from e
            return False
        return True
