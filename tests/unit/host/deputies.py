# SPDX-License-Identifier: Apache-2.0
"""A process with the rights of the unit: another user, two capabilities, then none."""

import collections.abc
import contextlib
import os
import pathlib
import pickle
import signal
import typing as ty

import pytest

from rbd_worker.host import deputy, privileged, separation, syscalls
from tests.unit.host.trees import NOBODY, Host, world_readable

T = ty.TypeVar("T")


@pytest.fixture
def host() -> ty.Iterator[Host]:
    """instances_path of the user ``nobody``."""
    with world_readable() as path:
        one = Host(path / "instances")
        os.chown(one.path, NOBODY, NOBODY)
        yield one


def make(host: Host, instance: str, **files: bytes) -> pathlib.Path:
    """The instance's directory, which is the worker's, with files that are root's alone."""
    directory = host.make(instance, **files)
    os.chown(directory, NOBODY, NOBODY)
    for file in directory.iterdir():
        file.chmod(0o600)
    return directory


def as_worker(host: Host, action: ty.Callable[[], T],
              kept: collections.abc.Collection[int] = privileged.CAPABILITIES) -> T:
    """What ``action`` returns in a worker's process, after the separation.

    :param kept: the capabilities that the process begins with.
    """
    def run() -> T:
        become(kept)
        separation.separate(str(host.path))
        return action()

    return in_child(run)


def become(kept: collections.abc.Collection[int]) -> None:
    """This process belongs to ``nobody``, with these capabilities."""
    privileged.capabilities.set_keepcaps(True)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    privileged.capabilities.set_keepcaps(False)
    privileged.capabilities.drop_all_caps_except(kept, kept, [])


def in_child(action: ty.Callable[[], T]) -> T:
    """What ``action`` returns in a child process; what it raises, as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)  # who hangs is ended, and the test sees that there is no answer
        try:
            answer: tuple[bool, ty.Any] = True, action()
        except BaseException as e:
            answer = False, (type(e).__name__, str(e))
        os.write(writer, pickle.dumps(answer))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        went_well, result = pickle.load(pipe)
        assert not pipe.read(), "a second process went on as if it were the first"
    os.waitpid(child, 0)
    if not went_well:
        raise RuntimeError(*result)
    return ty.cast(T, result)


def channel() -> privileged.Channel:
    """The worker's way to the process with privileges."""
    holder = deputy._office.holder
    assert isinstance(holder, privileged.Channel)
    return holder


def ask(what: str, *arguments: ty.Any, at: collections.abc.Iterable[pathlib.Path]) -> list[int]:
    """Ask as a process would that was taken over: past every check on this side."""
    with contextlib.ExitStack() as until_then:
        descriptors = [until_then.enter_context(syscalls.held(os.open(path, _flags(path))))
                       for path in at]
        return channel().ask(what, descriptors, *arguments)


def refusal(what: str, *arguments: ty.Any, at: collections.abc.Iterable[pathlib.Path]) -> bool:
    """True where it was refused; what was given all the same is closed."""
    try:
        for descriptor in ask(what, *arguments, at=at):
            os.close(descriptor)
    except PermissionError:
        return True
    return False


def _flags(path: pathlib.Path) -> int:
    return os.O_PATH | os.O_CLOEXEC
