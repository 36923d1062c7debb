# SPDX-License-Identifier: Apache-2.0
"""The bridge, the cables to the hosts, and ways to cut them.

The bridge carries the lab's directory as its alias, so that a later ``up`` or
``down`` finds what belongs to it even when every file of the lab was lost.
"""

import ipaddress
import json
import pathlib
import re
import subprocess
import typing as ty

from devstack.lab import errors, layout, processes

#: Belongs to nobody: frames to it are flooded and dropped, silently, as on a cut cable.
_NOWHERE = "02:00:00:00:00:fe"


def ip(*arguments: str, batch: str | None = None) -> str:
    """Run ``ip``; a batch is read from standard input."""
    argv = ["ip", *arguments, *(("-batch", "-") if batch else ())]
    done = subprocess.run(argv, input=batch, capture_output=True, text=True,
                          timeout=processes.patience(20), check=False)
    if done.returncode:
        raise errors.CommandFailed(" ".join(argv), done.returncode, done.stderr + (batch or ""))
    return done.stdout


def _links() -> list[dict[str, ty.Any]]:
    return list(json.loads(ip("-j", "link", "show") or "[]"))


def claim_slot(root: pathlib.Path) -> layout.Layout:
    """Create the bridge of the first slot whose name and subnet are free."""
    names = {link["ifname"] for link in _links()}
    taken = _used_networks()
    for slot in layout.SLOTS:
        lay = layout.Layout(root, slot)
        if lay.bridge in names or any(ipaddress.ip_network(lay.subnet).overlaps(network)
                                      for network in taken):
            continue
        try:
            ip("link", "add", lay.bridge, "type", "bridge", "forward_delay", "0")
        except errors.CommandFailed as e:
            if "exists" in str(e):
                continue
            raise
        ip(batch=f"link set {lay.bridge} alias {root}\n"
                 f"addr add {lay.gateway}/24 dev {lay.bridge}\n"
                 f"link set {lay.bridge} up\n")
        return lay
    raise errors.LabError("every subnet that the lab could use (198.18.77.0/24 to "
                          "198.18.86.0/24) is in use on this machine")


def _used_networks() -> list[ipaddress.IPv4Network]:
    networks = []
    for route in json.loads(ip("-j", "-4", "route", "show", "table", "all") or "[]"):
        try:
            network = ipaddress.IPv4Network(route["dst"])
        except (KeyError, ValueError):
            continue
        if network.prefixlen:
            networks.append(network)
    return networks


def connect(lay: layout.Layout, pids: dict[str, int]) -> None:
    """Run a cable from the bridge to each host and give it its address.

    :param pids: process 1 of each host, as this machine numbers it.
    """
    ip(batch="".join(
        f"link add {lay.link(host)} type veth peer name eth0 netns {pid}\n"
        f"link set {lay.link(host)} master {lay.bridge} up\n" for host, pid in pids.items()))
    for host, pid in pids.items():
        commands = (f"addr add {lay.address(host)}/24 dev eth0\n"
                    "link set lo up\nlink set eth0 up\n"
                    f"route add default via {lay.gateway}\n")
        done = subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", "-batch", "-"],
                              input=commands, capture_output=True, text=True,
                              timeout=processes.patience(20), check=False)
        if done.returncode:
            raise errors.CommandFailed("ip in " + host, done.returncode, done.stderr)


def remove(root: pathlib.Path) -> None:
    """Remove every bridge and cable of the lab at ``root``, and half-made bridges."""
    links = {link["ifname"]: link for link in _links()}
    for name, link in links.items():
        match = re.fullmatch(r"rbdwbr(\d)", name)
        if match and link.get("ifalias") in (str(root), None):
            for other in links:
                if other.startswith(f"rbdw{match[1]}-"):
                    _delete(other)
            _delete(name)


def _delete(link: str) -> None:
    """A cable also vanishes with its host, in its own time."""
    def gone() -> bool:
        subprocess.run(["ip", "link", "del", link], capture_output=True, timeout=20, check=False)
        return not pathlib.Path(f"/sys/class/net/{link}").exists()
    processes.wait_until(gone, 10, f"the end of the network link {link}")


def bridges(root: pathlib.Path) -> list[str]:
    """Bridges of the lab at ``root``."""
    return [link["ifname"] for link in _links() if link.get("ifalias") == str(root)]


def plug(lay: layout.Layout, host: str, connected: bool) -> None:
    """Pull the host's cable, or put it back."""
    ip("link", "set", lay.link(host), "up" if connected else "down")


def divert_commands(address: str, cut: bool) -> list[str]:
    """The ``ip`` arguments that cut one host off from ``address``, or end the cut."""
    if cut:
        return ["neigh", "replace", address, "lladdr", _NOWHERE, "dev", "eth0",
                "nud", "permanent"]
    return ["neigh", "flush", "to", address, "dev", "eth0", "nud", "permanent"]
