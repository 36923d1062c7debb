# SPDX-License-Identifier: Apache-2.0
"""Where something is mounted: a directory or a file that is not the instance's own.

Device numbers do not tell: what is bind-mounted from the same file system has
the same one.
"""

import os
import re

_TABLE = "/proc/self/mountinfo"
#: Place of the mount point in a line, see proc(5).
_POINT = 4
_ESCAPED = re.compile(rb"\\([0-7]{3})")


def below(fd: int) -> frozenset[str]:
    """The mount points below an open directory, relative to it, as this process sees them."""
    top = os.fsencode(os.readlink(f"/proc/self/fd/{fd}")) + b"/"
    with open(_TABLE, "rb", buffering=0) as table:
        text = table.read()
    if b" " + top not in _unescaped(text):
        return frozenset()  # hundreds of lines on a host, and hardly ever one of these
    points = [_unescaped(line.split(b" ")[_POINT]) for line in text.split(b"\n") if line]
    return frozenset(os.fsdecode(point.removeprefix(top)) for point in points
                     if point.startswith(top))


def _unescaped(text: bytes) -> bytes:
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), text)
