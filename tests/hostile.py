# SPDX-License-Identifier: Apache-2.0
"""A process that swaps what stands under names, as fast as it goes: ``python -m tests.hostile``.

It plays whoever can write below instances_path: the nova user, QEMU's, a guest
that owns QEMU.  While it is let loose it exchanges random pairs of names
(``RENAME_EXCHANGE``, so that no name is ever empty): real files and directories
for symbolic links to the outside, hard links, fifos and other directories.
"""

import contextlib
import mmap
import os
import pathlib
import random
import struct
import subprocess
import sys
import time
import types
import typing as ty

from devstack.lab import processes
from rbd_worker import errors
from rbd_worker.host import syscalls

#: Offsets of what both processes see: the order, its acknowledgement, and the swaps so far.
_ORDER, _ACKNOWLEDGED, _SWAPS = 0, 8, 16
#: None is 0, which a reader may see for a moment: struct clears what it is about to write.
_PAUSE, _GO, _STOP = 1, 2, 3
_PATIENCE = processes.patience(30)
#: Between two swaps at most, in seconds; the code has to get into the middle now and then.
_LONGEST_PAUSE = 0.0002


class Swapper:
    """The process, from ``with`` to its end; paused until it is let loose.

    :param root: everything it may touch.
    :param names: pairs of paths below ``root`` to exchange; those that are not there are left.
    """

    def __init__(self, root: pathlib.Path, names: ty.Sequence[tuple[str, str]]) -> None:
        self._board = _board(root / "board", create=True)
        _write(self._board, _ORDER, _PAUSE)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile", str(root),
             *(name for pair in names for name in pair)],
            cwd=pathlib.Path(__file__).resolve().parents[1])
        self._wait_for(_PAUSE)

    @contextlib.contextmanager
    def loose(self) -> ty.Iterator[None]:
        """It swaps until the block ends, and has stopped when the block is left."""
        _write(self._board, _ORDER, _GO)
        self._wait_for(_GO)
        try:
            yield
        finally:
            _write(self._board, _ORDER, _PAUSE)
            self._wait_for(_PAUSE)

    @property
    def swaps(self) -> int:
        """How many names it has exchanged so far."""
        return _read(self._board, _SWAPS)

    def __enter__(self) -> ty.Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        _write(self._board, _ORDER, _STOP)
        self._process.wait(_PATIENCE)

    def _wait_for(self, order: int) -> None:
        deadline = time.monotonic() + _PATIENCE
        while _read(self._board, _ACKNOWLEDGED) != order:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the hostile process has ended")
            time.sleep(0.0005)


def _swap(root: pathlib.Path, names: list[str]) -> None:
    """Obey the board until it says to stop."""
    board = _board(root / "board", create=False)
    pairs = list(zip(names[::2], names[1::2], strict=True))
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    swaps = 0
    while (order := _read(board, _ORDER)) != _STOP:
        if order and _read(board, _ACKNOWLEDGED) != order:
            _write(board, _ACKNOWLEDGED, order)
        if order != _GO:
            time.sleep(0.0005)
            continue
        if _exchanged(top, *random.choice(pairs)):
            swaps += 1
            _write(board, _SWAPS, swaps)
        until = time.perf_counter() + random.random() * _LONGEST_PAUSE
        while time.perf_counter() < until:
            pass


def _exchanged(top: int, one: str, other: str) -> bool:
    """Through no link that it made itself: what is outside has to stay as it is for the proof."""
    try:
        with (syscalls.parent_of(one, top) as (first, name),
              syscalls.parent_of(other, top) as (second, other_name)):
            syscalls.exchange(name, first, other_name, second)
    except (OSError, errors.FileSystemUnfit):  # it is gone, or a directory into itself
        return False
    return True


def _board(path: pathlib.Path, create: bool) -> mmap.mmap:
    with path.open("w+b" if create else "r+b") as file:
        if create:
            file.truncate(mmap.PAGESIZE)
        return mmap.mmap(file.fileno(), mmap.PAGESIZE)


def _read(board: mmap.mmap, offset: int) -> int:
    return int(struct.unpack_from("q", board, offset)[0])


def _write(board: mmap.mmap, offset: int, value: int) -> None:
    struct.pack_into("q", board, offset, value)


if __name__ == "__main__":
    _swap(pathlib.Path(sys.argv[1]), sys.argv[2:])
