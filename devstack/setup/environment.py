# SPDX-License-Identifier: Apache-2.0
"""The virtual environment: pinned versions, and Debian's rados and rbd linked in.

constraints.txt is the complete list: pip is told not to look for more, since
oslo.service still names eventlet, which must not be there (importing it would
change how oslo.messaging runs its threads).

A stamp holds a digest of everything that went in; as long as it is the same
there is nothing to do and nothing is started.
"""

import collections.abc
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

_DEBIAN = pathlib.Path("/usr/lib/python3/dist-packages")
_MODULES = ("rados", "rbd")


class CannotBuild(Exception):
    """The environment cannot be built; the message says why."""


def ensure(checkout: pathlib.Path, log: pathlib.Path, partial: bool) -> None:
    """Build ``.venv`` in the checkout unless it is there in this very form.

    :param partial: go on without libvirt-python where it cannot be compiled.
    :raises CannotBuild: with the end of the log.
    """
    venv = checkout / ".venv"
    stamp = venv / "rbd-worker.stamp"
    digest = _digest(checkout)
    if not stamp.exists() or stamp.read_text() != digest:
        print(f"building {venv} (about a minute)", flush=True)
        stamp.unlink(missing_ok=True)
        _create(venv, log)
        complete = _install(checkout, venv, log, partial)
        if complete:
            stamp.write_text(digest)
    link_ceph_modules(venv)


def _digest(checkout: pathlib.Path) -> str:
    parts = [(checkout / name).read_bytes() for name in ("constraints.txt", "setup.py")]
    # the ABI rather than the full version: a bug-fix release keeps the environment good
    parts += [str(sysconfig.get_config_var("EXT_SUFFIX")).encode(), str(checkout).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _create(venv: pathlib.Path, log: pathlib.Path) -> None:
    done = _logged([sys.executable, "-m", "venv", str(venv)], log)
    if not done:
        shutil.rmtree(venv, ignore_errors=True)
        raise CannotBuild("python3 -m venv failed (on Debian: package python3-venv); "
                          + _tail(log))


def _install(checkout: pathlib.Path, venv: pathlib.Path, log: pathlib.Path,
             partial: bool) -> bool:
    """Install exactly what constraints.txt lists; says whether everything is in."""
    pins = [line for line in (checkout / "constraints.txt").read_text().splitlines()
            if "==" in line]
    pip = [str(venv / "bin/pip"), "--disable-pip-version-check", "--no-input", "install",
           "--no-deps"]
    env = {"PIP_CONSTRAINT": str(checkout / "constraints.txt")}  # for what builds need, too
    complete = _logged([*pip, *pins], log, env)
    if not complete and partial:
        print("libvirt-python could not be compiled (it needs libvirt-dev, pkg-config, "
              "python3-dev and a compiler); going on without it", flush=True)
        pins = [pin for pin in pins if not pin.startswith("libvirt-python")]
        done = _logged([*pip, *pins], log, env)
    else:
        done = complete
    if not (done and _logged([*pip, "--no-build-isolation", "--editable", str(checkout)], log)):
        raise CannotBuild("pip failed; " + _tail(log))
    return complete


def link_ceph_modules(venv: pathlib.Path) -> None:
    """Debian's two extension modules, and nothing else of Debian's Python.

    They are compiled for one version of CPython; another one cannot load them.
    """
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    site = venv / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    for module in _MODULES:
        there = _DEBIAN / f"{module}{suffix}"
        here = site / there.name
        if there.exists() and not here.is_symlink():
            here.symlink_to(there)
        if not there.exists():
            print(f"python3-{module} for this Python ({suffix}) is not installed: "
                  "rbd-worker will not reach Ceph", flush=True)


def _logged(argv: collections.abc.Sequence[str], log: pathlib.Path,
            env: collections.abc.Mapping[str, str] | None = None) -> bool:
    with log.open("ab") as out:
        return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                              env={**os.environ, **(env or {})}, check=False).returncode == 0


def _tail(log: pathlib.Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-15:]
    return "\n".join([f"the end of {log}:", *lines])
