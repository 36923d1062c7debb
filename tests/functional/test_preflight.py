# SPDX-License-Identifier: Apache-2.0
"""What would keep a guest from moving, each row broken on real parts and seen to fail."""

import json
import typing as ty

from devstack import lab as labs
from devstack.lab import worker as lab_worker
from tests.functional.fleet import Fleet

Row: ty.TypeAlias = dict[str, str]


class Asked(ty.NamedTuple):
    """One run of ``rbd-workerctl preflight``."""

    status: int
    rows: dict[str, list[Row]]

    def one(self, name: str, host: str | None = None) -> Row:
        """The only row of that name, or of that name and host."""
        (row,) = [r for r in self.rows[name] if host in (None, r["Host"])]
        return row


def ask(host: labs.Host, *words: str) -> Asked:
    """Run the operator's command on ``host``."""
    done = host.run([lab_worker.program("rbd-workerctl"), *lab_worker.CONFIG_FILES,
                     "preflight", *words, "-f", "json"], check=False)
    assert done.stderr == ""
    rows: dict[str, list[Row]] = {}
    for row in json.loads(done.stdout):
        rows.setdefault(row["Check"], []).append(row)
    return Asked(done.returncode, rows)


def with_hook(fleet: Fleet, *hosts: labs.Host) -> None:
    """The hook is there before libvirt starts, as on a host that was set up."""
    for host in hosts:
        host.run([lab_worker.program("rbd-workerctl"), *lab_worker.CONFIG_FILES,
                  "hook", "install"])
        restart_libvirt(fleet, host)


def restart_libvirt(fleet: Fleet, host: labs.Host) -> None:
    """Until it knows its QEMU again, which takes longer than a survey waits."""
    fleet.lab.libvirt(host).restart()
    host.virsh("version")


def test_a_sound_pair_is_told_as_such(started: Fleet) -> None:
    with_hook(started, started.one, started.two)
    asked = ask(started.one, "node2")
    assert {name: [r for r in rows if r["State"] != "ok"] for name, rows in asked.rows.items()
            if any(r["State"] != "ok" for r in rows)} == {}
    assert asked.status == 0
