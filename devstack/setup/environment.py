# SPDX-License-Identifier: Apache-2.0
"""The virtual environment: pinned versions, and Debian's rados and rbd linked in.

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
    _link_ceph_modules(venv)


def _digest(checkout: pathlib.Path) -> str:
    parts = [(checkout / name).read_bytes() for name in ("constraints.txt", "setup.py")]
    parts += [sys.version.encode(), str(checkout).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _create(venv: pathlib.Path, log: pathlib.Path) -> None:
    done = _logged([sys.executable, "-m", "venv", str(venv)], log)
    if not done:
        shutil.rmtree(venv, ignore_errors=True)
        raise CannotBuild("python3 -m venv failed (on Debian: package python3-venv); "
                          + _tail(log))


def _install(checkout: pathlib.Path, venv: pathlib.Path, log: pathlib.Path,
             partial: bool) -> bool:
    """Says whether everything is in."""
    constraints = checkout / "constraints.txt"
    pip = [str(venv / "bin/pip"), "--disable-pip-version-check", "--no-input", "install"]
    # the second form of the same file pins what builds need (setuptools, wheel) too
    pins = {"PIP_CONSTRAINT": str(constraints), "PIP_BUILD_CONSTRAINT": str(constraints)}
    if _logged([*pip, "--editable", f"{checkout}[test]"], log, pins):
        return True
    if not partial:
        raise CannotBuild("pip failed; " + _tail(log))
    print("libvirt-python could not be compiled (it needs libvirt-dev, pkg-config, "
          "python3-dev and gcc); going on without it", flush=True)
    names = [line.split("==")[0] for line in constraints.read_text().splitlines()
             if "==" in line and not line.startswith("libvirt-python")]
    if not (_logged([*pip, *names], log, pins)
            and _logged([*pip, "--no-deps", "--editable", str(checkout)], log, pins)):
        raise CannotBuild("pip failed; " + _tail(log))
    return False


def _link_ceph_modules(venv: pathlib.Path) -> None:
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
