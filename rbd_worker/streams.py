# SPDX-License-Identifier: Apache-2.0
"""Standard streams that are closed, full, or read by nobody."""

import contextlib
import errno
import os
import signal
import sys

#: As a shell tells of a program that SIGPIPE ended: ``head`` has read enough.
NOBODY_READS = 128 + signal.SIGPIPE
#: Why a stream cannot be written.
WRITE_ERRORS = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def ensure_open() -> None:
    """Have a closed standard stream be /dev/null, as git does; first thing in a process.

    Otherwise the next file or socket gets its number, and what is printed goes
    there.  What the terminal's encoding does not know is printed as "?".
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: its own
            if null <= 2:
                os.set_inheritable(null, True)
            setattr(sys, name, os.fdopen(null, mode))
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def finish(program: str, status: int) -> int:
    """Have everything printed; the exit status, which is ``status`` where that went well."""
    try:
        if not sys.stdout.closed:  # as cliff does after its help
            sys.stdout.flush()
    except OSError as e:
        return unprinted(program, e)
    return status


def unprinted(program: str, error: OSError) -> int:
    """Tell why standard output cannot be written; the exit status."""
    with contextlib.suppress(OSError, ValueError):  # Python would try again at its end
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    if isinstance(error, BrokenPipeError):
        return NOBODY_READS
    print(f"{program}: standard output cannot be written: {error.strerror}", file=sys.stderr)
    return 1
