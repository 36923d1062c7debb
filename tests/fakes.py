# SPDX-License-Identifier: Apache-2.0
"""A cloud of two or more hosts in one thread: libvirt, Ceph, RabbitMQ and time are made up.

What a worker does on disk (instance directories, staging, trash, journal) is
done by the real classes; what stands here in for the world keeps its promises
and no more.  Time is virtual: whoever waits makes it pass, and while one host
waits the others work.  A worker can be killed at any write of its journal and
at any call of a peer; its libvirt and its disk live on.
"""

import collections
import contextlib
import dataclasses
import heapq
import itertools
import json
import pathlib
import threading
import time
import typing as ty

import oslo_messaging

from rbd_worker import errors
from rbd_worker.migration import journal, mover
from rbd_worker.model import GuestState, Migration, RbdImage
from rpcapi import client as rpc_client
from rpcapi import errors as peer_errors
from rpcapi import payloads


class Killed(BaseException):
    """What a worker's thread meets after its process was killed."""


class Life:
    """One process, from its start to its end."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.is_alive = True
        #: Counts a worker's journal writes: ``(number, "before" or "after") -> kill now?``
        self.kills_at: ty.Callable[[int, str], bool] = lambda number, side: False
        self.writes = 0
        #: Called once, when it ends.
        self.on_end: ty.Callable[[], None] = lambda: None

    def check(self) -> None:
        if not self.is_alive:
            raise Killed(self.host)

    def end(self) -> None:
        """As by SIGKILL: what it had in memory is gone."""
        if self.is_alive:
            self.is_alive = False
            self.on_end()


class Mortal:
    """Anything a worker reaches out to; of no use to it after its end."""

    def __init__(self, life: Life, target: ty.Any) -> None:
        self._life = life
        self._target = target

    def __getattr__(self, name: str) -> ty.Any:
        value = getattr(self._target, name)
        if not callable(value):
            return value

        def call(*args: ty.Any, **kwargs: ty.Any) -> ty.Any:
            self._life.check()
            try:
                return value(*args, **kwargs)
            finally:
                self._life.check()
        return call


# -- time --------------------------------------------------------------------


class Timeline:
    """Seconds since the epoch, and what happens when."""

    def __init__(self) -> None:
        self.now = time.time()
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, ty.Callable[[], None]]] = []
        self._jobs: collections.deque[tuple[Life, ty.Callable[[], ty.Any]]] = collections.deque()
        self._busy: list[Life] = []

    def __call__(self) -> float:
        return self.now

    def after(self, seconds: float, action: ty.Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), action))

    def submit(self, life: Life, action: ty.Callable[[], ty.Any]) -> None:
        """Have a worker do something soon; nothing else of it is done while that waits."""
        self._jobs.append((life, action))

    def occupied(self, life: Life, action: ty.Callable[[], ty.Any]) -> ty.Any:
        """Do something in a worker's name now."""
        self._busy.append(life)
        try:
            return action()
        finally:
            self._busy.pop()

    def spawn(self, life: Life, action: ty.Callable[[], ty.Any]) -> None:
        """Do something in a thread of its own, which never runs at the same time as others."""
        _Strand(self, life, action).resume()

    def pass_time(self, seconds: float) -> None:
        strand = threading.current_thread()
        if isinstance(strand, _Strand):
            strand.pause(seconds)
            return
        until = self.now + seconds
        self._work()
        while self._events and self._events[0][0] <= until:
            at, _, action = heapq.heappop(self._events)
            self.now = max(self.now, at)
            action()
            self._work()
        self.now = until

    def _work(self) -> None:
        waiting: list[tuple[Life, ty.Callable[[], ty.Any]]] = []
        while self._jobs:
            life, action = self._jobs.popleft()
            if not life.is_alive:
                continue
            if life in self._busy:
                waiting.append((life, action))
                continue
            try:
                self.occupied(life, action)
            except Killed:
                pass
        self._jobs.extend(waiting)


class _Strand(threading.Thread):
    """A thread that runs only while whoever resumed it waits: one of them runs at any time."""

    def __init__(self, timeline: Timeline, life: Life, action: ty.Callable[[], ty.Any]) -> None:
        super().__init__(daemon=True)
        self._timeline = timeline
        self._life = life
        self._action = action
        self._go = threading.Semaphore(0)
        self._paused = threading.Semaphore(0)

    def resume(self) -> None:
        if not self.is_alive():
            self.start()
        self._go.release()
        self._paused.acquire()

    def pause(self, seconds: float) -> None:
        self._timeline.after(seconds, self.resume)
        self._paused.release()
        self._go.acquire()

    def run(self) -> None:
        self._go.acquire()
        try:
            self._life.check()
            self._action()
        except Killed:
            pass
        finally:
            self._paused.release()


class Shutdown(threading.Event):
    """A worker's shutdown event: waiting for it is how a worker's steps pass their time."""

    def __init__(self, life: Life, timeline: Timeline) -> None:
        super().__init__()
        self._life = life
        self._timeline = timeline

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set() and timeout is not None:
            self._timeline.pass_time(timeout)
        self._life.check()
        return self.is_set()


class Pool:
    """Runs a worker's plans in the timeline's order; as much of an executor as is needed."""

    def __init__(self, life: Life, timeline: Timeline) -> None:
        self._life = life
        self._timeline = timeline

    def submit(self, action: ty.Callable[..., ty.Any], *args: ty.Any) -> None:
        self._timeline.submit(self._life, lambda: action(*args))

    def shutdown(self, wait: bool = True, cancel_futures: bool = False) -> None:
        return None


class Alarms:
    """The worker's timers in virtual time."""

    def __init__(self, life: Life, timeline: Timeline) -> None:
        self._life = life
        self._timeline = timeline
        self._current: dict[ty.Hashable, object] = {}

    def after(self, seconds: float, key: ty.Hashable, action: ty.Callable[[], None]) -> None:
        mark = object()
        self._current[key] = mark

        def ring() -> None:
            if self._life.is_alive and self._current.get(key) is mark:
                del self._current[key]
                action()
        self._timeline.after(seconds, ring)

    def cancel(self, key: ty.Hashable) -> None:
        self._current.pop(key, None)

    def stop(self) -> None:
        self._current.clear()


class SteppingMovers(mover.Movers):
    """Moves in the timeline instead of threads."""

    life: Life
    timeline: Timeline

    def start(self, migration: Migration, order: ty.Any) -> None:
        with self._lock:
            if migration.key in self._moving:
                return
            self._moving[migration.key] = threading.current_thread()
        self.timeline.submit(self.life, lambda: self.timeline.spawn(
            self.life, lambda: self._run(migration, order)))


class WatchedJournal(journal.Journal):
    """A real journal whose process may be killed right before or right after any write."""

    def __init__(self, directory: pathlib.Path, timeline: Timeline, life: Life) -> None:
        self._life = life
        super().__init__(directory, timeline)

    def _transaction(self) -> ty.Any:
        return _Watched(self._life, super()._transaction())


class _Watched:
    def __init__(self, life: Life, transaction: ty.Any) -> None:
        self._life = life
        self._transaction = transaction

    def __enter__(self) -> ty.Any:
        self._life.check()
        self._life.writes += 1
        self._number = self._life.writes
        self._maybe_kill("before")
        return self._transaction.__enter__()

    def __exit__(self, *error: ty.Any) -> ty.Any:
        result = self._transaction.__exit__(*error)
        if error[0] is None:
            self._maybe_kill("after")
        return result

    def _maybe_kill(self, side: str) -> None:
        if self._life.kills_at(self._number, side):
            self._life.end()
            self._life.check()


# -- libvirt and Ceph --------------------------------------------------------


@dataclasses.dataclass(eq=False)
class Transfer:
    """QEMU sends a guest to QEMU; nobody has to watch for it to go on."""

    instance: str
    source: "Libvirt"
    destination: "Libvirt"
    is_over: bool = False
    has_moved: bool = False

    def begin(self) -> None:
        self.destination.qemu_starts(self.instance)
        self.source.states[self.instance] = GuestState.OUTGOING
        self.destination.states[self.instance] = GuestState.INCOMING
        self.source.say(self.instance, "the guest is leaving")
        self._tell()

    def finish(self) -> None:
        if not self.is_over:
            self.is_over = self.has_moved = True
            del self.source.states[self.instance]
            self.destination.states[self.instance] = GuestState.RUNNING
            self.destination.say(self.instance, "the guest has arrived")
            self._tell()

    def fail(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.destination.states.pop(self.instance, None)
            self.source.states[self.instance] = GuestState.RUNNING
            self._tell()

    def _tell(self) -> None:
        for side in (self.source, self.destination):
            side.on_event(self.instance)


class NoDirectory(Exception):
    """QEMU could not open its console log."""


class Libvirt:
    """One host's libvirt and QEMU: as a worker sees it, and as the world does."""

    #: Virtual seconds that a transfer takes.
    TRANSFER = 2.0

    def __init__(self, host: str, instances_path: pathlib.Path, timeline: Timeline,
                 fleet: dict[str, "Libvirt"]) -> None:
        self.host = host
        self.path = instances_path
        self.states: dict[str, GuestState] = {}
        self.names: dict[str, tuple[RbdImage, ...]] = {}
        self.jobs: set[str] = set()
        self.is_down = False
        #: What workers ordered, in order: ("move", instance), ("abort", instance), ...
        self.orders: list[tuple[str, str]] = []
        #: Every line that guests wrote here, in order.
        self.said: list[str] = []
        #: How the next moves go; "succeed" where it is empty.
        self.next_moves: list[str] = []
        self.transfers: list[Transfer] = []
        self.on_event: ty.Callable[[str], None] = lambda instance: None
        self._timeline = timeline
        self._fleet = fleet

    # as the world sees it

    def qemu_starts(self, instance: str) -> None:
        """QEMU opens its console log and empties it."""
        try:
            (self.path / instance / "console.log").write_text("")
        except FileNotFoundError as e:
            raise NoDirectory(str(self.path / instance / "console.log")) from e

    def say(self, instance: str, line: str) -> None:
        """The guest writes a line to its console."""
        self.said.append(f"[{self.host}] {line} at {self._timeline.now:.3f}")
        with (self.path / instance / "console.log").open("a") as log:
            log.write(self.said[-1] + "\n")

    # as a worker sees it

    def state(self, instance: str) -> GuestState:
        self._check()
        return self.states.get(instance, GuestState.ABSENT)

    def has_job(self, instance: str) -> bool:
        return instance in self.jobs or self.state(instance) in (
            GuestState.INCOMING, GuestState.OUTGOING)

    def images(self, instance: str) -> tuple[RbdImage, ...]:
        if self.state(instance) is GuestState.ABSENT:
            raise errors.GuestNotHere(instance=instance, host=self.host)
        return self.names.get(instance) or (RbdImage("vms", f"{instance}_disk"),)

    def domains(self) -> dict[str, GuestState]:
        self._check()
        return dict(self.states)

    def abort(self, instance: str) -> None:
        self._check()
        self.orders.append(("abort", instance))
        for transfer in self.transfers:
            if transfer.instance == instance:
                transfer.fail()

    def force_complete(self, instance: str) -> None:
        self._check()
        self.orders.append(("force_complete", instance))
        for transfer in self.transfers:
            if transfer.instance == instance:
                transfer.finish()

    def close(self) -> None:
        return None

    def move(self, instance: str, order: ty.Any, _on_progress: ty.Any) -> None:
        """As ``migrateToURI3``: returns when the guest has moved, raises otherwise."""
        self._check()
        self.orders.append(("move", instance))
        how = self.next_moves.pop(0) if self.next_moves else "succeed"
        if how == "interrupt":
            raise errors.MoveInterrupted(instance=instance, reason="connection lost")
        if how == "refuse":
            raise errors.MoveRefused(instance=instance, reason="no secret", fix="Define it")
        transfer = Transfer(instance, self, self._fleet[order.destination])
        try:
            transfer.begin()
        except NoDirectory as e:
            raise errors.MoveUnsettled(instance=instance, reason=f"cannot open {e}") from e
        self.transfers.append(transfer)
        if how != "hang":
            self._timeline.after(self.TRANSFER,
                                 transfer.fail if how == "fail" else transfer.finish)
        while not transfer.is_over:
            self._timeline.pass_time(0.5)
        if how == "lose answer" or not transfer.has_moved:
            raise errors.MoveUnsettled(instance=instance, reason="connection lost at the end")

    def _check(self) -> None:
        if self.is_down:
            raise errors.HypervisorUnavailable(uri="qemu:///system", reason="it is down")


class Ceph:
    """The cluster as one host's client sees it; watchers follow from who has which guest."""

    def __init__(self, address: str, fleet: dict[str, Libvirt],
                 addresses: dict[str, str]) -> None:
        self.own = frozenset({address})
        self.is_down = False
        self.extra: dict[str, frozenset[str]] = {}
        self._fleet = fleet
        self._addresses = addresses

    def own_addresses(self) -> frozenset[str]:
        self._check()
        return self.own

    def watchers(self, image: RbdImage) -> frozenset[str]:
        self._check()
        found = {self._addresses[name] for name, libvirt in self._fleet.items()
                 for instance, state in libvirt.states.items()
                 if state is not GuestState.SHUTOFF and _has(libvirt, instance, image)}
        return frozenset(found) | self.extra.get(str(image), frozenset())

    def close(self) -> None:
        return None

    def _check(self) -> None:
        if self.is_down:
            raise errors.CephUnavailable(what="an image", reason="it is down",
                                         conf="ceph.conf", user="nova")


def _has(libvirt: Libvirt, instance: str, image: RbdImage) -> bool:
    named = libvirt.names.get(instance) or (RbdImage("vms", f"{instance}_disk"),)
    return image in named


# -- the workers' RPC --------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a peer; ``number`` counts all of them, from 1."""

    number: int
    caller: str
    callee: str
    method: str


#: What may befall a call: "unreachable", "lose reply", "repeat", "kill before", "kill after".
Fate = str | None


class Bus:
    """Carries calls between the workers that are alive, as JSON, and may lose them."""

    def __init__(self, timeline: Timeline) -> None:
        self.endpoints: dict[str, tuple[Life, ty.Any]] = {}
        self.calls: list[Call] = []
        self.fate: ty.Callable[[Call], Fate] = lambda call: None
        #: Called when the callee has acted and the reply is on its way.
        self.on_reply: ty.Callable[[Call], None] = lambda call: None
        self._timeline = timeline

    def call(self, caller: str, callee: str, method: str,
             request: dict[str, ty.Any] | None) -> ty.Any:
        call = Call(len(self.calls) + 1, caller, callee, method)
        self.calls.append(call)
        fate = self.fate(call)
        life, endpoint = self.endpoints.get(callee, (None, None))
        if life is None or not life.is_alive or fate == "unreachable":
            raise rpc_client.Unreachable(f"no answer to {method} in time")
        if fate == "kill before":
            life.end()
            raise rpc_client.Unreachable(f"no answer to {method} in time")
        try:
            answer = self._act(life, endpoint, method, request)
            if fate == "repeat":
                answer = self._act(life, endpoint, method, request)
        except Killed:
            raise rpc_client.Unreachable(f"no answer to {method} in time") from None
        self.on_reply(call)
        if fate == "kill after":
            life.end()
        if fate in ("kill after", "lose reply"):
            raise rpc_client.Unreachable(f"no answer to {method} in time")
        return json.loads(json.dumps(answer))

    def _act(self, life: Life, endpoint: ty.Any, method: str,
             request: dict[str, ty.Any] | None) -> ty.Any:
        arguments = {} if request is None else {"request": json.loads(json.dumps(request))}
        try:
            return self._timeline.occupied(
                life, lambda: getattr(endpoint, method)({}, **arguments))
        except oslo_messaging.ExpectedException as e:
            raised = e.exc_info[1]
            raise getattr(peer_errors, type(raised).__name__)(str(raised)) from None


class Client:
    """The calls of ``rpcapi.client.Client``, through the bus."""

    def __init__(self, bus: Bus, own_host: str) -> None:
        self._bus = bus
        self._own_host = own_host

    def _reply(self, host: str, method: str, reply: ty.Any, request: ty.Any = None) -> ty.Any:
        wire = None if request is None else request.to_wire()
        return reply.from_wire(self._bus.call(self._own_host, host, method, wire))

    def describe(self, host: str) -> payloads.Description:
        return self._reply(host, "describe", payloads.Description)

    def pre_live_migration(self, host: str, request: ty.Any) -> payloads.PrepareReply:
        return self._reply(host, "pre_live_migration", payloads.PrepareReply, request)

    def read_chunk(self, host: str, request: ty.Any) -> payloads.Chunk:
        return self._reply(host, "read_chunk", payloads.Chunk, request)

    def post_live_migration(self, host: str, request: ty.Any) -> payloads.FinishReply:
        return self._reply(host, "post_live_migration", payloads.FinishReply, request)

    def rollback_live_migration(self, host: str, request: ty.Any) -> payloads.RollbackReply:
        return self._reply(host, "rollback_live_migration", payloads.RollbackReply, request)

    def testify(self, host: str, request: ty.Any) -> payloads.TestifyReply:
        return self._reply(host, "testify", payloads.TestifyReply, request)

    def look_again(self, host: str, request: ty.Any) -> payloads.LookReply:
        return self._reply(host, "look_again", payloads.LookReply, request)

    def who_holds(self, request: ty.Any) -> None:
        for host in list(self._bus.endpoints):
            self._cast(host, "who_holds", request)

    def holding(self, host: str, report: ty.Any) -> None:
        self._cast(host, "holding", report)

    def _cast(self, host: str, method: str, request: ty.Any) -> None:
        with contextlib.suppress(rpc_client.Unreachable):
            self._bus.call(self._own_host, host, method, request.to_wire())
