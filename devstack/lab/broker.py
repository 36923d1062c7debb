# SPDX-License-Identifier: Apache-2.0
"""The lab's RabbitMQ: one node, one vhost, one user.

All three come from a definitions file that RabbitMQ loads while it boots; each
call of rabbitmqctl instead would take more than a second.
"""

import base64
import dataclasses
import hashlib
import json
import re
import socket

from devstack.lab import errors, processes
from devstack.lab.host import Host
from devstack.lab.service import Service

PORT = 5672
VHOST = "rbdw"
USER = "rbdw"
NODE = "rabbit@rbdw-ctl"


@dataclasses.dataclass(frozen=True)
class Broker:
    """Start, stop and kill it; ``url`` is what goes into ``transport_url``."""

    host: Host
    password: str

    @property
    def url(self) -> str:
        return f"rabbit://{USER}:{self.password}@{self.host.address}:{PORT}/{VHOST}"

    @property
    def service(self) -> Service:
        return Service(self.host, "rabbitmq", ("/usr/lib/rabbitmq/bin/rabbitmq-server",),
                       {"HOME": "/var/lib/rabbitmq", "RABBITMQ_NODENAME": NODE,
                        "RABBITMQ_CONF_ENV_FILE": "/etc/rabbitmq/rabbitmq-env.conf",
                        "RABBITMQ_CONFIG_FILE": "/etc/rabbitmq/rabbitmq.conf",
                        "RABBITMQ_ENABLED_PLUGINS_FILE": "/etc/rabbitmq/enabled_plugins",
                        "RABBITMQ_MNESIA_BASE": "/var/lib/rabbitmq/mnesia",
                        "RABBITMQ_LOG_BASE": "/var/log/rabbitmq"})

    def configure(self) -> None:
        self.host.write("/etc/rabbitmq/rabbitmq-env.conf", "")
        self.host.write("/etc/rabbitmq/enabled_plugins", "[].\n")
        self.host.write("/etc/rabbitmq/rabbitmq.conf", (
            f"listeners.tcp.1 = {self.host.address}:{PORT}\n"
            "load_definitions = /etc/rabbitmq/definitions.json\n"
            "log.console = true\n"
            "log.file = false\n"
            "vm_memory_high_watermark.absolute = 1GB\n"
            "disk_free_limit.absolute = 50MB\n"))
        self.host.write("/etc/rabbitmq/definitions.json", json.dumps(self._definitions()))

    def _definitions(self) -> dict[str, list[dict[str, str]]]:
        return {
            "users": [{"name": USER, "password_hash": _password_hash(self.password),
                       "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ""}],
            "vhosts": [{"name": VHOST}],
            "permissions": [{"user": USER, "vhost": VHOST, "configure": ".*", "write": ".*",
                             "read": ".*"}]}

    def start(self, seconds: float = 60.0) -> None:
        """Start it and wait until it speaks AMQP."""
        service = self.service
        service.start()
        processes.wait_until(self.is_answering, seconds, "RabbitMQ", service.log,
                             failed=lambda: not service.is_running())

    def stop(self) -> None:
        """An orderly stop: durable queues and persistent messages survive."""
        self.service.stop()

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill9(self) -> None:
        self.service.kill9()

    def is_answering(self) -> bool:
        try:
            with socket.create_connection((self.host.address, PORT), timeout=2) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return len(connection.recv(1)) == 1
        except OSError:
            return False

    def evaluate(self, erlang: str) -> str:
        """Let the node evaluate an Erlang expression; returns its value as Erlang prints it.

        Much faster than rabbitmqctl, which starts a second Erlang machine.
        """
        answer = self.host.run(["erl_call", "-sname", NODE, "-e"], input=erlang + ".\n",
                               timeout=20, env={"HOME": "/var/lib/rabbitmq"}).stdout.strip()
        match = re.fullmatch(r"\{ok, (.*)\}", answer, re.DOTALL)
        if not match:
            raise errors.CommandFailed(erlang, 0, answer)
        return match[1]

    def reset(self) -> None:
        """Drop every queue and every exchange of the vhost but the built-in ones."""
        self.evaluate(
            f"[rabbit_amqqueue:delete(Q, false, false, <<\"lab\">>) || "
            f"Q <- rabbit_amqqueue:list(<<\"{VHOST}\">>)], "
            f"[rabbit_exchange:delete(element(2, X), false, <<\"lab\">>) || "
            f"X <- rabbit_exchange:list(<<\"{VHOST}\">>), "
            "element(4, element(2, X)) =/= <<>>, "
            "binary:part(<<(element(4, element(2, X)))/binary, \"....\">>, 0, 4) "
            "=/= <<\"amq.\">>], ok")


def _password_hash(password: str) -> str:
    """RabbitMQ's form: four bytes of salt, then SHA-256 over salt and password."""
    salt = b"rbdw"
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
