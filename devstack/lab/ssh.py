# SPDX-License-Identifier: Apache-2.0
"""ssh between the compute hosts, as Nova's remote file system driver uses it.

Not part of a plain lab: only benchmarks and cold migrations need it.
"""

import functools
import socket

from devstack.lab import processes
from devstack.lab.host import Host
from devstack.lab.service import Service

_SERVER = """\
ListenAddress {address}
HostKey /root/.ssh/id_ed25519
AuthorizedKeysFile /root/.ssh/authorized_keys
PermitRootLogin yes
PasswordAuthentication no
StrictModes no
UsePAM no
PidFile none
Subsystem sftp internal-sftp
"""

_CLIENT = """\
Host *
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
"""


def enable(hosts: list[Host]) -> None:
    """Let root of each host log in on all of them; one key serves for everything."""
    first = hosts[0]
    if not (first.root / "root/.ssh/id_ed25519").exists():
        first.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519"])
    key = (first.root / "root/.ssh/id_ed25519").read_bytes()
    public = (first.root / "root/.ssh/id_ed25519.pub").read_bytes()
    for host in hosts:
        host.write("/root/.ssh/id_ed25519", key, 0o600)
        host.write("/root/.ssh/authorized_keys", public, 0o600)
        host.write("/root/.ssh/config", _CLIENT, 0o600)
        host.write("/run/lab/sshd_config", _SERVER.format(address=host.address))
        (host.root / "run/sshd").mkdir(exist_ok=True)
        daemon = Service(host, "sshd", ("/usr/sbin/sshd", "-D", "-e", "-f",
                                        "/run/lab/sshd_config"))
        daemon.start()
        processes.wait_until(functools.partial(_listens, host.address), 10,
                             f"sshd on {host.name}", daemon.log)


def _listens(address: str) -> bool:
    try:
        socket.create_connection((address, 22), timeout=2).close()
    except OSError:
        return False
    return True
