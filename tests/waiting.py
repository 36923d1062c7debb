# SPDX-License-Identifier: Apache-2.0
"""Waiting beside workers whose logs explain why it was in vain."""

import collections.abc

from devstack import lab as labs
from devstack.lab import processes


def until(condition: collections.abc.Callable[[], bool], what: str, seconds: float,
          workers: collections.abc.Mapping[str, labs.Worker],
          shown: collections.abc.Callable[[], object] = str) -> None:
    """Wait for ``condition``.

    :param workers: by the names of their hosts.
    :param shown: what there is instead, for the error.
    :raises AssertionError: with the end of the workers' logs.
    """
    try:
        processes.wait_until(condition, seconds, what)
    except labs.TookTooLong as e:
        logs = "\n".join(f"--- worker on {name}\n{worker.log_text[-4000:]}"
                         for name, worker in workers.items())
        raise AssertionError(f"{e}: {shown()}\n{logs}") from e
