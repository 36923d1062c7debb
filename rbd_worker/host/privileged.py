# SPDX-License-Identifier: Apache-2.0
"""What the process with privileges does for the one that hears the network.

``separate`` forks it off before the first thread and then takes every
capability from this process.  Each function below runs over there, is short
and is named for the state it brings about; which files a call is about comes
as open descriptors through a passage beside oslo.privsep's channel.

The caller may have been taken over by an attacker.  So whatever it hands over
is looked up again from instances_path down (:mod:`rbd_worker.host.beneath`);
nothing is opened for writing, made or emptied; only regular files and
directories are opened; what belongs to others changes owner or goes away only
inside of this worker's own area; and no set-user-id bit is ever set.
"""

import collections.abc
import contextlib
import os
import signal
import sys
import threading
import typing as ty

from oslo_privsep import capabilities, comm, daemon, priv_context

from rbd_worker.host import beneath, deputy, passage, syscalls

#: All that file work ever needs, and why:
#: CHOWN: a copy gets the owner of its original, and what leaves the trash for good
#: is made this worker's own first.
#: DAC_OVERRIDE: console.log is readable for QEMU's user only.  DAC_READ_SEARCH is not
#: enough: a directory that an administrator made as root is moved to the trash too, and
#: moving a directory writes into it (its ``..``).
#: FOWNER is not among them: mode and times are set while a file is still this worker's own.
CAPABILITIES = (capabilities.Capabilities.CAP_CHOWN, capabilities.Capabilities.CAP_DAC_OVERRIDE)
NAMES = tuple(capability.name for capability in CAPABILITIES)

#: Its options' group; not ``privsep``, which in nova.conf is about Nova's own.
GROUP = "rbd_worker_privileged"
#: Seconds for one call: a system call or two on files, which only a file system that
#: hangs makes slow.
_SECONDS = 20.0
_MOVES = (0, syscalls.NOREPLACE, syscalls.EXCHANGE)
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
_MAX_ID = 0xFFFFFFFE  # the one above it means "as it is"


class _Inside(ty.NamedTuple):
    """What the process with privileges has from before the fork."""

    base: beneath.Base
    passage: passage.Passage
    outer: passage.Passage


class _PrivsepChannel(daemon.ForkingClientChannel):
    """oslo.privsep's, which waits for ever where the other process dies before it answers.

    The kernel then says "connection reset" instead of "end".
    """

    def _reader_main(self, reader: comm.Deserializer) -> None:
        super()._reader_main(ty.cast(comm.Deserializer, _until_the_end(reader)))

    def exchange_ping(self) -> None:
        if self.send_recv((comm.Message.PING.value,), _SECONDS)[0] != comm.Message.PONG:
            raise daemon.FailedToDropPrivileges("it does not answer")


def _until_the_end(reader: comm.Deserializer) -> ty.Iterator[ty.Any]:
    with contextlib.suppress(ConnectionResetError):
        yield from reader


class _Context(priv_context.PrivContext):
    """Begun by a fork once; never again, and never by way of sudo."""

    inside: _Inside | None = None

    def start(self, method: priv_context.Method = priv_context.Method.ROOTWRAP) -> None:
        if method is not priv_context.Method.FORK:
            raise daemon.FailedToDropPrivileges("it has ended")
        self.channel = _PrivsepChannel(self)


context = _Context("rbd_worker.host.privileged", cfg_section=GROUP, capabilities=CAPABILITIES,
                   timeout=_SECONDS)


# -- over there ----------------------------------------------------------------


@context.entrypoint
def ready() -> int:
    """Closed for what it will never need again; its process id.

    oslo.privsep imports whatever module a call names before it looks whether
    the function may be called: from now on nothing more can be imported.
    """
    _inner().outer.close()
    sys.meta_path.clear()
    with contextlib.suppress(OSError), open("/proc/self/comm", "wb") as name:
        name.write(b"rbd-worker-priv")  # as ps shows it
    return os.getpid()


@context.entrypoint
def open_directory(number: int, name: str) -> int:
    """The directory ``name``, open for listing."""
    with _found(number, 1) as (place,):
        return _returned(number, syscalls.open_directory(place.entry(name), place.fd))


@context.entrypoint
def open_regular(number: int, name: str) -> int:
    """The regular file ``name``, open for reading; nothing for something else."""
    with _found(number, 1) as (place,):
        fd = syscalls.open_regular(place.entry(name), place.fd)
        if fd is not None:
            with _closed_on_error(fd):
                beneath.demand_only_name(os.fstat(fd))
        return _returned(number, fd)


@context.entrypoint
def see(number: int, name: str) -> int:
    """What stands under ``name``, to be looked at but not read."""
    with _found(number, 1) as (place,):
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        return _returned(number, os.open(place.entry(name), flags, dir_fd=place.fd))


@context.entrypoint
def ensure_moved(number: int, name: str, new_name: str, flags: int) -> int:
    """Renamed; what stands under the new name is replaced only in this worker's own area."""
    with _found(number, 2) as (place, new_place):
        if flags not in _MOVES or not (flags or new_place.is_in_own_area):
            raise beneath.refused(f"a rename with flags {flags!r}")
        syscalls.rename_as_it_is(place.entry(name), place.fd, new_place.entry(new_name),
                                 new_place.fd, flags)
        return 0


@context.entrypoint
def ensure_absent(number: int, name: str) -> int:
    """A file, or an empty directory, of this worker's own area is gone."""
    with _found(number, 1) as (place,):
        if not place.is_in_own_area:
            raise beneath.refused(f"a removal in {'/'.join(place.parts)}")
        try:
            os.unlink(place.entry(name), dir_fd=place.fd)
        except IsADirectoryError:
            os.rmdir(name, dir_fd=place.fd)
        return 0


@context.entrypoint
def ensure_attributes(number: int, uid: int, gid: int, mode: int, mtime_ns: int) -> int:
    """Owner, mode and time of what is this worker's own or in its own area.

    :param mtime_ns: nanoseconds since the epoch; 0 leaves it.
    """
    with _found(number, 1) as (place,):
        is_ours = place.parts and place.status.st_uid == os.geteuid()
        if not (is_ours or place.is_in_own_area) or not _are_ids(uid, gid):
            raise beneath.refused(f"another owner for {'/'.join(place.parts)}")
        with place.opened() as fd:
            # as its owner: then neither mode nor time needs a capability
            os.fchown(fd, os.geteuid(), os.getegid())
            os.fchmod(fd, mode & (0o3777 if place.is_directory else 0o777))
            if mtime_ns:
                os.utime(fd, ns=(mtime_ns, mtime_ns))
            os.fchown(fd, uid, gid)
        return 0


def _inner() -> _Inside:
    if context.inside is None:
        raise beneath.refused("there was no start")
    return context.inside


@contextlib.contextmanager
def _found(number: int, count: int) -> ty.Iterator[list[beneath.Place]]:
    """The places that came with the call, each looked up by this process itself."""
    inner = _inner()
    with contextlib.ExitStack() as until_then:
        descriptors = inner.passage.receive(number, count)
        for descriptor in descriptors:
            until_then.callback(os.close, descriptor)
        places = []
        for descriptor in descriptors:
            place = inner.base.find(descriptor)
            until_then.callback(os.close, place.fd)
            places.append(place)
        yield places


def _returned(number: int, fd: int | None) -> int:
    """Send ``fd`` back; how many that are.  Last of all: nothing is sent with an error."""
    if fd is None:
        return 0
    with syscalls.held(fd):
        _inner().passage.send(number, [fd])
    return 1


@contextlib.contextmanager
def _closed_on_error(fd: int) -> ty.Iterator[None]:
    try:
        yield
    except BaseException:
        os.close(fd)
        raise


def _are_ids(*numbers: object) -> bool:
    return all(isinstance(number, int) and 0 <= number <= _MAX_ID for number in numbers)


# -- over here -----------------------------------------------------------------


class Channel:
    """Asks the process with privileges; one call at a time, from any thread."""

    def __init__(self, outer: passage.Passage) -> None:
        self.pid = 0
        self._outer = outer
        self._number = 0
        self._asking = threading.Lock()

    @property
    def is_alive(self) -> bool:
        return context.channel is not None and context.channel.running

    def ask(self, what: str, descriptors: collections.abc.Sequence[int],
            *arguments: object) -> list[int]:
        with self._asking, _translated():
            self._number += 1
            self._outer.send(self._number, descriptors)
            count = getattr(sys.modules[__name__], what)(self._number, *arguments)
            return self._outer.receive(self._number, count) if count else []


@contextlib.contextmanager
def _translated() -> ty.Iterator[None]:
    """What oslo.privsep and the passage say where the other process is away."""
    try:
        yield
    except (daemon.FailedToDropPrivileges, comm.PrivsepTimeout, ConnectionError,
            BrokenPipeError, TimeoutError) as e:
        raise deputy.Gone(str(e)) from e
    except OSError as e:
        if e.errno is None:  # the channel ended in the middle of the call
            raise deputy.Gone(str(e)) from e
        raise


def missing_here() -> list[str]:
    """Names of the capabilities that this process would have to have, and has not."""
    _, permitted, _ = capabilities.get_caps()
    return [each.name for each in CAPABILITIES if each not in permitted]


def fork(instances_path: str) -> Channel:
    """Split the process with privileges off; this one keeps its own for the moment.

    To be called with no other thread running.

    :raises deputy.Gone: it did not start.
    """
    inner, outer = passage.pair()
    context.inside = _Inside(beneath.Base(instances_path), inner, outer)
    channel = Channel(outer)
    parent = os.getpid()
    # the other process ends with its channel: a stop meant for both must not end it first,
    # nor must a wish for a report (SIGUSR2)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        with _translated():
            context.start(priv_context.Method.FORK)
            channel.pid = ready()
    except OSError as e:  # no more processes, say
        raise deputy.Gone(e.strerror) from e
    finally:
        if os.getpid() != parent:  # what failed to start over there may not go on as a worker
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        context.inside = None
        inner.close()
    return channel
