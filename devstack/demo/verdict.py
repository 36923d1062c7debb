# SPDX-License-Identifier: Apache-2.0
"""What has to be true after the three moves, and how it looks on both hosts."""

import dataclasses
import hashlib
import os
import pathlib

from rich.console import Console
from rich.table import Table

from devstack import lab as labs
from devstack.demo.moves import Move

SPARSE_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class Check:
    what: str
    holds: bool


def fill(directory: pathlib.Path, config_bytes: int, history_bytes: int) -> dict[str, str]:
    """Put files beside the guest's own; returns name and SHA-256 of what has to arrive."""
    (directory / "disk.config").write_bytes(os.urandom(config_bytes))
    (directory / "console.log.0").write_bytes(os.urandom(history_bytes // 2).hex().encode())
    with (directory / "ephemeral.seed").open("wb") as sparse:
        sparse.truncate(SPARSE_BYTES)
        sparse.seek(SPARSE_BYTES // 2)
        sparse.write(b"data in the middle of a hole")
    (directory / "disk.config").chmod(0o640)
    os.utime(directory / "disk.config", (1_500_000_000, 1_500_000_000))
    return {name: _sha256(directory / name) for name in ("disk.config", "disk.info")}


def checks(lab: labs.Lab, guest: labs.Guest, files: dict[str, str],
           moves: list[Move]) -> list[Check]:
    """Every claim of the demo, looked at from outside the workers."""
    holder, other = lab.host("node2"), lab.host("node1")
    here = guest.directory(holder)
    config, sparse = here / "disk.config", here / "ephemeral.seed"
    return [
        Check("all three migrations are completed on both hosts",
              all(move.is_completed for move in moves) and len(moves) == 3),
        Check("the guest runs on node2 and nowhere else", guest.running_on() == ["node2"]),
        Check("one instance directory, where the guest runs",
              here.is_dir() and not guest.directory(other).exists()),
        Check("disk.config and disk.info are the same, byte by byte",
              all((here / name).exists() and _sha256(here / name) == digest
                  for name, digest in files.items())),
        Check("mode and time of disk.config are the same",
              config.exists() and config.stat().st_mode & 0o7777 == 0o640
              and int(config.stat().st_mtime) == 1_500_000_000),
        Check("a sparse file of 1 GiB still costs nothing",
              sparse.exists() and sparse.stat().st_size == SPARSE_BYTES
              and sparse.stat().st_blocks * 512 < 1 << 20),
        Check("the console of before the first move is still there",
              "tick" in _history(here)),
        Check("the disk is watched from node2 only",
              set(guest.watchers()) == {holder.address}),
        Check("each source's directory is in its trash, to be restored if need be",
              [len(_trash(lab.host(name))) for name in ("node1", "node2")] == [2, 1]),
    ]


def show(found: list[Check], lab: labs.Lab, guest: labs.Guest, console: Console) -> None:
    for name in ("node1", "node2"):
        host = lab.host(name)
        table = Table(title=f"{name}: /var/lib/nova/instances/{guest.uuid}", title_justify="left")
        for column in ("file", "bytes", "on disk"):
            table.add_column(column, justify="left" if column == "file" else "right")
        directory = guest.directory(host)
        for path in sorted(directory.iterdir()) if directory.is_dir() else ():
            status = path.stat()
            table.add_row(path.name, f"{status.st_size:,}", f"{status.st_blocks * 512:,}")
        console.print(table if directory.is_dir() else f"{name}: no directory")
        console.print(f"{name}: trash: {', '.join(_trash(host)) or 'empty'}")
    console.print(f"RBD watchers of {guest.image}: {', '.join(guest.watchers())}")
    for check in found:
        console.print(f"  {'[green]yes[/]' if check.holds else '[red]NO [/]'}  {check.what}")


def _history(directory: pathlib.Path) -> str:
    return "".join(path.read_text(errors="replace")
                   for path in sorted(directory.glob("console.log.*")))


def _trash(host: labs.Host) -> list[str]:
    trash = host.nova_instances / ".rbd-worker/trash"
    return sorted(path.name for path in trash.iterdir()) if trash.is_dir() else []


def _sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
