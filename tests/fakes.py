# SPDX-License-Identifier: Apache-2.0
"""libvirt, QEMU, Ceph and the workers' RPC, made up: they keep their promises and no more.

What a worker does on disk (instance directories, staging, trash, journal) is
done by the real classes.  Calls of peers travel as JSON through the real edge
of ``rbd_worker.triggers.peer_server``, and may be lost, repeated or fatal.
"""

import contextlib
import dataclasses
import json
import pathlib
import typing as ty

import oslo_messaging

from rbd_worker import errors
from rbd_worker.host.hypervisor import Progress
from rbd_worker.model import GuestState, NovaRecord, RbdImage
from rpcapi import client as rpc_client
from rpcapi import errors as peer_errors
from rpcapi import payloads
from tests.timeline import Killed, Life, Timeline

# -- libvirt and Ceph --------------------------------------------------------


@dataclasses.dataclass(eq=False)
class Transfer:
    """QEMU sends a guest to QEMU; nobody has to watch for it to go on."""

    instance: str
    source: "Libvirt"
    destination: "Libvirt"
    is_over: bool = False
    has_moved: bool = False
    began: float = 0.0

    def begin(self) -> None:
        self.began = self.source.now
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
        #: Guests that were sent and whose move libvirt did not close.
        self.left_open: set[str] = set()
        #: Guests whose agent answers, those whose file systems it holds, and all it ever held.
        self.agents: set[str] = set()
        self.frozen: set[str] = set()
        self.froze: list[str] = []
        #: The agent carries out a freeze or a thaw, and its answer is lost.
        self.agent_is_mute = False
        self.is_down = False
        #: Seconds after which a move that is followed is aborted; 0 for never.
        self.completion_timeout = 0.0
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

    @property
    def now(self) -> float:
        return self._timeline.now

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
        return instance in self.jobs or (instance not in self.left_open and self.state(
            instance) in (GuestState.INCOMING, GuestState.OUTGOING))

    def images(self, instance: str) -> tuple[RbdImage, ...]:
        if self.state(instance) is GuestState.ABSENT:
            raise errors.GuestNotHere(instance=instance, host=self.host)
        return self.names.get(instance) or (RbdImage("vms", f"{instance}_disk"),)

    def domains(self) -> dict[str, GuestState]:
        self._check()
        return dict(self.states)

    def instances(self) -> frozenset[str]:
        self._check()
        return frozenset(self.states)

    def description(self, instance: str) -> str | None:
        if self.state(instance) is GuestState.ABSENT:
            return None
        return "<domain><devices/></domain>"

    def agent_trouble(self, instance: str) -> str:
        self._check()
        return "" if instance in self.agents else "no agent"

    def freeze(self, instance: str, _seconds: float) -> int:
        self._check()
        if instance not in self.agents:
            raise errors.FreezeRefused(instance=instance, reason="no agent")
        self.frozen.add(instance)
        self.froze.append(instance)
        self._check_agent()
        return 1

    def thaw(self, instance: str) -> bool:
        if self.is_down or self.agent_is_mute or instance not in self.agents:
            raise errors.GuestFrozen(instance=instance, reason="no answer")
        if self.states.get(instance) not in (GuestState.RUNNING, GuestState.PAUSED):
            return False
        self.frozen.discard(instance)
        return True

    def _check_agent(self) -> None:
        if self.agent_is_mute:
            raise errors.HypervisorUnavailable(uri="qemu:///system", reason="no answer")

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

    def progress(self, instance: str) -> Progress | None:
        if self.state(instance) is not GuestState.OUTGOING:
            return None
        return Progress(memory_total=4 << 20, memory_processed=3 << 20, memory_remaining=1 << 20,
                        rate=1 << 20, iteration=1, downtime_limit=0, elapsed=500, mode="precopy")

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
        if how == "lose connection":  # it goes on in libvirtd, which was silent for too long
            raise errors.MoveInterrupted(instance=instance, reason="connection closed")
        if how != "hang":
            self._timeline.after(self.TRANSFER,
                                 transfer.fail if how == "fail" else transfer.finish)
        while not transfer.is_over:
            self._timeline.pass_time(0.5)
        if how == "lose answer" or not transfer.has_moved:
            raise errors.MoveUnsettled(instance=instance, reason="connection lost at the end")

    def follow(self, instance: str, _on_progress: ty.Any) -> str:
        """Returns when the guest does not move any more, or has moved for too long."""
        self._check()
        limit = self.completion_timeout
        while self.states.get(instance) is GuestState.OUTGOING:
            transfer = next(t for t in self.transfers if t.instance == instance)
            if limit and self._timeline.now > transfer.began + limit:
                transfer.fail()
                return f"not complete after {limit:g} s: abort"
            self._timeline.pass_time(0.5)
            self._check()
        return ""

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


# -- Nova's record --------------------------------------------------------------


class NovaApi:
    """Nova's records as ``rbd_worker.host.nova_api`` gives them."""

    seconds = 10.0

    def __init__(self, *records: NovaRecord) -> None:
        self.records = {record.instance: record for record in records}
        self.error: errors.Error | None = None
        #: What was asked, in order: a host's name or an instance's UUID.
        self.asked: list[str] = []

    def on_host(self, host: str, deadline: float | None = None) -> dict[str, NovaRecord]:
        self._ask(host)
        return {uuid: record for uuid, record in self.records.items() if record.host == host}

    def of(self, instance: str, deadline: float | None = None) -> NovaRecord | None:
        self._ask(instance)
        return self.records.get(instance)

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error
