# SPDX-License-Identifier: Apache-2.0
"""Locks that leave no file behind and end with their process, even after kill -9."""

import collections.abc
import contextlib
import errno
import socket
import time

from devstack.lab import errors, processes


@contextlib.contextmanager
def held(name: str, seconds: float, busy: str) -> collections.abc.Iterator[None]:
    """Hold the machine-wide lock ``name``: the name of an abstract Unix socket.

    :param seconds: how long to wait for another holder, see :func:`processes.patience`.
    :param busy: what is said when it does not let go.
    """
    deadline = time.monotonic() + processes.patience(seconds)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
        while True:
            try:
                lock.bind("\0rbd-worker-lab:" + name)
                break
            except OSError as e:
                if e.errno != errno.EADDRINUSE:
                    raise
                if time.monotonic() > deadline:
                    raise errors.LabError(busy) from e
                time.sleep(0.05)
        yield
