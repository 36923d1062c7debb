# SPDX-License-Identifier: Apache-2.0
"""Large files: a disk.config of 64 MiB, and a sparse file of 10 GiB with 8 MiB of data.

Against ``rsync -aS`` over ssh.  All content is random, so that nothing is
gained by compression.  Whether a sparse file costs what its data costs is seen
beside a file that has the same 8 MiB and no hole.
"""

import os
import pathlib

from devstack import lab as labs
from tests.benchmarks import measure
from tests.benchmarks.bench import Bench
from tests.benchmarks.preparing import prepares
from tests.benchmarks.results import Goal, Result, Table
from tests.benchmarks.ssh_copies import SshCopies

ROUNDS, SPARSE_ROUNDS = 7, 3
CONFIG_BYTES = 64 << 20
SPARSE_BYTES = 10 << 30
DATA_BYTES = 8 << 20
PIECES = 8

OURS, RSYNC, DENSE = "rbd-worker", "rsync -aS over ssh", "rbd-worker, 8 MiB without a hole"


def run(bench: Bench) -> Result:
    lab = bench.lab
    one = lab.host("node1")
    with prepares(lab) as ours, SshCopies(lab) as ssh:
        config, sparse, dense = (_guest(lab) for _ in range(3))
        _write(config.directory(one) / "disk.config", CONFIG_BYTES, [(0, CONFIG_BYTES)])
        piece, gap = DATA_BYTES // PIECES, SPARSE_BYTES // PIECES
        _write(sparse.directory(one) / "disk.eph0", SPARSE_BYTES,
               [(n * gap, piece) for n in range(PIECES)])
        _write(dense.directory(one) / "disk.eph0", DATA_BYTES, [(0, DATA_BYTES)])
        ours.once(config)
        ssh.rsync(config, "-aS")
        with bench.progress("bulk", 2 * ROUNDS + 3 * SPARSE_ROUNDS) as step:
            large = Table("a disk.config of 64 MiB", "ms", measure.alternate(ROUNDS, {
                OURS: lambda: ours.once(config),
                RSYNC: lambda: ssh.rsync(config, "-aS")}, step))
            holes = Table("10 GiB with 8 MiB of data", "ms", measure.alternate(SPARSE_ROUNDS, {
                OURS: lambda: ours.once(sparse),
                DENSE: lambda: ours.once(dense),
                RSYNC: lambda: ssh.rsync(sparse, "-aS")}, step))
    return Result("bulk", [large, holes], [
        Goal("64 MiB: ratio to rsync -aS", large.ratio(RSYNC), 1),
        Goal("10 GiB sparse: ratio to rsync -aS", holes.ratio(RSYNC), 1),
        Goal("10 GiB sparse: ratio to its data alone", holes.ratio(DENSE), 1.2)])


def _guest(lab: labs.Lab) -> labs.Guest:
    return lab.define_guest(lab.host("node1"), console=False)


def _write(path: pathlib.Path, size: int, data: list[tuple[int, int]]) -> None:
    """A file of ``size`` bytes with random data at (offset, length) and holes elsewhere."""
    with path.open("wb") as file:
        file.truncate(size)
        for offset, length in data:
            file.seek(offset)
            file.write(os.urandom(length))
