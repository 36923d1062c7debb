# SPDX-License-Identifier: Apache-2.0
"""Makes ``time.time`` of this process jump: Python imports this before the worker.

The file named in CHAOS_CLOCK holds the seconds to add.  Only the wall clock is
changed, and only as Python code reads it, which is how the worker does; kernel
timeouts stay true.  (libfaketime also rewrites the monotonic sleeps of Python
3.11, which then fail with EINVAL and end oslo.messaging's threads.)
"""

import os
import time

_true_time = time.time


def _time() -> float:
    try:
        with open(os.environ["CHAOS_CLOCK"]) as file:
            return _true_time() + float(file.read())
    except (OSError, ValueError):
        return _true_time()


if "CHAOS_CLOCK" in os.environ:
    time.time = _time
