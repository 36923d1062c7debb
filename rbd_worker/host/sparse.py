# SPDX-License-Identifier: Apache-2.0
"""Reading and writing files with holes, at a cost that follows the data, not the size."""

import errno
import os
import typing as ty

from rbd_worker import errors
from rbd_worker.host import syscalls

#: Bytes that are read or written at once.
PIECE = 1 << 20
#: A run of zeros this long becomes a hole: a block of the usual file systems.
_BLOCK = 4096
_ZEROS = bytes(_BLOCK)


def data_ranges(fd: int, size: int, start: int = 0) -> ty.Iterator[tuple[int, int]]:
    """Where data is between ``start`` and ``size``: pairs of begin and end, ascending."""
    while start < size:
        begin = next_data(fd, start, size)
        if begin >= size:
            return
        try:
            end = min(os.lseek(fd, begin, os.SEEK_HOLE), size)
        except OSError as e:
            if e.errno != errno.ENXIO:
                raise
            return  # it was truncated just now; reading will tell
        if end <= begin:
            return
        yield begin, end
        start = end


def next_data(fd: int, offset: int, size: int) -> int:
    """The first offset from ``offset`` on that is not in a hole; ``size`` where there is none."""
    if offset >= size:
        return size
    try:
        return min(os.lseek(fd, offset, os.SEEK_DATA), size)
    except OSError as e:
        if e.errno == errno.ENXIO:
            return size
        raise


def read_exactly(fd: int, length: int, offset: int) -> bytes:
    """``length`` bytes from ``offset``.

    :raises errors.DirectoryChanged: the file became shorter.
    """
    data = os.pread(fd, length, offset)
    while len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            raise became_shorter(fd)
        data += more
    return data


def became_shorter(fd: int) -> errors.DirectoryChanged:
    return errors.DirectoryChanged(path=syscalls.name_of(fd), reason="it became shorter")


def write_sparsely(fd: int, data: bytes, offset: int) -> int:
    """Write into a place that was never written before, zeros left out; bytes written."""
    if _ZEROS not in data:
        write_all(fd, data, offset)
        return len(data)
    written = 0
    for begin, end in _runs(data):
        write_all(fd, memoryview(data)[begin:end], offset + begin)
        written += end - begin
    return written


def copy(source: int, fd: int, begin: int, end: int, offset: int) -> int:
    """Copy ``begin`` to ``end`` of one file to ``offset`` of another, holes left out."""
    written = 0
    for first, last in data_ranges(source, end, begin):
        for position in range(first, last, PIECE):
            data = read_exactly(source, min(PIECE, last - position), position)
            written += write_sparsely(fd, data, offset + position - begin)
    return written


def _runs(data: bytes) -> ty.Iterator[tuple[int, int]]:
    """Runs of blocks that are not all zero."""
    begin: int | None = None
    for position in range(0, len(data), _BLOCK):
        block = data[position:position + _BLOCK]
        if block == _ZEROS[:len(block)]:
            if begin is not None:
                yield begin, position
            begin = None
        elif begin is None:
            begin = position
    if begin is not None:
        yield begin, len(data)


def write_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count
