# SPDX-License-Identifier: Apache-2.0
"""Plays nova-conductor on the wire: the same messages, on the same exchange.

For the demo, the functional tests and the benchmarks.  The form is that of
Nova 34 on oslo.messaging 18 (envelope 2.0, versioned objects, routing key
``compute-alt.<host>``); only the fields that matter here have real values.
"""

import dataclasses
import json
import typing as ty
import urllib.parse
import uuid

import kombu

#: What Nova's casts carry and nobody may see again: tests look for it.
SECRET_TOKEN = "gAAAAA-a-user-token-that-must-never-leave-the-message"

#: Seconds for the broker to confirm a message; a cluster that elects a leader takes some.
CONFIRM_SECONDS = 15

_PADDING = "x" * 12000  # flavor, image and service catalogue of a real cast


@dataclasses.dataclass(frozen=True)
class LiveMigration:
    """One migration as the conductor orders it."""

    instance: str
    source: str
    destination: str
    uuid: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))
    number: int = 1
    request_id: str = dataclasses.field(default_factory=lambda: f"req-{uuid.uuid4()}")


def live_migration(order: LiveMigration, **changes: ty.Any) -> dict[str, ty.Any]:
    """The ``live_migration`` cast to the source; ``changes`` replace arguments."""
    args = {"dest": order.destination, "instance": _instance(order), "block_migration": None,
            "migrate_data": _object("LibvirtLiveMigrateData", {
                "image_type": "rbd", "is_shared_instance_path": False,
                "is_shared_block_storage": True}),
            "migration": _migration(order)}
    return _message("live_migration", args | changes, order)


def check_destination(order: LiveMigration) -> dict[str, ty.Any]:
    """The ``check_can_live_migrate_destination`` call to the destination."""
    return _message("check_can_live_migrate_destination", {
        "instance": _instance(order), "block_migration": None, "disk_over_commit": None,
        "migration": _migration(order), "limits": None}, order)


def abort(order: LiveMigration) -> dict[str, ty.Any]:
    return _message("live_migration_abort", {
        "instance": _instance(order), "migration_id": order.number}, order)


def force_complete(order: LiveMigration) -> dict[str, ty.Any]:
    return _message("live_migration_force_complete", {"instance": _instance(order)}, order)


def rollback_at_destination(order: LiveMigration) -> dict[str, ty.Any]:
    return _message("rollback_live_migration_at_destination", {
        "instance": _instance(order), "destroy_disks": True,
        "migrate_data": _object("LibvirtLiveMigrateData", {"image_type": "rbd"})}, order)


def post_at_destination(order: LiveMigration) -> dict[str, ty.Any]:
    return _message("post_live_migration_at_destination", {
        "instance": _instance(order), "block_migration": False}, order)


def envelope(message: dict[str, ty.Any]) -> bytes:
    """oslo.messaging's envelope, version 2.0."""
    return json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(message)}).encode()


class Conductor:
    """A connection to the broker that publishes as Nova does; a context manager.

    As with oslo.messaging a message counts as sent when the broker has confirmed
    it; where a node of the cluster is lost before that, it is sent to another.

    :param url: the ``transport_url`` of nova.conf with ``rabbit://``.
    :param exchange: Nova's ``control_exchange``; declared as Nova declares it.
    :param durable: whether it outlives a restart of the broker, as it does with
        ``amqp_durable_queues`` or quorum queues.
    """

    def __init__(self, url: str, exchange: str = "nova", durable: bool = False) -> None:
        self._connection = kombu.Connection(
            _alternatives(url), connect_timeout=5, transport_options={"confirm_publish": True})
        self._connection.ensure_connection(max_retries=20, interval_max=1)
        self._exchange = kombu.Exchange(exchange, type="topic", durable=durable,
                                        auto_delete=False)
        self._exchange(self._connection.default_channel).declare()
        self._producer = self._connection.Producer()

    def __enter__(self) -> "Conductor":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.release()

    def cast(self, host: str, message: dict[str, ty.Any], topic: str = "compute-alt") -> None:
        """Publish one message to ``<topic>.<host>``."""
        self.publish(f"{topic}.{host}", envelope(message))

    def publish(self, routing_key: str, body: bytes) -> None:
        self._producer.publish(
            body, exchange=self._exchange, routing_key=routing_key, serializer=None,
            content_type="application/json", content_encoding="utf-8", delivery_mode=2,
            priority=0, retry=True, retry_policy={"max_retries": 20, "interval_max": 1},
            confirm_timeout=CONFIRM_SECONDS, declare=[self._exchange])

    def live_migrate(self, order: LiveMigration) -> None:
        """Order a live migration as the conductor does."""
        self.cast(order.source, live_migration(order))


def _alternatives(url: str) -> str:
    """One URL a host, for kombu; ``transport_url`` has all hosts in one.

    Another transport than RabbitMQ's, as the one in memory, has no hosts.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "rabbit":
        return url
    return ";".join(f"pyamqp://{host}{parts.path}" for host in parts.netloc.split(","))


def _instance(order: LiveMigration) -> dict[str, ty.Any]:
    return _object("Instance", {
        "id": 2, "uuid": order.instance, "host": order.source, "node": order.source,
        "hostname": "vm1", "memory_mb": 64, "vm_state": "active", "task_state": "migrating",
        "user_data": _PADDING})


def _migration(order: LiveMigration) -> dict[str, ty.Any]:
    return _object("Migration", {
        "id": order.number, "uuid": order.uuid, "instance_uuid": order.instance,
        "source_compute": order.source, "dest_compute": order.destination,
        "migration_type": "live-migration", "status": "accepted"})


def _object(name: str, data: dict[str, ty.Any]) -> dict[str, ty.Any]:
    return {"nova_object.name": name, "nova_object.namespace": "nova",
            "nova_object.version": "1.0", "nova_object.data": data, "nova_object.changes": []}


def _message(method: str, args: dict[str, ty.Any], order: LiveMigration) -> dict[str, ty.Any]:
    return {"method": method, "args": args, "version": "6.0",
            "_unique_id": uuid.uuid4().hex, "_context_request_id": order.request_id,
            "_context_auth_token": SECRET_TOKEN, "_context_user_id": "b" * 32}
