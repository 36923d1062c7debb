# SPDX-License-Identifier: Apache-2.0
"""What every benchmark is given: the lab, brought up when it is first asked for, and progress."""

import collections.abc
import contextlib
import os
import pathlib
import signal
import types
import typing as ty

from rich import progress
from rich.console import Console

from devstack import lab as labs
from tests import lab_session

#: A run's own lab is named for the number of its process.
OWN_LABS = "/var/tmp/rbdw-bench-"
OTHER_LABS = "/var/tmp/rbdw-other-"


class TookTooLong(Exception):
    """A benchmark is still at work after the time it was given."""


class Bench:
    """A context manager; at its end the lab is gone, whatever happened.

    :param lab: one that is up already, and stays.
    """

    def __init__(self, console: Console, lab: labs.Lab | None = None) -> None:
        self.console = console
        self._lab = lab
        self._ends = contextlib.ExitStack()

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    @property
    def lab(self) -> labs.Lab:
        """The lab in its first state: no workers, guests, directories, images or queues."""
        if self._lab is None:
            self.console.print("bringing up the lab")
            self._lab = self._ends.enter_context(lab_session.own_lab(OWN_LABS))
        self._lab.reset()
        return self._lab

    @contextlib.contextmanager
    def another_lab(self) -> collections.abc.Iterator[labs.Lab]:
        """A lab for one benchmark alone, which may change it for good; gone afterwards."""
        root = pathlib.Path(f"{OTHER_LABS}{os.getpid()}")
        try:
            yield labs.up(root=root)
        finally:
            labs.down(root)

    @contextlib.contextmanager
    def progress(self, what: str, total: int,
                 ) -> collections.abc.Iterator[ty.Callable[[], None]]:
        """A bar on the terminal; what is given advances it by one."""
        columns = (progress.TextColumn("{task.description}"), progress.BarColumn(),
                   progress.MofNCompleteColumn(), progress.TimeElapsedColumn())
        with progress.Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda: bar.advance(task)


@contextlib.contextmanager
def time_limit(seconds: int) -> collections.abc.Iterator[None]:
    """Raise :class:`TookTooLong` in the main thread once the time is over.

    Also out of a wait that was meant to be longer: a run must come to its end
    while nobody looks.
    """
    def end(_number: int, _frame: types.FrameType | None) -> None:
        raise TookTooLong(f"not over after {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
