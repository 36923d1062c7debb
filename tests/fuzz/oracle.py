# SPDX-License-Identifier: Apache-2.0
"""What must hold after every input, whatever it was.

Time and memory are watched from outside (``-timeout`` and ``-rss_limit_mb`` of
libFuzzer); here is what only the target itself can see.
"""

import os
import pathlib
import shutil
import stat
import tempfile
import typing as ty
import unicodedata

import oslo_messaging

from rbd_worker import errors
from rpcapi import errors as peer_errors
from tests.fixtures import wire

#: Longest text of an error, in characters: it goes to logs and to the journal.
MAX_TEXT = 9000

T = ty.TypeVar("T")

Tree: ty.TypeAlias = dict[str, tuple[object, ...]]


class Broken(Exception):
    """An input made the code break a promise."""


def outcome_of(call: ty.Callable[[], T], *kinds: type[Exception]) -> T | Exception:
    """What ``call`` returns, or the error it raised, which must be one of ``kinds``.

    :param kinds: ``errors.Error`` where nothing else is given.
    :raises Broken: the error's text could not be shown to anybody.
    """
    expected = kinds if kinds else (errors.Error,)
    try:
        return call()
    except expected as e:
        check_text(e.sentence if isinstance(e, errors.Error) else str(e))
        return e


def check_text(text: str) -> None:
    """An error's text holds no secret and is one short line."""
    if wire.SECRET in text:
        raise Broken("a secret is in an error's text")
    check_line(text)


def check_line(text: str) -> None:
    """One short line that cannot steer a terminal."""
    if len(text) > MAX_TEXT:
        raise Broken(f"a text has {len(text)} characters")
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
        raise Broken(f"a text has control characters: {text!r}")


def check_refusal(raised: oslo_messaging.ExpectedException) -> None:
    """What the RPC edge answers a caller with is one of its own errors, and was foreseen."""
    error = raised.exc_info[1]
    check_text(str(error))
    require(isinstance(error, (peer_errors.PeerRefused, peer_errors.PeerBusy,
                               peer_errors.PeerUndecided)), "a foreign error goes out")
    require("internal error" not in str(error), f"not foreseen: {error}")


def require(condition: object, promise: str) -> None:
    """:raises Broken: the promise does not hold."""
    if not condition:
        raise Broken(promise)


class Sandbox:
    """A small disk in memory: ``inside`` is handed to the code, the rest must stay as it is."""

    def __init__(self) -> None:
        shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self._home = tempfile.TemporaryDirectory(prefix="rbd-worker-fuzz-", dir=shared)
        self.root = pathlib.Path(self._home.name)
        self.inside = self.root / "inside"
        self.inside.mkdir()
        outside = self.root / "outside"
        (outside / "directory").mkdir(parents=True)
        (outside / "file").write_bytes(b"nobody may touch this")
        (outside / "directory" / "file").write_bytes(b"nor this")
        self._before = self._outside()

    def check(self) -> None:
        """:raises Broken: something outside is not as it was."""
        require(self._outside() == self._before, "something outside of the sandbox has changed")

    def emptied(self) -> pathlib.Path:
        """``inside``, with nothing in it."""
        for path in self.inside.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        return self.inside

    def _outside(self) -> Tree:
        return tree_of(str(self.root), leave_out="inside")


def tree_of(path: str, leave_out: str = "") -> Tree:
    """All that can be told of a tree, by path; links are not followed."""
    found: Tree = {}
    with os.scandir(path) as listing:
        for entry in listing:
            if entry.name == leave_out:
                continue
            status = entry.stat(follow_symlinks=False)
            content = b""
            if stat.S_ISREG(status.st_mode):
                with open(entry.path, "rb") as file:
                    content = file.read()
            elif stat.S_ISDIR(status.st_mode):
                found |= tree_of(entry.path)
            found[entry.path] = (status.st_mode, status.st_uid, status.st_gid, status.st_ino,
                                 status.st_mtime_ns, status.st_nlink, content)
    return found
