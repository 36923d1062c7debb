# SPDX-License-Identifier: Apache-2.0
"""Nova's own virtual environment: ``.venv-nova`` beside the worker's.

Nova and the worker pin different versions of the same libraries, so they share
none.  constraints.txt is the complete list of what a plain ``pip install`` of
nova, placement and their database driver resolves to.  A stamp with a digest
of that list says that the environment is complete.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

from devstack.lab import checks
from devstack.setup import environment as setup

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
VENV = CHECKOUT / ".venv-nova"
#: What a fresh database looks like after Nova's own ``db sync``; copied at each start.
DATABASE_SEED = VENV / "database"

_CONSTRAINTS = pathlib.Path(__file__).with_name("constraints.txt")
_STAMP = VENV / "gate.stamp"
_PROGRAMS = ("ceph-mgr", "mariadbd", "mariadb-install-db", "ssh", "sshd")


class CannotBuild(Exception):
    """The environment cannot be built; the message says why."""


def program(name: str) -> str:
    """A command of Nova's environment."""
    return str(VENV / "bin" / name)


def why_not() -> str:
    """Why this machine cannot run the gate, and what helps; empty where it can."""
    lacks = missing()
    return checks.why_not() or (f"missing: {', '.join(lacks)}; run: make gate" if lacks else "")


def missing() -> list[str]:
    """What this machine lacks for the gate, beside the lab's own parts; empty if nothing."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    lacks = [f"the program {name}" for name in _PROGRAMS if not shutil.which(name, path=path)]
    if not is_built():
        lacks.append("Nova's virtual environment .venv-nova")
    return lacks


def is_built() -> bool:
    return _STAMP.exists() and _STAMP.read_text() == _digest()


def ensure() -> None:
    """Build it unless it is there in this very form.

    :raises CannotBuild: pip failed; its last lines are in the message.
    """
    if is_built():
        return
    print(f"building {VENV} with an unmodified Nova (about two minutes)", flush=True)
    _STAMP.unlink(missing_ok=True)
    shutil.rmtree(DATABASE_SEED, ignore_errors=True)
    if not (VENV / "bin/pip").exists():
        _run([sys.executable, "-m", "venv", str(VENV)])
    pins = [line for line in _CONSTRAINTS.read_text().splitlines()
            if "==" in line and not line.startswith("#")]
    _run([program("pip"), "--disable-pip-version-check", "--no-input", "install", "--quiet",
          "--no-deps", *pins])
    setup.link_ceph_modules(VENV)
    _run([program("python"), "-c", "import libvirt, nova, placement, rados, rbd"])
    _STAMP.write_text(_digest())


def _digest() -> str:
    return hashlib.sha256(_CONSTRAINTS.read_bytes() + str(CHECKOUT).encode()).hexdigest()


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise CannotBuild(f"{' '.join(argv[:3])} ... failed:\n{tail}")
