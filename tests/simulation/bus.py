# SPDX-License-Identifier: Apache-2.0
"""The broker: calls between workers, and Nova's messages to them.

As RabbitMQ and oslo.messaging behave: a message waits in its queue while no
worker listens, as long as its caller would have waited; whoever calls gives
up when the other side shows no sign of life for ``MONITOR_SECONDS``, and what
was called may still happen afterwards.
"""

import dataclasses
import random
import typing as ty

import msgspec
import oslo_messaging

from devstack import conductor
from rpcapi import client as rpc_client
from rpcapi import errors as peer_errors
from rpcapi import payloads
from tests.simulation.scheduler import Task

if ty.TYPE_CHECKING:
    from tests.simulation.hosts import Host
    from tests.simulation.world import World

#: Seconds that a call may take, as ``rpcapi.client`` has it; others are questions.
LIMITS = {"pre_live_migration": rpc_client.COPY_SECONDS, "read_chunk": 60.0,
          "post_live_migration": rpc_client.COPY_SECONDS, "rollback_live_migration": 60.0}
_QUICK = 0.002
#: Seconds between two looks of a queue for somebody who listens.
LOOK_SECONDS = 2.0
#: Seconds by which a late message is late: longer than a caller waits for a sign
#: of life; longer than all of its attempts.
LATE = {"late": 7.0, "very late": 300.0}
#: Answered from what is there, without asking anybody else.
_SHORT = frozenset({"testify", "describe", "look_again", "who_holds", "holding"})


@dataclasses.dataclass(eq=False)
class Call:
    """One call on its way; ``number`` counts all of them, from 1."""

    number: int
    caller: "Host"
    callee: "Host"
    method: str
    request: dict[str, ty.Any] | None
    task: Task
    expires: float
    answer: ty.Any = None
    error: Exception | None = None
    is_answered: bool = False
    #: The process that works on it; its death is noticed by the caller.
    worked_on_by: ty.Any = None


class Bus:
    """Thread-free; whatever waits does so in the scheduler."""

    def __init__(self, world: "World", mishaps: dict[int, str], cast_mishaps: dict[int, str],
                 delays: random.Random | None) -> None:
        self._world = world
        self._scheduler = world.scheduler
        self._mishaps = mishaps
        self._cast_mishaps = cast_mishaps
        self._delays = delays
        self.calls = 0
        self.casts = 0
        #: Messages and calls that somebody will still get.
        self.under_way = 0
        self.cut_off: set[str] = set()

    def are_connected(self, one: "Host", other: "Host") -> bool:
        return one is other or not self.cut_off & {one.name, other.name}

    def reaches_broker(self, host: "Host") -> bool:
        return host.name not in self.cut_off

    # -- calls of peers --------------------------------------------------------

    def call(self, caller: "Host", callee: "Host", method: str,
             request: dict[str, ty.Any] | None) -> ty.Any:
        """In a task of the caller's worker."""
        caller.strikes("call")
        self.calls += 1
        fate = self._mishaps.get(self.calls, "")
        limit = LIMITS.get(method, rpc_client.ASK_SECONDS)
        task = self._scheduler.current
        assert task is not None
        wire = None if request is None else _carried(request)
        call = Call(self.calls, caller, callee, method, wire, task,
                    self._scheduler.now + limit)
        self._world.tell(f"call {call.number}: {caller.name} asks {callee.name} "
                         f"{method}{fate and f' ({fate})'}")
        if fate != "lost" and self.reaches_broker(caller):
            self._carry(call, fate)
        self._wait(call, fate)
        if call.error is not None:
            raise call.error
        caller.strikes("called")
        return call.answer

    def _carry(self, call: Call, fate: str) -> None:
        self.under_way += 1
        self._scheduler.after(LATE.get(fate, self._delay()), lambda: self._arrive(call, fate))

    def _arrive(self, call: Call, fate: str) -> None:
        """The message is at the callee, or waits for it in the queue."""
        if self._scheduler.now > call.expires:
            self.under_way -= 1
        elif call.callee.worker is None or not self.reaches_broker(call.callee):
            self._scheduler.after(LOOK_SECONDS, lambda: self._arrive(call, fate))
        else:
            self._deliver(call, fate)
            if fate == "repeated":
                self.under_way += 1
                self._scheduler.after(self._delay() * 3, lambda: self._arrive(call, ""))

    def _deliver(self, call: Call, fate: str) -> None:
        worker = call.callee.worker
        assert worker is not None
        if not call.is_answered:
            call.worked_on_by = worker.life

        def work() -> None:
            answer, error = self._worked(worker.endpoint, call)
            self._scheduler.after(self._delay(), lambda: self._answer(call, answer, error, fate))
        self.under_way -= 1
        self._scheduler.spawn(worker.life, work, f"answers {call.method}",
                              is_short=call.method in _SHORT)

    def _worked(self, endpoint: ty.Any, call: Call) -> tuple[ty.Any, Exception | None]:
        arguments = {} if call.request is None else {"request": call.request}
        try:
            return _carried(getattr(endpoint, call.method)({}, **arguments)), None
        except oslo_messaging.ExpectedException as e:
            raised = e.exc_info[1]
            return None, getattr(peer_errors, type(raised).__name__)(str(raised))

    def _answer(self, call: Call, answer: ty.Any, error: Exception | None, fate: str) -> None:
        connected = self.reaches_broker(call.caller) and self.reaches_broker(call.callee)
        if call.is_answered or fate == "answer lost" or not connected:
            return
        call.is_answered = True
        call.answer, call.error = answer, error
        call.task.ready()

    def _wait(self, call: Call, fate: str) -> None:
        """Until the answer, the time limit, or a callee without a sign of life."""
        last_sign = self._scheduler.now
        while not call.is_answered:
            if self._scheduler.now >= call.expires:
                break
            if self._shows_life(call) and fate != "answer lost":
                last_sign = self._scheduler.now
            elif self._scheduler.now - last_sign >= rpc_client.MONITOR_SECONDS:
                break
            self._scheduler.wait(min(rpc_client.MONITOR_SECONDS / 2,
                                     max(0.01, call.expires - self._scheduler.now)))
        if not call.is_answered:
            call.is_answered = True  # whatever comes now finds nobody
            call.error = rpc_client.Unreachable(f"no answer to {call.method} in time")

    def _shows_life(self, call: Call) -> bool:
        """The callee works on it and its heartbeats come through."""
        return (call.worked_on_by is not None and call.worked_on_by.is_alive
                and self.reaches_broker(call.caller) and self.reaches_broker(call.callee))

    # -- casts -------------------------------------------------------------------

    def cast(self, caller: "Host", callee: "Host", method: str,
             request: dict[str, ty.Any]) -> None:
        """Nobody waits; lost where the callee's worker is away (a fanout's queue goes with it)."""
        if not self.reaches_broker(caller):
            raise rpc_client.Unreachable(f"{method} could not be sent")
        wire = _carried(request)

        def arrive() -> None:
            self.under_way -= 1
            worker = callee.worker
            if worker is not None and self.reaches_broker(callee):
                self._scheduler.spawn(
                    worker.life, lambda: getattr(worker.endpoint, method)({}, request=wire),
                    f"hears {method}", is_short=method in _SHORT)
        self.under_way += 1
        self._scheduler.after(self._delay(), arrive)

    def nova_says(self, host: "Host", message: dict[str, ty.Any]) -> None:
        """A message of Nova to the topic of a host; the worker's queue gets a copy."""
        message["_unique_id"] = self._world.unique_id()
        self.casts += 1
        fate = self._cast_mishaps.get(self.casts, "")
        self._world.tell(f"Nova's message {self.casts}: {message['method']} to {host.name}"
                         f"{fate and f' ({fate})'}")
        if fate == "lost":
            return
        for _ in range(2 if fate == "repeated" else 1):
            self.under_way += 1
            self._scheduler.after(LATE.get(fate, self._delay()),
                                  lambda: self._queue(host, message))

    def _queue(self, host: "Host", message: dict[str, ty.Any]) -> None:
        if not self.reaches_broker(host):
            self._scheduler.after(LOOK_SECONDS, lambda: self._queue(host, message))
            return
        self.under_way -= 1
        if message["method"] == "live_migration":
            host.ordered.append(message["args"]["migration"]["nova_object.data"]["uuid"])
        host.queue(conductor.envelope(message))

    def _delay(self) -> float:
        if self._delays is None:
            return _QUICK
        return _QUICK + self._delays.choice((0, 0, 0, 0.01, 0.1, 0.5))


def _carried(value: ty.Any) -> ty.Any:
    """What arrives of it: JSON knows no tuples, and nobody shares an object with the sender."""
    return msgspec.json.decode(msgspec.json.encode(value))


class Client:
    """The calls of ``rpcapi.client.Client`` for one worker."""

    def __init__(self, bus: Bus, host: "Host") -> None:
        self._bus = bus
        self._host = host

    def who_holds(self, request: ty.Any) -> None:
        for host in self._host.world.hosts:
            self._bus.cast(self._host, host, "who_holds", request.to_wire())

    def holding(self, host: str, report: ty.Any) -> None:
        self._bus.cast(self._host, self._host.world.host(host), "holding", report.to_wire())

    def __getattr__(self, method: str) -> ty.Any:
        reply = _REPLIES[method]

        def call(host: str, request: ty.Any = None) -> ty.Any:
            callee = self._host.world.find_host(host)
            if callee is None:
                raise rpc_client.Unreachable(f"nobody listens at {host}")
            wire = None if request is None else request.to_wire()
            return reply.from_wire(self._bus.call(self._host, callee, method, wire))
        return call


_REPLIES: dict[str, ty.Any] = {
    "describe": payloads.Description, "pre_live_migration": payloads.PrepareReply,
    "read_chunk": payloads.Chunk, "post_live_migration": payloads.FinishReply,
    "rollback_live_migration": payloads.RollbackReply, "testify": payloads.TestifyReply,
    "look_again": payloads.LookReply, "audit": payloads.AuditReply}
