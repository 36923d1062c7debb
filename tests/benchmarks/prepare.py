# SPDX-License-Identifier: Apache-2.0
"""A directory of 1.1 MiB made ready at the destination, against rsync and tar over ssh.

See :mod:`tests.benchmarks.preparing` for what is timed of ours, and
:mod:`tests.benchmarks.ssh_copies` for the others.
"""

import os
import pathlib

from tests.benchmarks import measure
from tests.benchmarks.bench import Bench
from tests.benchmarks.preparing import prepares
from tests.benchmarks.results import Goal, Result, Table
from tests.benchmarks.ssh_copies import SshCopies

ROUNDS = 25
CONSOLE_BYTES = 1 << 20
CONFIG_BYTES = 64 << 10

RSYNC, RSYNC_MUX = "rsync -a over ssh", "rsync -a, multiplexed ssh"
TAR, TAR_MUX = "tar over ssh, two calls before", "the same, multiplexed ssh"


def run(bench: Bench) -> Result:
    lab = bench.lab
    with prepares(lab) as ours, SshCopies(lab) as ssh:
        guest = lab.define_guest(lab.host("node1"), console=False)
        fill(guest.directory(lab.host("node1")))
        ours.once(guest)  # connections and queues are warm for everybody
        ssh.rsync(guest)
        with bench.progress("prepare", 5 * ROUNDS) as step:
            series = measure.alternate(ROUNDS, {
                "rbd-worker": lambda: ours.once(guest),
                RSYNC: lambda: ssh.rsync(guest),
                RSYNC_MUX: lambda: ssh.rsync(guest, multiplexed=True),
                TAR: lambda: ssh.tar(guest),
                TAR_MUX: lambda: ssh.tar(guest, multiplexed=True)}, step)
    table = Table("prepare a directory of 1.1 MiB at the destination", "ms", series)
    return Result("prepare", [table], [
        Goal("median in ms", series[0].median, 40),
        Goal(f"ratio to {RSYNC}", table.ratio(RSYNC), 1 / 10),
        Goal("ratio to tar over ssh", table.ratio(TAR), 1 / 25),
        Goal(f"ratio to {RSYNC_MUX}", table.ratio(RSYNC_MUX), 1 / 2)])


def fill(directory: pathlib.Path) -> None:
    """console.log and disk.config beside the disk.info that is there; 1.1 MiB."""
    text = "".join(f"[{n:12.6f}] the kernel says something of line {n}\n"
                   for n in range(CONSOLE_BYTES // 50))
    (directory / "console.log").write_text(text[:CONSOLE_BYTES].ljust(CONSOLE_BYTES))
    (directory / "disk.config").write_bytes(os.urandom(CONFIG_BYTES))
