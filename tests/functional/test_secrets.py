# SPDX-License-Identifier: Apache-2.0
"""Secrets are planted wherever a worker could find them, and looked for wherever it writes.

Debug logging is on.  Guests move, moves fail, messages are malformed, peers
vanish, a defect quotes a message: nothing of that may show a token, a key or a
password in a log, a journal, the trash, the command's output or on the wire
between workers.
"""

import base64
import json
import os
import pathlib
import signal
import sys
import threading
import typing as ty
import urllib.parse

import kombu
import pytest

from devstack import conductor
from devstack import lab as labs
from devstack.conductor import Conductor
from devstack.lab import broker, processes, worker
from rbd_worker.model import Outcome
from tests.functional.fleet import Fleet, answer

pytestmark = pytest.mark.lab

VTPM = "planted-vtpm-secret-5d1f0c"
NOVA_PASSWORDS = ("planted-database-password-77aa", "planted-keystone-password-81bc",
                  "planted-neutron-password-90cd")
SECTIONS = (f"\n[api_database]\nconnection = mysql+pymysql://nova:{NOVA_PASSWORDS[0]}@db/nova\n"
            f"[keystone_authtoken]\npassword = {NOVA_PASSWORDS[1]}\n"
            f"[neutron]\npassword = {NOVA_PASSWORDS[2]}\n")
#: A defect as bad as can be: an error whose text is the whole message.
DEFECT = """
import sys
from rbd_worker import service
from rbd_worker.triggers import casts
def parse(body, *, host):
    raise ValueError(body)
casts.parse = parse
sys.argv[0] = "rbd-worker"
sys.exit(service.main())
"""


class Wire:
    """Everything that is published on the broker while it listens, by exchange."""

    def __init__(self, lab: labs.Lab) -> None:
        self._lab = lab
        self._stop = threading.Event()
        self._connection = kombu.Connection(lab.broker_url.replace("rabbit://", "pyamqp://", 1))
        self._messages: list[tuple[str, bytes]] = []
        self._thread = threading.Thread(target=self._listen)

    def of(self, *exchanges: str) -> bytes:
        """The bodies that went to one of these exchanges; the default one's name is empty."""
        return b"\n".join(body for key, body in list(self._messages)
                          if key.removeprefix("publish.") in exchanges)

    def notifications(self) -> bytes:
        """The bodies of those that the workers sent."""
        return b"\n".join(body for _, body in list(self._messages) if b"rbd_worker.node" in body
                          and b"event_type" in body)

    def __enter__(self) -> "Wire":
        self._lab.broker.evaluate(f'rabbit_trace:start(<<"{broker.VHOST}">>)')
        channel = self._connection.channel()
        queue = kombu.Queue("planted", kombu.Exchange("amq.rabbitmq.trace", type="topic",
                                                      passive=True), "publish.#",
                            channel=channel, auto_delete=True)
        queue.declare()
        kombu.Consumer(channel, [queue], accept=None, no_ack=True,
                       on_message=self._took).consume()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(processes.patience(10))
        self._connection.release()
        self._lab.broker.evaluate(f'rabbit_trace:stop(<<"{broker.VHOST}">>)')

    def _took(self, message: kombu.Message) -> None:
        body = message.body
        self._messages.append((message.delivery_info["routing_key"],
                               body.encode() if isinstance(body, str) else bytes(body)))

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                self._connection.drain_events(timeout=0.2)
            except TimeoutError:
                continue


def _secrets(lab: labs.Lab) -> dict[str, str]:
    return {"a user's token": conductor.SECRET_TOKEN, "a vTPM's secret": VTPM,
            "the Ceph key": lab.ceph.keys.nova, "RabbitMQ's password": lab.broker.password,
            **{f"a password of nova.conf ({p})": p for p in NOVA_PASSWORDS}}


def _forms(secret: str) -> set[bytes]:
    """A secret as it may look in a log, in JSON, in a URL or in base64."""
    raw = secret.encode()
    encoded = {base64.b64encode(b"x" * shift + raw)[4:-4] for shift in range(3)}
    return {raw, urllib.parse.quote(secret, safe="").encode(), raw.hex().encode(),
            json.dumps(secret)[1:-1].encode(), *encoded}


def _found(secrets: dict[str, str], where: ty.Mapping[str, bytes]) -> list[str]:
    return [f"{what} is in {place}" for what, secret in secrets.items()
            for place, content in where.items()
            if any(form in content for form in _forms(secret))]


def _control(host: labs.Host, *argv: str) -> bytes:
    done = host.run([worker.program("rbd-workerctl"), *worker.CONFIG_FILES, *argv], check=False)
    return (done.stdout + done.stderr).encode()


def _cast_with_vtpm(fleet: Fleet, guest: labs.Guest, here: labs.Host, there: str) -> ty.Any:
    order = conductor.LiveMigration(guest.uuid, here.name, there, number=len(there))
    message = conductor.live_migration(order)
    message["args"]["migrate_data"]["nova_object.data"]["vtpm_secret_value"] = VTPM
    message["args"]["instance"]["nova_object.data"]["vtpm_secret"] = VTPM
    fleet.conductor.cast(here.name, message)
    return order


def _malformed(guest: labs.Guest, host: labs.Host) -> ty.Iterator[bytes]:
    """Messages that are refused, each with secrets where something else belongs."""
    order = conductor.LiveMigration(guest.uuid, host.name, "node2")
    for secret in (conductor.SECRET_TOKEN, VTPM):
        for path in (("args", "dest"), ("args", "instance", "nova_object.data", "uuid"),
                     ("args", "migration", "nova_object.data", "instance_uuid"),
                     ("args", "instance"), ("_unique_id",)):
            message = conductor.live_migration(order)
            message["args"]["dest"] = host.name  # none of them may move the guest
            place: ty.Any = message
            for name in path[:-1]:
                place = place[name]
            place[path[-1]] = f"/{secret}/.."
            yield conductor.envelope(message)
        yield f'{{"oslo.version": "2.0", "live_migrat": "{secret}'.encode()
        yield f'{{"oslo.version": "9", "live_migration": "{secret}"}}'.encode()
        yield b"\xff\xfe live_migration " + secret.encode()
        yield conductor.envelope({"method": "live_migration", "args": secret})


def _journals(host: labs.Host) -> dict[str, bytes]:
    """All that the worker keeps on disk, and its log."""
    kept = [*(host.root / "var/lib/nova/rbd-worker").rglob("*"),
            *(host.nova_instances / ".rbd-worker").rglob("*")]
    return {str(path): path.read_bytes() for path in kept if path.is_file()}


@pytest.fixture
def watched(lab: labs.Lab, fleet: Fleet) -> ty.Iterator[tuple[Fleet, Wire]]:
    """Both workers with debug logging, beside passwords, and everything on the wire kept."""
    with Wire(lab) as wire:
        fleet.start(nova={"debug": True, "live_migration_retry_count": 1},
                    notifications={"driver": "messagingv2", "transport_url": lab.broker_url})
        for host in (fleet.one, fleet.two):
            path = host.root / worker.NOVA_CONF.lstrip("/")
            path.write_text(path.read_text() + SECTIONS)
            fleet.workers[host.name].stop()
            fleet.restart(host)
        yield fleet, wire


def test_no_planted_secret_shows_anywhere(watched: tuple[Fleet, Wire], lab: labs.Lab) -> None:
    fleet, wire = watched
    one, two = fleet.one, fleet.two
    guest = lab.define_guest(one, talkative=True)
    guest.wait_for_console(one)
    for here, there in ((one, two), (two, one)):
        order = _cast_with_vtpm(fleet, guest, here, there.name)
        assert {e.outcome for e in fleet.closed(order).values()} == {Outcome.COMPLETED}
    shown = {"a completed migration": _control(one, "migration", "show", order.uuid)}

    for body in _malformed(guest, one):
        fleet.conductor.publish("compute-alt.node1", body)
    fleet.until(lambda: len(fleet.refusals(one)) >= 10, "the refusals")
    shown["refusals"] = _control(one, "refusal", "list")

    lost = _cast_with_vtpm(fleet, guest, one, "node9")
    fleet.until(lambda: not getattr(fleet.entry(one, lost), "is_open", True), "the failure")
    shown["a failed migration"] = _control(one, "migration", "show", lost.uuid)

    late = lab.define_guest(one, busy=True)
    one.virsh("migrate-setspeed", late.uuid, "4")
    alone = _cast_with_vtpm(fleet, late, one, "node2")
    fleet.under_way(late, one, two)
    fleet.workers["node2"].kill9()
    one.virsh("migrate-setspeed", late.uuid, "1000")
    fleet.conductor.cast("node1", conductor.force_complete(alone), topic="compute")
    fleet.until(lambda: fleet.entry(one, alone).outcome is Outcome.UNRESOLVED, "the doubt")
    shown["an unresolved migration"] = _control(one, "migration", "show", alone.uuid)
    shown["what is open"] = _control(one, "migration", "list", "--open")
    fleet.restart(two)
    assert {e.outcome for e in fleet.closed(alone, 60).values()} == {Outcome.COMPLETED}
    pid = fleet.workers["node1"].service.pid
    assert pid is not None
    os.kill(pid, signal.SIGUSR2)
    fleet.workers["node1"].wait_log("open = none")  # its last line
    logs = {f"log of {name}": each.service.log.read_bytes()
            for name, each in fleet.workers.items()}

    for argv in (("status",), ("--debug", "-v", "status"), ("migration", "list"), ("audit",),
                 ("trash", "list"), ("--debug", "trash", "restore", "no such item"),
                 ("preflight", "node1", "node2"), ("--debug", "migration", "show", "none")):
        shown[" ".join(argv)] = _control(one, *argv)
    assert b"node1" in shown["status"], "the command works at all"
    assert b"DEBUG" in logs["log of node1"], "debug logging is on"
    everywhere = {**logs, **shown, **_journals(one), **_journals(two),
                  "metrics": answer(one, "/metrics")[1].encode(),
                  "notifications": wire.notifications(),
                  "messages between workers": wire.of("rbd_worker", "")}
    assert b"rbd_worker.migration.unresolved" in everywhere["notifications"]
    assert b"transport_url = ***" in logs["log of node1"], "the report"
    assert b"pre_live_migration" in everywhere["messages between workers"]
    secrets = _secrets(lab)
    assert _found(secrets, {"Nova's casts": wire.of("nova")}), "the broker was really listened to"
    assert _found(secrets, everywhere) == []


def test_a_defect_that_quotes_a_message_shows_nothing_of_it(
        watched: tuple[Fleet, Wire], lab: labs.Lab, tmp_path: pathlib.Path) -> None:
    fleet, _ = watched
    guest = lab.define_guest(fleet.one)
    fleet.workers["node1"].stop()
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = fleet.one.popen([sys.executable, "-c", DEFECT, *worker.CONFIG_FILES],
                                  stdout=output, stderr=output)
        try:
            with Conductor(lab.broker_url) as wire:
                fleet.until(lambda: worker.READY in log.read_text(), "the worker with a defect")
                wire.live_migrate(fleet.order(guest, fleet.one, fleet.two))
                fleet.until(lambda: "a message was refused" in log.read_text(), "the defect")
        finally:
            process.terminate()
            process.wait(processes.patience(20))
    assert b"ValueError at " in log.read_bytes()
    assert _found(_secrets(lab), {"the log": log.read_bytes(), **_journals(fleet.one)}) == []
