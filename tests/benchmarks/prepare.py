# SPDX-License-Identifier: Apache-2.0
"""From the cast until the destination has the directory, against rsync and tar over ssh.

Ours is measured with executor nova: from the moment the cast is published
until the source's journal has the destination's acknowledgement, digests
checked.  The others copy the same directory between the same two hosts, with
warm known hosts and keys; once also with a multiplexed connection, for
fairness.  Their time is taken inside the source host, without the start of
the shell around them.
"""

import os
import pathlib
import time

from rich.console import Console

from devstack import conductor as wire
from devstack import lab as labs
from tests.benchmarks import measure
from tests.functional.fleet import Fleet

ROUNDS = 15
CONSOLE_BYTES = 1 << 20
CONFIG_BYTES = 64 << 10
_KEYS = "/etc/rbd-worker/bench"


def run(lab: labs.Lab, console: Console) -> list[measure.Series]:
    lab.reset()
    ssh = _Ssh(lab)
    with wire.Conductor(lab.broker_url) as conductor:
        fleet = Fleet(lab, conductor)
        fleet.start(executor="nova")
        guest = lab.define_guest(fleet.one, console=False)
        _fill(guest.directory(fleet.one))
        ours = _Ours(fleet, guest)
        ours.once()  # connections and queues are warm for everybody
        ssh.rsync(guest)
        series = measure.alternate(ROUNDS, {
            "rbd-worker": ours.once,
            "rsync -a over ssh": lambda: ssh.rsync(guest),
            "rsync -a over multiplexed ssh": lambda: ssh.rsync(guest, multiplexed=True),
            "tar over ssh, two ssh calls before": lambda: ssh.tar(guest)})
        for worker in fleet.workers.values():
            worker.stop()
    ssh.stop()
    measure.show("prepare a directory of 1.1 MiB at the destination", "ms", series, console)
    return series


def _fill(directory: pathlib.Path) -> None:
    text = "".join(f"[{n:12.6f}] the kernel says something of line {n}\n"
                   for n in range(CONSOLE_BYTES // 50))
    (directory / "console.log").write_text(text[:CONSOLE_BYTES].ljust(CONSOLE_BYTES))
    (directory / "disk.config").write_bytes(os.urandom(CONFIG_BYTES))


class _Ours:
    def __init__(self, fleet: Fleet, guest: labs.Guest) -> None:
        self._fleet = fleet
        self._guest = guest

    def once(self) -> float:
        """One prepare; then Nova gives up, as it does after a failure, and both hosts close."""
        fleet = self._fleet
        order = fleet.order(self._guest, fleet.one, fleet.two)
        began = time.time()
        fleet.conductor.live_migrate(order)
        fleet.until(lambda: self._prepared(order) is not None, "the acknowledgement")
        prepared = self._prepared(order)
        assert prepared is not None
        fleet.conductor.cast("node2", wire.rollback_at_destination(order))
        fleet.closed(order)
        return (prepared - began) * 1000

    def _prepared(self, order: wire.LiveMigration) -> float | None:
        entry = self._fleet.entry(self._fleet.one, order)
        if entry is None:
            return None
        reader = self._fleet.reader(self._fleet.one)
        try:
            for record in reader.records(entry.migration):
                if (record.step, record.state) == ("ensure_destination_prepared", "done"):
                    assert "skipped" not in record.data, record.data
                    return record.at
        finally:
            reader.close()
        return None


class _Ssh:
    """An sshd on node2 that lets node1's root in; nothing of the machine's own ssh is used."""

    def __init__(self, lab: labs.Lab) -> None:
        self._one, self._two = lab.host("node1"), lab.host("node2")
        for host, name in ((self._one, "id"), (self._two, "host")):
            host.run(["sh", "-c", f"rm -rf {_KEYS} && mkdir -p {_KEYS} /run/sshd && "
                                  f"ssh-keygen -q -t ed25519 -N '' -f {_KEYS}/{name}"])
        public = self._one.run(["cat", f"{_KEYS}/id.pub"]).stdout
        self._two.write(f"{_KEYS}/authorized", public, 0o600)
        self._two.write(f"{_KEYS}/sshd_config", "\n".join((
            f"HostKey {_KEYS}/host", f"AuthorizedKeysFile {_KEYS}/authorized", "StrictModes no",
            "UsePAM no", "PasswordAuthentication no", "PidFile none", "UseDNS no", "")), 0o600)
        self._sshd = self._two.popen(["/usr/sbin/sshd", "-D", "-f", f"{_KEYS}/sshd_config"])
        key = self._two.run(["cat", f"{_KEYS}/host.pub"]).stdout
        self._one.write(f"{_KEYS}/known", f"{self._two.address} {key}", 0o600)
        base = (f"ssh -F none -i {_KEYS}/id -o UserKnownHostsFile={_KEYS}/known "
                "-o BatchMode=yes -o LogLevel=ERROR")
        self._plain = f"{base} -o ControlMaster=no"
        self._multiplexed = f"{base} -o ControlPath={_KEYS}/mux -o ControlMaster=auto " \
                            "-o ControlPersist=600"
        self._to = f"root@{self._two.address}"
        for _ in range(50):
            if self._one.run(["sh", "-c", f"{self._multiplexed} {self._to} true"],
                             check=False).returncode == 0:
                return
            time.sleep(0.1)
        raise labs.LabError("sshd on node2 does not answer")

    def rsync(self, guest: labs.Guest, multiplexed: bool = False) -> float:
        ssh = self._multiplexed if multiplexed else self._plain
        path = f"/var/lib/nova/instances/{guest.uuid}/"
        return self._timed(f"rsync -a -e '{ssh}' {path} {self._to}:{path}", guest)

    def tar(self, guest: labs.Guest) -> float:
        path = f"/var/lib/nova/instances/{guest.uuid}"
        ssh = f"{self._plain} {self._to}"
        return self._timed(f"{ssh} 'rm -rf {path}' && {ssh} 'mkdir -p {path}' && "
                           f"tar -C {path} -cf - . | {ssh} 'tar -C {path} -xf -'", guest)

    def _timed(self, command: str, guest: labs.Guest) -> float:
        done = self._one.run(["bash", "-ec", f"b=$EPOCHREALTIME; {command}; e=$EPOCHREALTIME; "
                              'echo "$b $e"'])
        began, ended = done.stdout.split()
        here, there = guest.directory(self._one), guest.directory(self._two)
        for name in ("console.log", "disk.config"):
            assert (there / name).read_bytes() == (here / name).read_bytes(), name
        self._two.run(["rm", "-rf", f"/var/lib/nova/instances/{guest.uuid}"])
        return (float(ended) - float(began)) * 1000

    def stop(self) -> None:
        self._one.run(["sh", "-c", f"{self._multiplexed} -O exit {self._to}"], check=False)
        self._sshd.terminate()
        self._sshd.wait(10)
