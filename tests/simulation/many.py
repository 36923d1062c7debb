# SPDX-License-Identifier: Apache-2.0
"""Many schedules, on every core."""

import concurrent.futures
import contextlib
import dataclasses
import itertools
import logging
import multiprocessing
import pathlib
import subprocess
import tempfile
import typing as ty

from rbd_worker.model import Executor, Role
from tests.simulation import play

#: Schedules that a process plays between two reports.
BATCH = 50


@dataclasses.dataclass(frozen=True)
class Report:
    """:ivar failing: seeds that broke a promise.
    :ivar killed_after: records after which some worker was killed."""

    played: int = 0
    failing: tuple[int, ...] = ()
    killed_after: frozenset[tuple[Executor, Role, str, str]] = frozenset()

    def __add__(self, other: "Report") -> "Report":
        return Report(self.played + other.played, self.failing + other.failing,
                      self.killed_after | other.killed_after)


def batch(seeds: range) -> Report:
    """Play some schedules in this process."""
    failing = []
    killed_after: set[tuple[Executor, Role, str, str]] = set()
    with memory() as root, quiet_logs():
        for seed in seeds:
            result = play.play(play.of(seed), root)
            killed_after |= result.killed_after
            if result.breaches:
                failing.append(seed)
    return Report(len(seeds), tuple(failing), frozenset(killed_after))


def reports(seeds: range, processes: int) -> ty.Iterator[Report]:
    """Play them in as many processes; a report for each batch as soon as it is done."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, context) as pool:
        batches = (seeds[n:n + BATCH] for n in range(0, len(seeds), BATCH))
        waiting = {pool.submit(batch, each) for each in itertools.islice(batches, 4 * processes)}
        while waiting:
            done, waiting = concurrent.futures.wait(
                waiting, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                yield future.result()
                waiting |= {pool.submit(batch, each) for each in itertools.islice(batches, 1)}


@contextlib.contextmanager
def memory() -> ty.Iterator[pathlib.Path]:
    """A directory in memory where that is possible: nothing here is about a power failure."""
    place = pathlib.Path("/dev/shm")
    root = tempfile.mkdtemp(dir=place if place.is_dir() else None, prefix="rbd-worker-")
    try:
        yield pathlib.Path(root)
    finally:
        subprocess.run(["rm", "-rf", root], check=False)  # many times faster than shutil's


@contextlib.contextmanager
def quiet_logs() -> ty.Iterator[None]:
    """The worker's log lines cost more than its work here; only errors are looked at."""
    logger = logging.getLogger("rbd_worker")
    before = logger.level, logger.propagate
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        yield
    finally:
        logger.level, logger.propagate = before
        logger.manager._clear_cache()  # type: ignore[attr-defined]
