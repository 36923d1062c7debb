# SPDX-License-Identifier: Apache-2.0
"""Bringing a lab up and down.

``up`` starts three hosts (seconds: 0.2), then RabbitMQ, Ceph and both libvirts
at the same time.  ``down`` needs no record of what ``up`` did: hosts are found
by their command line, links by the lab's directory in the bridge's alias.  So
whatever was killed midway, the next ``up`` or ``down`` removes it.
"""

import collections.abc
import concurrent.futures
import dataclasses
import json
import pathlib
import secrets
import shutil
import time
import uuid

from devstack.lab import broker, ceph, checks, compute, errors, host, layout, locks, network
from devstack.lab.lab import Lab, State

Progress = collections.abc.Callable[[str], None]

_STATE = "lab.json"
_BUSY = "another `lab up` or `lab down` of the same directory is still at work"


def attach(root: pathlib.Path | None = None) -> Lab:
    """The running lab.

    :raises errors.NotUp: there is none, or only parts of one.
    """
    root = root or layout.default_root()
    try:
        state = State(**json.loads((root / _STATE).read_text()))
    except (OSError, ValueError, TypeError) as e:
        raise errors.NotUp(f"no lab in {root}; run: make lab-up") from e
    lay = layout.Layout(root, state.slot)
    if not lay.ready_mark.exists():
        raise errors.NotUp(f"the lab in {root} was never ready; run: make lab-up")
    return Lab(lay, state, {name: host.attach(lay, name)
                            for name in layout.hosts(state.broker_nodes)})


def faults(lab: Lab) -> list[str]:
    """What does not work in a lab; empty for a healthy one."""
    found = [f"RabbitMQ on {each.host.name} does not answer" for each in lab.brokers
             if not each.is_answering()]
    found += [] if lab.ceph.is_listening() and lab.ceph.osd.is_running() else ["Ceph is down"]
    found += [f"libvirtd on {each.host.name} does not answer" for each in lab.computes
              if not each.is_answering()]
    return found


def up(on_progress: Progress = lambda line: None, root: pathlib.Path | None = None,
       broker_nodes: int | None = None) -> Lab:
    """Return a healthy lab: the one that runs, or a new one.

    :param broker_nodes: nodes of RabbitMQ, 1 or 3; None takes the lab that runs
        as it is, and else means 1.
    :raises errors.Missing: this machine cannot run it.
    :raises errors.LabError: a part did not come up; all others were ended.
    """
    root = root or layout.default_root()
    checks.require()
    with locks.held(str(root), 120, _BUSY):
        try:
            lab = attach(root)
            broken = faults(lab)
            if broker_nodes not in (None, lab.state.broker_nodes):
                broken = [*broken, f"it has {lab.state.broker_nodes} nodes of RabbitMQ"]
        except errors.NotUp:
            broken = ["incomplete"] if has_leftovers(root) else []
        else:
            if not broken:
                on_progress(f"the lab in {root} is up already")
                return lab
        if broken:
            on_progress(f"removing the old lab in {root} ({', '.join(broken)})")
        _remove(root)
        try:
            return _start(root, on_progress, broker_nodes or 1)
        except BaseException:
            _end(root)
            raise


def down(root: pathlib.Path | None = None) -> bool:
    """Remove the lab; says whether there was anything to remove."""
    root = root or layout.default_root()
    with locks.held(str(root), 120, _BUSY):
        found = has_leftovers(root)
        _remove(root)
    return found


def has_leftovers(root: pathlib.Path) -> bool:
    return root.exists() or bool(host.leftover(root)) or bool(network.bridges(root))


def _start(root: pathlib.Path, on_progress: Progress, broker_nodes: int) -> Lab:
    watch = _Watch(on_progress)
    names = layout.hosts(broker_nodes)
    _claim_directory(root)
    with locks.held("network", 60, "another lab holds the network"):
        lay = network.claim_slot(root)
    state = State(slot=lay.slot, fsid=str(uuid.uuid4()), secret_uuid=str(uuid.uuid4()),
                  broker_password=secrets.token_urlsafe(12),
                  virt_type="kvm" if compute.kvm_works() else "qemu",
                  keys=dataclasses.asdict(ceph.Keys()), broker_nodes=broker_nodes)
    _write_private(root / _STATE, json.dumps(dataclasses.asdict(state)))
    _write_accounts(lay, names)
    hosts = host.start(lay, names)
    network.connect(lay, {name: each.pid for name, each in hosts.items()})
    watch.done("hosts and network")
    lab = Lab(lay, state, hosts)
    _start_services(lab, watch)
    lay.ready_mark.touch()
    return lab


def _start_services(lab: Lab, watch: "_Watch") -> None:
    for node in lab.brokers:
        node.configure()
    lab.ceph.configure()
    starts: dict[str, collections.abc.Callable[[], None]] = {
        "RabbitMQ": lambda: broker.start_all(lab.brokers), "Ceph": lab.ceph.start}
    for each in lab.computes:
        each.configure(lab.ceph, lab.secret_uuid)
        starts[f"libvirtd on {each.host.name}"] = each.start
    with concurrent.futures.ThreadPoolExecutor(len(starts)) as pool:
        jobs = {pool.submit(start): name for name, start in starts.items()}
        for job in concurrent.futures.as_completed(jobs):
            job.result()
            watch.done(jobs[job])


class _Watch:
    """Says what is done, and after how many seconds."""

    def __init__(self, on_progress: Progress) -> None:
        self._began = time.monotonic()
        self._say = on_progress

    def done(self, what: str) -> None:
        self._say(f"{time.monotonic() - self._began:5.1f} s  {what}")


def _claim_directory(root: pathlib.Path) -> None:
    root.mkdir(parents=True, mode=0o755)
    (root / "log").mkdir()


def _write_private(path: pathlib.Path, text: str) -> None:
    path.touch(0o600)
    path.write_text(text)


def _write_accounts(lay: layout.Layout, hosts: collections.abc.Sequence[str]) -> None:
    """The hosts' own passwd, group and hosts: the machine's, and what they lack."""
    passwd = pathlib.Path("/etc/passwd").read_text()
    group = pathlib.Path("/etc/group").read_text()
    names = {line.split(":")[0] for line in passwd.splitlines()}
    groups = {line.split(":")[0] for line in group.splitlines()}
    for name, number in (("nova", 64060), ("libvirt-qemu", 64055)):
        if name not in names:
            passwd += f"{name}:x:{number}:{number}::/var/lib/{name}:/usr/sbin/nologin\n"
        if name not in groups:
            group += f"{name}:x:{number}:\n"
    if "kvm" not in groups:
        group += "kvm:x:64056:\n"
    known = "127.0.0.1 localhost\n" + "".join(
        f"{lay.address(name)} {name}\n" for name in hosts)
    for name in hosts:
        etc = lay.host_root(name) / "etc"
        etc.mkdir(parents=True)
        (etc / "passwd").write_text(passwd)
        (etc / "group").write_text(group)
        (etc / "hosts").write_text(known)
        (etc / "hostname").write_text(name + "\n")


def _end(root: pathlib.Path) -> None:
    """End all that runs; the logs stay for whoever wants to know what went wrong."""
    host.end_all(root)
    with locks.held("network", 60, "another lab holds the network"):
        network.remove(root)


def _remove(root: pathlib.Path) -> None:
    _end(root)
    if not root.exists():
        return
    if any(root.iterdir()) and not (root / "log").is_dir():
        raise errors.LabError(f"{root} does not look like a lab; not removing it")
    shutil.rmtree(root)
