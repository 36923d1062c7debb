# SPDX-License-Identifier: Apache-2.0
"""What the tests of the tap share: a Nova to publish, and a handler that remembers."""

import json
import typing as ty

import amqp
from oslo_config import cfg

from devstack.lab import processes
from rbd_worker.triggers import broker, tap
from tests.fixtures import wire

HOST = "node1"
QUEUE = f"rbd_worker.tap.{HOST}"
BRIDGE = f"{QUEUE}.bridge"
EXCHANGE = "nova"


def settings_for(url: str, **rabbit: ty.Any) -> broker.BrokerSettings:
    """As a worker with this ``transport_url`` and ``[oslo_messaging_rabbit]`` has them."""
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[])
    broker.register(conf)
    conf.set_override("transport_url", url)
    for name, value in rabbit.items():
        conf.set_override(name, value, "oslo_messaging_rabbit")
    return broker.from_conf(conf)


def irrelevant(padding: int = 0) -> bytes:
    """A message that has nothing to do with live migration."""
    return wire.enveloped({"method": "reboot_instance", "args": {"padding": "x" * padding}})


def cast(number: int | str) -> bytes:
    """A ``live_migration`` whose id is ``number``."""
    return wire.enveloped({"method": "live_migration", "_unique_id": str(number), "args": {}})


class Handler:
    """Remembers which casts it took; raises what stands in ``problems`` first."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.calls = 0
        self.problems: list[Exception] = []

    def __call__(self, body: bytes) -> None:
        self.calls += 1
        if self.problems:
            raise self.problems.pop(0)
        self.bodies.append(body)

    @property
    def numbers(self) -> list[str]:
        return [json.loads(json.loads(body)["oslo.message"])["_unique_id"]
                for body in self.bodies]

    def wait_for(self, count: int, seconds: float = 15) -> list[str]:
        """The numbers of the casts, once there are ``count``; fails after ``seconds``."""
        wait_until(lambda: len(self.bodies) >= count, seconds, lambda: self.numbers)
        return self.numbers


class Nova:
    """The exchange's owner: makes it as oslo.messaging does and publishes to it.

    :param durable: the exchange outlives a restart of the broker.
    :param confirms: wait until the broker has each message on its disk, which takes a while.
    """

    def __init__(self, settings: broker.BrokerSettings, durable: bool = False,
                 confirms: bool = False) -> None:
        host = settings.hosts[0]
        self._durable = durable
        self._connection = amqp.Connection(
            str(host), host.username, host.password, virtual_host=settings.virtual_host,
            confirm_publish=confirms)
        self._connection.connect()
        self.channel = self._connection.channel()

    def make_exchange(self) -> None:
        self.channel.exchange_declare(EXCHANGE, "topic", durable=self._durable,
                                      auto_delete=False)

    def has_exchange(self) -> bool:
        try:
            self.channel.exchange_declare(EXCHANGE, "topic", passive=True)
        except amqp.exceptions.NotFound:
            return False
        return True

    def publish(self, body: bytes, topic: str = "compute") -> None:
        message = amqp.Message(body, content_type="application/json", content_encoding="utf-8",
                               delivery_mode=2)
        self.channel.basic_publish(message, EXCHANGE, f"{topic}.{HOST}")

    def queue(self, name: str) -> ty.Any:
        """Message and consumer counts of a queue; None where there is none."""
        try:
            return self.channel.queue_declare(name, passive=True)
        except amqp.exceptions.NotFound:
            return None

    def unbind(self, name: str = QUEUE) -> None:
        for key in (f"compute.{HOST}", f"compute-alt.{HOST}", f"{QUEUE}.probe"):
            self.channel.queue_unbind(name, EXCHANGE, key)

    def close(self) -> None:
        self._connection.close()


def options(**changes: ty.Any) -> tap.TapOptions:
    return tap.TapOptions(**({"probe_interval": int(processes.patience(2))} | changes))


def wait_until(is_so: ty.Callable[[], bool], seconds: float = 15,
               seen: ty.Callable[[], object] = str) -> None:
    """Wait for ``is_so``, ``seconds`` long on a quiet machine; ``seen`` explains a failure."""
    processes.wait_until(is_so, seconds, "what is expected", seen=seen)
