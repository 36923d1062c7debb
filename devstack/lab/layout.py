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
COMPUTES = ("node1", "node2")
HOSTS = (CONTROLLER, *COMPUTES)
SLOTS = range(10)

#: Last octet of each host's address; .1 is this machine's end of the bridge.
_OCTETS = {CONTROLLER: 10, "node1": 11, "node2": 12}


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
