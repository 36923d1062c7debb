# SPDX-License-Identifier: Apache-2.0
"""The first process of one host of the lab: builds the host's root, then reaps.

Runs as process 1 of fresh mount, UTS, network and PID namespaces, as
``python3 -I -S init.py HOST_ROOT``.  The host's root is a tmpfs into which
every path of the machine is bind-mounted, except for the PRIVATE ones, which
come from HOST_ROOT.  So nothing needs to be created, or changed, on the
machine, and when this process is killed the kernel ends every process of the
host and drops all its mounts.

Standard library only, and no import from the project: it starts in isolated
mode, and nothing of it may depend on what is being tested.
"""

import ctypes
import os
import pathlib
import signal
import socket
import sys

#: Each host has its own of these.
PRIVATE_DIRECTORIES = (
    "/run", "/etc/ceph", "/etc/libvirt", "/etc/nova", "/etc/pki/CA", "/etc/pki/libvirt",
    "/etc/rabbitmq", "/etc/rbd-worker", "/root/.cache", "/root/.ssh", "/var/cache/libvirt",
    "/var/lib/ceph", "/var/lib/libvirt", "/var/lib/nova", "/var/lib/rabbitmq", "/var/log/ceph",
    "/var/log/libvirt", "/var/log/rabbitmq")
PRIVATE_FILES = ("/etc/group", "/etc/hostname", "/etc/hosts", "/etc/passwd")
PRIVATE = PRIVATE_DIRECTORIES + PRIVATE_FILES

MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 4096, 16384, 1 << 18, 2
LIBC = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, point: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    check(LIBC.mount(source.encode(), point.encode(), kind.encode(), ctypes.c_ulong(flags),
                     data.encode()), f"mount {source} on {point}")


def bind(source: str, point: str) -> None:
    mount(source, point, flags=MS_BIND | MS_REC)


def mirror(real: str, made: str, without: frozenset[str]) -> None:
    """Fill ``made`` with what ``real`` holds, leaving the private paths out."""
    for entry in os.scandir(real):
        point = os.path.join(made, entry.name)
        if entry.path in without:
            continue
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), point)
        elif entry.is_dir():
            os.mkdir(point)
            os.chmod(point, entry.stat().st_mode & 0o7777)
            if any(path.startswith(entry.path + "/") for path in without):
                mirror(entry.path, point, without)
            else:
                bind(entry.path, point)
        else:
            pathlib.Path(point).touch()
            bind(entry.path, point)


def build_root(host_root: str) -> None:
    """Make the host's root from the machine's and ``host_root``, and move into it."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    new = os.path.join(host_root, "mnt")
    os.makedirs(new, exist_ok=True)
    mount("rbdw-root", new, "tmpfs", data="mode=755,size=64m")
    mirror("/", new, frozenset((*PRIVATE, "/proc")))
    for path in PRIVATE:
        made, kept = pathlib.Path(new + path), host_root + path
        made.parent.mkdir(parents=True, exist_ok=True)
        if path in PRIVATE_DIRECTORIES:
            os.makedirs(kept, exist_ok=True)
            made.mkdir()
        else:
            made.touch()
        bind(kept, str(made))
    os.mkdir(new + "/proc")
    mount("proc", new + "/proc", "proc")
    old = new + "/.machine"
    os.mkdir(old)
    check(LIBC.pivot_root(new.encode(), old.encode()), "pivot_root")
    os.chdir("/")
    check(LIBC.umount2(b"/.machine", MNT_DETACH), "umount")
    os.rmdir("/.machine")


def reap() -> None:
    """Wait for orphans until killed; what each ended with is kept for the curious."""
    exits = pathlib.Path("/run/lab/exits")
    exits.mkdir(parents=True, exist_ok=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        signal.sigtimedwait({signal.SIGCHLD}, 60)
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                (exits / str(ended[0])).write_text(str(os.waitstatus_to_exitcode(ended[1])))
        except ChildProcessError:
            pass


def main() -> None:
    host_root = sys.argv[1]
    socket.sethostname(os.path.basename(host_root))
    build_root(host_root)
    os.write(1, b"ready\n")
    nowhere = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    reap()


if __name__ == "__main__":
    main()
