# SPDX-License-Identifier: Apache-2.0
"""What the tests of preflight have in common: asking, breaking one thing, and putting it back."""

import collections.abc
import contextlib
import json
import subprocess
import typing as ty

from devstack import lab as labs
from devstack.lab import processes
from devstack.lab import worker as lab_worker
from tests.functional.fleet import Fleet

#: What a row says where this machine was too busy to measure, or as quick as a guest may want.
LATE, LOADED = "not measured within", "See what loads this host"

Row: ty.TypeAlias = dict[str, str]
#: The lab's libvirt lets everybody in, as its rows have to say.
OPEN_DOOR = {"libvirt.auth-tcp"}


class Asked(ty.NamedTuple):
    """One run of ``rbd-workerctl preflight``."""

    status: int
    rows: dict[str, list[Row]]

    def one(self, name: str, host: str | None = None) -> Row:
        """The only row of that name, or of that name and host."""
        (row,) = [r for r in self.rows[name] if host in (None, r["Host"])]
        return row

    @property
    def not_ok(self) -> dict[str, list[Row]]:
        return {name: bad for name, rows in self.rows.items()
                if (bad := [r for r in rows if r["State"] != "ok"])}


def run(host: labs.Host, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the operator's command on ``host``."""
    return host.run([lab_worker.program("rbd-workerctl"), *lab_worker.CONFIG_FILES,
                     "preflight", *words], check=False, timeout=60)


def ask(host: labs.Host, *words: str) -> Asked:
    """The rows of a run; asked again, as the rows themselves advise, where there was no time.

    What a test has broken may be what does not answer: it is told by the last run.
    """
    for _ in range(int(processes.patience(2))):
        asked = _asked_once(host, *words)
        if not any(row["Found"].startswith(LATE) or row["Remedy"].startswith(LOADED)
                   for rows in asked.rows.values() for row in rows):
            break
    return asked


def _asked_once(host: labs.Host, *words: str) -> Asked:
    done = run(host, *words, "-f", "json")
    assert done.stderr == "", done.stderr
    rows: dict[str, list[Row]] = {}
    for row in json.loads(done.stdout):
        rows.setdefault(row["Check"], []).append(row)
    return Asked(done.returncode, rows)


def says(row: Row, state: str, found: str, remedy: str) -> None:
    """The row tells what is wrong and what to do."""
    assert row["State"] == state, row
    assert found in row["Found"] and remedy in row["Remedy"], row


def with_hook(fleet: Fleet, *hosts: labs.Host) -> None:
    """The hook is there before libvirt starts, as on a host that was set up."""
    for host in hosts:
        host.run([lab_worker.program("rbd-workerctl"), *lab_worker.CONFIG_FILES,
                  "hook", "install"])
        restart_libvirt(fleet, host)


def restart_libvirt(fleet: Fleet, host: labs.Host) -> None:
    """Until it can describe its host again, for which it tries every QEMU there is."""
    fleet.lab.libvirt(host).restart()
    host.virsh("capabilities")


@contextlib.contextmanager
def changed(host: labs.Host, path: str, text: str) -> collections.abc.Iterator[None]:
    """A file of the host with another content until the block ends."""
    kept = host.root / path.lstrip("/")
    before, mode = kept.read_text(), kept.stat().st_mode & 0o777
    host.write(path, text, mode)
    try:
        yield
    finally:
        host.write(path, before, mode)


@contextlib.contextmanager
def edited(host: labs.Host, path: str, old: str, new: str) -> collections.abc.Iterator[None]:
    """One passage of a file of the host replaced until the block ends."""
    text = (host.root / path.lstrip("/")).read_text()
    assert old in text
    with changed(host, path, text.replace(old, new)):
        yield


@contextlib.contextmanager
def reconfigured(fleet: Fleet, host: labs.Host, old: str, new: str,
                 name: str = "libvirtd.conf") -> collections.abc.Iterator[None]:
    """The host's libvirt runs with another configuration until the block ends."""
    with edited(host, f"/etc/libvirt/{name}", old, new):
        restart_libvirt(fleet, host)
        try:
            yield
        finally:
            fleet.lab.libvirt(host).stop()
    restart_libvirt(fleet, host)
