# SPDX-License-Identifier: Apache-2.0
"""A lab for one session of tests: the functional ones', or the gate's."""

import collections.abc
import contextlib
import os
import pathlib

import pytest

from devstack import lab as labs


def demand(reason: str) -> None:
    """End the test here where there is a ``reason`` why it cannot run.

    It is skipped; where CI is set it fails, since there a silent skip would
    look like success.
    """
    if reason and os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)


def mark(items: list[pytest.Item], here: pathlib.Path, name: str) -> None:
    """Have every test below ``here`` carry a mark; where CI is set, one that fails is tried again.

    What RabbitMQ, QEMU, libvirt and Nova do in one moment on a busy machine is not the project's
    to decide, and one such moment in three hundred tests shall not hide what the others found.
    The second attempt counts.  The first is told in full: it is to be looked into all the same.
    """
    for item in items:
        if here in item.path.parents:
            item.add_marker(name)
            if os.environ.get("CI"):
                item.add_marker(pytest.mark.flaky(reruns=1))


@contextlib.contextmanager
def own_lab(prefix: str) -> collections.abc.Iterator[labs.Lab]:
    """The session's own lab, apart from one that a developer may have up.

    With RBD_WORKER_LAB set that directory is used, and a lab that is up there
    already is left up: handy for running one test again and again.  Where the
    tests are spread over several processes, each has a lab of its own.

    :param prefix: path of the session's labs, up to the number of its process.
    """
    named = os.environ.get("RBD_WORKER_LAB")
    if named:
        root = pathlib.Path(named + os.environ.get("PYTEST_XDIST_WORKER", "").replace("gw0", ""))
    else:
        _sweep(pathlib.Path(prefix))
        root = pathlib.Path(f"{prefix}{os.getpid()}")
    was_up = root.exists()
    one = labs.up(root=root)
    try:
        yield one
    finally:
        if not (named and was_up):
            one.down()


def _sweep(labs_of_sessions: pathlib.Path) -> None:
    """Remove the labs of sessions that were killed."""
    name = labs_of_sessions.name
    for root in labs_of_sessions.parent.glob(name + "*"):
        if not pathlib.Path("/proc", root.name.removeprefix(name)).exists():
            labs.down(root)
