# SPDX-License-Identifier: Apache-2.0
"""One digest for a file's content, the same wherever its holes are.

SHA-256 over the size (8 bytes, big-endian) and, for each aligned block of
64 KiB that is not all zero, in ascending order, its offset (8 bytes) and its
bytes.  Holes are never read, so that the cost follows the data: a file of
1 TiB with one block of data takes milliseconds.

Two different contents never give the same input to SHA-256: the size tells
how long the block at each offset is, so the input can be taken apart again in
one way only, and every block that is missing from it is known to be zero.  A
hole and written zeros give the same input, because a block of zeros is left
out in both cases.
"""

import hashlib
import os

from rbd_worker.host import sparse

BLOCK = 1 << 16
_ZEROS = bytes(BLOCK)


def of(fd: int, size: int) -> str:
    """The digest of the first ``size`` bytes of an open file, in hexadecimal.

    The file may grow meanwhile; the file offset is not relied upon.

    :raises errors.DirectoryChanged: the file is or becomes shorter than ``size``.
    """
    hasher = _begun(size)
    done = 0  # every block before it is in the digest
    for begin, end in sparse.data_ranges(fd, size):
        position = max(done, begin - begin % BLOCK)
        done = min(size, end + -end % BLOCK)
        while position < done:
            piece = sparse.read_exactly(fd, min(sparse.PIECE, done - position), position)
            _add(hasher, piece, position)
            position += len(piece)
    if os.fstat(fd).st_size < size:
        raise sparse.became_shorter(fd)
    return hasher.hexdigest()


def of_zeros(size: int) -> str:
    """The digest of ``size`` zero bytes: nothing needs to be carried for those."""
    return _begun(size).hexdigest()


def _begun(size: int) -> "hashlib._Hash":
    return hashlib.sha256(size.to_bytes(8, "big"))


def _add(hasher: "hashlib._Hash", piece: bytes, offset: int) -> None:
    for start in range(0, len(piece), BLOCK):
        block = piece[start:start + BLOCK]
        if block != _ZEROS[:len(block)]:
            hasher.update((offset + start).to_bytes(8, "big"))
            hasher.update(block)
