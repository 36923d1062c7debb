# SPDX-License-Identifier: Apache-2.0
"""The Debian packages of bindep.txt: which are missing, and installing those.

Nothing is started by the installation: the lab runs its own daemons, and a
second broker on a developer's machine is nobody's wish.
"""

import collections.abc
import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import typing as ty

_POLICY = pathlib.Path("/usr/sbin/policy-rc.d")
_POLICY_TEXT = """\
#!/bin/sh
# rbd-worker: nothing is started while packages are installed
exit 101
"""


class CannotInstall(Exception):
    """Packages are missing and cannot be installed; the message says which and why."""


@dataclasses.dataclass(frozen=True)
class Package:
    """One line of bindep.txt."""

    name: str
    profile: str


def wanted(bindep: pathlib.Path) -> list[Package]:
    """What the file lists."""
    lines = (line.split("#")[0].strip() for line in bindep.read_text().splitlines())
    matches = (re.fullmatch(r"(\S+)\s+\[(\w+)\]", line) for line in lines if line)
    return [Package(match[1], match[2]) for match in matches if match]


def is_debian() -> bool:
    return bool(shutil.which("dpkg-query") and shutil.which("apt-get"))


def missing(names: collections.abc.Collection[str]) -> list[str]:
    """Those that are not fully installed; asks dpkg's database only."""
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${db:Status-Abbrev} ${Package}\n", *names],
        capture_output=True, text=True, check=False)
    present = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("ii ")}
    return [name for name in names if name not in present]


def ensure(packages: collections.abc.Sequence[Package], log: pathlib.Path) -> None:
    """Install what is missing.

    :raises CannotInstall: no root, no Debian, or apt-get failed.
    """
    if not is_debian():
        raise CannotInstall(
            "this is not Debian: install by hand what bindep.txt lists (RabbitMQ, libvirt, QEMU "
            "and Ceph with their development files)")
    names = missing([package.name for package in packages])
    if not names:
        return
    if os.geteuid() != 0:
        raise CannotInstall(
            "these Debian packages are missing, and only root can install them: "
            f"apt-get install --no-install-recommends {' '.join(names)}")
    print(f"installing {len(names)} Debian packages: {' '.join(names)}", flush=True)
    with _nothing_starts(), log.open("ab") as out:
        _apt_get(out, "update")
        if not _apt_get(out, "install", "--no-install-recommends", "--yes", *names):
            tail = log.read_text(errors="replace").splitlines()[-15:]
            raise CannotInstall("apt-get failed; the end of " + "\n".join([f"{log}:", *tail]))


def _apt_get(out: ty.BinaryIO, *argv: str) -> bool:
    """A failing update is no reason to give up: the lists at hand may do."""
    return subprocess.run(
        ["apt-get", "-q", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=120", *argv],
        stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, check=False).returncode == 0


@contextlib.contextmanager
def _nothing_starts() -> collections.abc.Iterator[None]:
    """Debian's way of saying so (policy-rc.d), unless the machine has a policy already."""
    ours = not _POLICY.exists() or _POLICY.read_text() == _POLICY_TEXT
    if ours:
        _POLICY.write_text(_POLICY_TEXT)
        _POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            _POLICY.unlink()
