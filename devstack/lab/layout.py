# SPDX-License-Identifier: Apache-2.0
"""Names, addresses and paths of one lab.

A lab lives under one directory (``/var/lib/rbd-worker-lab``, or the value of
the environment variable ``RBD_WORKER_LAB``).  Its *slot* numbers its bridge
and subnet, so that labs of different directories stand beside each other.
"""

import dataclasses
import os
import pathlib

CONTROLLER = "rbdw-ctl"
#: Where the further nodes of RabbitMQ run if the lab has a cluster.
MORE_BROKERS = ("rbdw-mq2", "rbdw-mq3")
COMPUTES = ("node1", "node2")
#: Of every lab; one with a cluster has more.
HOSTS = (CONTROLLER, *COMPUTES)
#: One node, or as many as it takes for one to be missed.
BROKER_NODES = (1, 1 + len(MORE_BROKERS))
SLOTS = range(10)

#: Last octet of each host's address; .1 is this machine's end of the bridge.
_OCTETS = {CONTROLLER: 10, "node1": 11, "node2": 12, "rbdw-mq2": 13, "rbdw-mq3": 14}


def broker_hosts(nodes: int) -> tuple[str, ...]:
    """The hosts with a node of RabbitMQ, the first one first."""
    return (CONTROLLER, *MORE_BROKERS[:nodes - 1])


def hosts(broker_nodes: int) -> tuple[str, ...]:
    """All hosts of a lab with that many nodes of RabbitMQ."""
    return (*HOSTS, *MORE_BROKERS[:broker_nodes - 1])


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where everything of one lab is."""

    root: pathlib.Path
    slot: int

    @property
    def bridge(self) -> str:
        return f"rbdwbr{self.slot}"

    @property
    def subnet(self) -> str:
        """In 198.18.0.0/15, which is set apart for tests of networks (RFC 2544)."""
        return f"198.18.{77 + self.slot}.0/24"

    @property
    def gateway(self) -> str:
        return self.subnet.replace(".0/24", ".1")

    def address(self, host: str) -> str:
        return self.subnet.replace(".0/24", f".{_OCTETS[host]}")

    def link(self, host: str) -> str:
        """This machine's end of the host's cable; at most 15 characters."""
        return f"rbdw{self.slot}-{host}"

    def host_root(self, host: str) -> pathlib.Path:
        """Holds the host's private paths: ``<host_root>/var/lib/nova`` and so on."""
        return self.root / host

    def log(self, name: str) -> pathlib.Path:
        return self.root / "log" / f"{name}.log"

    @property
    def ready_mark(self) -> pathlib.Path:
        return self.root / "ready"


def default_root() -> pathlib.Path:
    return pathlib.Path(os.environ.get("RBD_WORKER_LAB", "/var/lib/rbd-worker-lab")).absolute()
