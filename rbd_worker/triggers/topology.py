# SPDX-License-Identifier: Apache-2.0
"""What stands on the broker: exchanges asked for, queues made, bound and deleted.

A broker says no by closing the channel, and the consumers on it with it
(py-amqp opens the same channel again at once).  So a connection has two
channels: this one for questions and declarations, the link's for messages.

Foreign exceptions end here and in ``link``: a missing exchange or queue is an
answer, a queue with other arguments is :class:`QueueDiffers`, and everything
else is ``errors.BrokerUnavailable``, after which the connection is of no more use.
"""

import contextlib
import typing as ty

import amqp
from kombu import exceptions as kombu_errors

from rbd_worker import errors

FOREIGN = (amqp.exceptions.AMQPError, kombu_errors.KombuError, OSError)


class QueueDiffers(errors.Permanent):
    """The queue exists with other arguments, or its arguments are refused."""

    msg = "RabbitMQ refuses to declare queue {queue}: {reason}"


class QueueState(ty.NamedTuple):
    messages: int
    consumers: int


class Topology:
    """Used by the link's thread only.

    :param channel: of its own, for nothing else.
    :param where: the broker, for people.
    :raises errors.BrokerUnavailable: from every method.
    """

    def __init__(self, channel: ty.Any, where: str) -> None:
        self._channel = channel
        self._where = where

    def exchange_exists(self, name: str) -> bool:
        def ask() -> None:
            self._channel.exchange_declare(exchange=name, type="topic", passive=True)
        return self._asked(ask)

    def queue_state(self, name: str) -> QueueState | None:
        """Ready messages and consumers of a queue; None where there is no such queue."""
        found: list[ty.Any] = []

        def ask() -> None:
            found.append(self._channel.queue_declare(queue=name, passive=True))
        if not self._asked(ask):
            return None
        return QueueState(found[0].message_count, found[0].consumer_count)

    def declare_queue(self, name: str, arguments: dict[str, ty.Any]) -> None:
        """Make a durable queue, or see that it is there with these arguments.

        :raises QueueDiffers: it is there with others; the connection stays usable.
        """
        with translated(self._where):
            try:
                self._channel.queue_declare(queue=name, durable=True, auto_delete=False,
                                            arguments=arguments)
            except amqp.exceptions.PreconditionFailed as e:
                raise QueueDiffers(queue=name, reason=e.reply_text) from e

    def declare_own_queue(self, name: str, arguments: dict[str, ty.Any]) -> None:
        """Make a queue for this connection alone, gone with it.

        :raises QueueDiffers: RabbitMQ refuses it.
        """
        with translated(self._where):
            try:
                self._channel.queue_declare(queue=name, durable=False, exclusive=True,
                                            auto_delete=True, arguments=arguments)
            except amqp.exceptions.ChannelError as e:
                raise QueueDiffers(queue=name, reason=e.reply_text) from e

    def bind(self, queue: str, exchange: str, key: str) -> None:
        with translated(self._where):
            self._channel.queue_bind(queue=queue, exchange=exchange, routing_key=key)

    def unbind(self, queue: str, exchange: str, key: str) -> None:
        with translated(self._where):
            self._channel.queue_unbind(queue=queue, exchange=exchange, routing_key=key)

    def delete_if_idle(self, queue: str) -> bool:
        """Delete a queue that is empty and that nobody consumes; False where it is not so."""
        with translated(self._where):
            try:
                self._channel.queue_delete(queue=queue, if_unused=True, if_empty=True)
            except amqp.exceptions.PreconditionFailed:
                return False
        return True

    def _asked(self, ask: ty.Callable[[], None]) -> bool:
        with translated(self._where):
            try:
                ask()
            except amqp.exceptions.ChannelError as e:
                if str(e.reply_code) != "404" or "down or inaccessible" in str(e.reply_text):
                    raise
                return False
        return True


@contextlib.contextmanager
def translated(where: str) -> ty.Iterator[None]:
    """Turn whatever goes wrong with the broker into ``errors.BrokerUnavailable``."""
    try:
        yield
    except FOREIGN as e:
        raise unavailable(where, e) from e


def unavailable(where: str, e: BaseException) -> errors.BrokerUnavailable:
    text = str(getattr(e, "reply_text", None) or e) or type(e).__name__
    return errors.BrokerUnavailable(url=where, reason=" ".join(text.split())[:300])
