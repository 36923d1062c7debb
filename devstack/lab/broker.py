# SPDX-License-Identifier: Apache-2.0
"""The lab's RabbitMQ: one node or a cluster of three, one vhost, one user.

Vhost and user come from a definitions file that RabbitMQ loads while it boots;
each call of rabbitmqctl instead would take more than a second.
"""

import base64
import collections.abc
import concurrent.futures
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

_COOKIE = "/var/lib/rabbitmq/.erlang.cookie"
#: Schedulers that spin while they wait would take the lab's few cores from each other.
_ERLANG = "+sbwt none +sbwtdcpu none +sbwtdio none"

#: A node that finds itself in a minority stops to serve, as is usual with quorum
#: queues; one that falls silent counts as gone after 10 s (60 by default), since a
#: test waits for that.
_CLUSTER = """\
cluster_formation.peer_discovery_backend = classic_config
cluster_partition_handling = pause_minority
net_ticktime = 10
"""


@dataclasses.dataclass(frozen=True)
class Broker:
    """One node: start, stop and kill it.

    :param members: names of the hosts with a node, this one included.
    """

    host: Host
    password: str
    members: tuple[str, ...]

    @property
    def node(self) -> str:
        """What Erlang calls it."""
        return _node(self.host.name)

    @property
    def account(self) -> str:
        """User, password, address and port as they stand in a URL."""
        return f"{USER}:{self.password}@{self.host.address}:{PORT}"

    @property
    def service(self) -> Service:
        return Service(self.host, "rabbitmq", ("/usr/lib/rabbitmq/bin/rabbitmq-server",),
                       {"HOME": "/var/lib/rabbitmq", "RABBITMQ_NODENAME": self.node,
                        "RABBITMQ_CONF_ENV_FILE": "/etc/rabbitmq/rabbitmq-env.conf",
                        "RABBITMQ_CONFIG_FILE": "/etc/rabbitmq/rabbitmq.conf",
                        "RABBITMQ_ENABLED_PLUGINS_FILE": "/etc/rabbitmq/enabled_plugins",
                        "RABBITMQ_MNESIA_BASE": "/var/lib/rabbitmq/mnesia",
                        "RABBITMQ_LOG_BASE": "/var/log/rabbitmq",
                        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG})

    def configure(self) -> None:
        self.host.write("/etc/rabbitmq/rabbitmq-env.conf", "")
        self.host.write("/etc/rabbitmq/enabled_plugins", "[].\n")
        self.host.write("/etc/rabbitmq/rabbitmq.conf", (
            f"listeners.tcp.1 = {self.host.address}:{PORT}\n"
            "load_definitions = /etc/rabbitmq/definitions.json\n"
            "log.console = true\n"
            "log.file = false\n"
            "vm_memory_high_watermark.absolute = 1GB\n"
            "disk_free_limit.absolute = 50MB\n" + self._cluster()))
        self.host.write("/etc/rabbitmq/definitions.json", json.dumps(self._definitions()))
        cookie = hashlib.sha256(self.password.encode()).hexdigest()
        self.host.write(_COOKIE, cookie, 0o600)

    def _cluster(self) -> str:
        if len(self.members) == 1:
            return ""
        return _CLUSTER + "".join(
            f"cluster_formation.classic_config.nodes.{number} = {_node(name)}\n"
            for number, name in enumerate(self.members, 1))

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
        processes.wait_until(self.is_answering, seconds, f"RabbitMQ on {self.host.name}",
                             service.log, failed=lambda: not service.is_running())

    def stop(self) -> None:
        """An orderly stop: durable queues and persistent messages survive."""
        self.service.stop()

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill9(self) -> None:
        self.service.kill9()

    def kill_settled(self) -> None:
        """Kill it, not in the first seconds of a queue.

        RabbitMQ 3.10 may forget a durable queue that was declared just before, with the
        confirmed messages in it: Mnesia has not yet dumped its log.
        """
        self.evaluate("mnesia:dump_log()")
        self.kill9()

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
        answer = self.host.run(["erl_call", "-sname", self.node, "-e"], input=erlang + ".\n",
                               timeout=60, env={"HOME": "/var/lib/rabbitmq"}).stdout.strip()
        match = re.fullmatch(r"\{ok, (.*)\}", answer, re.DOTALL)
        if not match:
            raise errors.CommandFailed(erlang, 0, answer)
        return match[1]

    def running_nodes(self) -> int:
        """How many nodes of the cluster this one sees at work."""
        return int(self.evaluate("length(rabbit_nodes:all_running())"))

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


def url(nodes: collections.abc.Sequence[Broker]) -> str:
    """What goes into ``transport_url``."""
    return f"rabbit://{','.join(each.account for each in nodes)}/{VHOST}"


def start_all(nodes: collections.abc.Sequence[Broker], seconds: float = 90.0) -> None:
    """Start every node that does not run, and wait until all see each other.

    All at once: after a stop of the whole cluster a node waits for those that
    ended after it.  The first of a new cluster goes ahead, for the others to join.
    """
    if not any(each.service.inner_pid for each in nodes):
        nodes[0].start(seconds)
    with concurrent.futures.ThreadPoolExecutor(len(nodes)) as pool:
        for job in [pool.submit(each.start, seconds) for each in nodes]:
            job.result()
    if len(nodes) > 1:
        processes.wait_until(lambda: all(each.running_nodes() == len(nodes) for each in nodes),
                             seconds, "the whole cluster of RabbitMQ", nodes[0].service.log)


def _node(host: str) -> str:
    return f"rabbit@{host}"


def _password_hash(password: str) -> str:
    """RabbitMQ's form: four bytes of salt, then SHA-256 over salt and password."""
    salt = b"rbdw"
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
