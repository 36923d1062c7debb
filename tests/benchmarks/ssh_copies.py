# SPDX-License-Identifier: Apache-2.0
"""What operators use today to carry a directory: rsync or tar, over ssh.

An sshd of its own on node2 lets node1's root in, with warm known hosts and
keys; nothing of the machine's own ssh is used.  A copy is timed inside the
source host, without the start of the shell around it, and what arrived is
compared with the original before it is removed again.
"""

import filecmp
import time

from devstack import lab as labs

_KEYS = "/etc/rbd-worker/bench"
#: Apart from the port of an sshd that the lab may have.
_PORT = 2022
#: Seconds that one copy may take; a sparse file of 10 GiB is read as a whole.
_SECONDS = 200.0


class SshCopies:
    """Copies from node1 to node2; a context manager."""

    def __init__(self, lab: labs.Lab) -> None:
        self._one, self._two = lab.host("node1"), lab.host("node2")
        self._to = f"root@{self._two.address}"
        self._make_keys()
        base = (f"ssh -F none -p {_PORT} -i {_KEYS}/id -o UserKnownHostsFile={_KEYS}/known "
                "-o BatchMode=yes -o LogLevel=ERROR")
        self._plain = f"{base} -o ControlMaster=no"
        self._multiplexed = (f"{base} -o ControlPath={_KEYS}/mux -o ControlMaster=auto "
                             "-o ControlPersist=600")
        self._sshd = self._two.popen(["/usr/sbin/sshd", "-D", "-f", f"{_KEYS}/sshd_config"])

    def __enter__(self) -> "SshCopies":
        for _ in range(50):
            if self._one.run(["sh", "-c", f"{self._multiplexed} {self._to} true"],
                             check=False).returncode == 0:
                return self
            time.sleep(0.1)
        self._end()
        raise labs.LabError("sshd on node2 does not answer")

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self._one.run(["sh", "-c", f"{self._multiplexed} -O exit {self._to}"], check=False)
        self._sshd.terminate()
        self._sshd.wait(10)

    def rsync(self, guest: labs.Guest, options: str = "-a", multiplexed: bool = False) -> float:
        """Milliseconds of one ``rsync`` of the guest's directory."""
        ssh = self._multiplexed if multiplexed else self._plain
        path = f"/var/lib/nova/instances/{guest.uuid}/"
        return self._timed(f"rsync {options} -e '{ssh}' {path} {self._to}:{path}", guest)

    def tar(self, guest: labs.Guest, multiplexed: bool = False) -> float:
        """Milliseconds of ``tar`` after two calls of ssh, as OpenNebula's premigrate does it."""
        path = f"/var/lib/nova/instances/{guest.uuid}"
        ssh = f"{self._multiplexed if multiplexed else self._plain} {self._to}"
        return self._timed(f"{ssh} 'rm -rf {path}' && {ssh} 'mkdir -p {path}' && "
                           f"tar -C {path} -cf - . | {ssh} 'tar -C {path} -xf -'", guest)

    def _timed(self, command: str, guest: labs.Guest) -> float:
        done = self._one.run(
            ["bash", "-ec", f'b=$EPOCHREALTIME; {command}; e=$EPOCHREALTIME; echo "$b $e"'],
            timeout=_SECONDS)
        began, ended = done.stdout.split()
        self._check(guest)
        self._two.run(["rm", "-rf", f"/var/lib/nova/instances/{guest.uuid}"])
        return (float(ended) - float(began)) * 1000

    def _check(self, guest: labs.Guest) -> None:
        """Same names and sizes; same content but for what is too large to read each time."""
        here, there = guest.directory(self._one), guest.directory(self._two)
        for path in here.iterdir():
            copy = there / path.name
            assert copy.stat().st_size == path.stat().st_size, path.name
            if path.stat().st_size <= 1 << 27:
                assert filecmp.cmp(path, copy, shallow=False), path.name

    def _make_keys(self) -> None:
        for host, name in ((self._one, "id"), (self._two, "host")):
            host.run(["sh", "-c", f"rm -rf {_KEYS} && mkdir -p {_KEYS} /run/sshd && "
                                  f"ssh-keygen -q -t ed25519 -N '' -f {_KEYS}/{name}"])
        public = self._one.run(["cat", f"{_KEYS}/id.pub"]).stdout
        self._two.write(f"{_KEYS}/authorized", public, 0o600)
        self._two.write(f"{_KEYS}/sshd_config", "\n".join((
            f"Port {_PORT}", f"HostKey {_KEYS}/host",
            f"AuthorizedKeysFile {_KEYS}/authorized", "StrictModes no", "UsePAM no",
            "PasswordAuthentication no", "PidFile none", "UseDNS no", "")), 0o600)
        key = self._two.run(["cat", f"{_KEYS}/host.pub"]).stdout
        self._one.write(f"{_KEYS}/known", f"[{self._two.address}]:{_PORT} {key}", 0o600)
