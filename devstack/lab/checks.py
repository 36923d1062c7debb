# SPDX-License-Identifier: Apache-2.0
"""What the lab needs of this machine, found out before anything is touched."""

import os
import shutil
import subprocess

from devstack.lab import errors, host, processes

#: Programs, and the Debian package that has each.
PROGRAMS = {
    "ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux",
    "ceph-mon": "ceph-mon", "ceph-osd": "ceph-osd", "monmaptool": "ceph-common",
    "rbd": "ceph-common", "libvirtd": "libvirt-daemon", "virsh": "libvirt-clients",
    "qemu-system-x86_64": "qemu-system-x86", "erl_call": "erlang-base",
    "/usr/lib/rabbitmq/bin/rabbitmq-server": "rabbitmq-server",
    "/usr/lib/python3/dist-packages/rbd.cpython-311-x86_64-linux-gnu.so": "python3-rbd",
    "/usr/lib/x86_64-linux-gnu/qemu/block-rbd.so": "qemu-block-extra",
    "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so":
        "libvirt-daemon-driver-qemu",
}


def missing_packages() -> list[str]:
    """Debian packages that the lab needs and this machine lacks."""
    path = host.ENVIRONMENT["PATH"]
    return sorted({package for program, package in PROGRAMS.items()
                   if not (os.path.exists(program) if program.startswith("/")
                           else shutil.which(program, path=path))})


def why_not() -> str | None:
    """One sentence on why the lab cannot run here; None when it can."""
    if os.geteuid() != 0:
        return ("the lab needs root: it makes network and process namespaces; "
                "run it as root, or try `make demo-embedded`, which does without")
    packages = missing_packages()
    if packages:
        return ("the lab needs programs that are not installed; run: apt-get install "
                "--no-install-recommends " + " ".join(packages))
    done = subprocess.run(["unshare", *host.NAMESPACES, "--fork", "true"], text=True,
                          capture_output=True, timeout=processes.patience(20), check=False)
    if done.returncode:
        return ("this machine lets nobody make namespaces (a container without "
                f"--privileged?): {done.stderr.strip()}")
    return None


def require() -> None:
    """:raises errors.Missing: with everything that :func:`why_not` finds."""
    reason = why_not()
    if reason:
        raise errors.Missing(reason)
