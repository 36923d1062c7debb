# SPDX-License-Identifier: Apache-2.0
"""The words of the product, as types.

Everything here is immutable and knows nothing of libvirt, Ceph, RabbitMQ or
the disk.  A ``Fact`` is something observed; ``Evidence`` is the list of facts
that a decision rests on, kept with the decision so that it can be explained.
"""

import dataclasses
import enum
import ipaddress
import re
import typing as ty

from rbd_worker import errors

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?\Z")


class Role(enum.StrEnum):
    SOURCE = "source"
    DESTINATION = "destination"


class Executor(enum.StrEnum):
    """Who moves the guest: nova-compute, or this worker through libvirt."""

    NOVA = "nova"
    LIBVIRT = "libvirt"


class Phase(enum.StrEnum):
    """Nova's own names for the parts of a live migration."""

    PRE = "pre_live_migration"
    LIVE = "live_migration"
    POST = "post_live_migration"
    ROLLBACK = "rollback"


class Outcome(enum.StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNRESOLVED = "unresolved"


class GuestState(enum.StrEnum):
    """What one host's libvirt says of one guest.

    ``INCOMING`` is a guest that QEMU is receiving, ``OUTGOING`` one that is
    being sent or whose end libvirt has left open; neither is a place to
    conclude anything from.  ``STRANDED`` is the source's part of a guest whose
    post-copy broke: it waits for an operator, and must never run again as it is.
    """

    RUNNING = "running"
    PAUSED = "paused"
    INCOMING = "incoming"
    OUTGOING = "outgoing"
    STRANDED = "stranded"
    SHUTOFF = "shutoff"
    ABSENT = "absent"

    @property
    def is_active(self) -> bool:
        """QEMU has the guest and no migration touches it."""
        return self in (GuestState.RUNNING, GuestState.PAUSED)


def canonical_uuid(value: object) -> str:
    """Return ``value`` if it is a UUID exactly as Nova writes directory names.

    :raises errors.BadInstanceUUID: for anything else, upper case, braces and
        paths included: the value becomes the name of a directory.
    """
    if not isinstance(value, str) or not _UUID.match(value):
        raise errors.BadInstanceUUID(value)
    return value


def host_name(value: object) -> str:
    """Return ``value`` if it can be a compute host's name (letters, digits, ``.-_``).

    That may be an IPv4 or IPv6 address, as in Nova's option ``host``.

    :raises errors.BadHostName: for anything else; the value becomes part of
        routing keys and URIs.
    """
    if not isinstance(value, str) or not (_HOST.match(value) or _is_six(value)):
        raise errors.BadHostName(value)
    return value


def _is_six(text: str) -> bool:
    """An IPv6 address without a zone, which would mean something else on another host."""
    try:
        return ipaddress.IPv6Address(text).scope_id is None
    except ValueError:
        return False


@dataclasses.dataclass(frozen=True)
class Migration:
    """One live migration as one of its two hosts sees it.

    :ivar key: the migration's UUID; where the conductor sent none, a key
        derived from its id or from the message.
    :ivar number: the migration's id in Nova's database, which aborts name; None where unknown.
    :ivar peer: the other host.
    :ivar hosts: both.
    """

    key: str
    instance: str
    role: Role
    source: str
    destination: str
    executor: Executor
    request_id: str = ""
    number: int | None = None

    @property
    def peer(self) -> str:
        return self.destination if self.role is Role.SOURCE else self.source

    @property
    def host(self) -> str:
        return self.source if self.role is Role.SOURCE else self.destination

    @property
    def hosts(self) -> tuple[str, str]:
        return self.source, self.destination

    def __str__(self) -> str:
        return f"[instance: {self.instance}] [migration: {self.key}]"


@dataclasses.dataclass(frozen=True)
class RbdImage:
    """An RBD image as a domain's XML names it."""

    pool: str
    name: str

    def __str__(self) -> str:
        return f"{self.pool}/{self.name}"


class Verdict(enum.StrEnum):
    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True)
class Fact:
    """One thing that was observed, by whom, and what it says.

    :ivar witness: ``libvirt here``, ``holder``, ``watchers``, ``path``, ...
    :ivar verdict: whether it supports the removal; UNKNOWN counts as a no.
    :ivar sentence: what was seen, for people.
    """

    witness: str
    verdict: Verdict
    sentence: str


@dataclasses.dataclass(frozen=True)
class Evidence:
    """All facts gathered for one removal."""

    instance: str
    facts: tuple[Fact, ...]
    #: What the holder's libvirt says of the guest; None where it was not heard.
    holder_state: GuestState | None = None

    #: Rule 2 and rule 3 of the design: all of these must say yes.
    REQUIRED: ty.ClassVar[frozenset[str]] = frozenset(
        {"libvirt here", "holder", "watchers", "path"})

    @property
    def holds(self) -> bool:
        """True where every required witness was heard and every fact says yes."""
        heard = {fact.witness for fact in self.facts}
        return heard >= self.REQUIRED and all(f.verdict is Verdict.YES for f in self.facts)

    @property
    def doubt(self) -> str:
        """Why the evidence does not hold; empty where it does."""
        missing = sorted(self.REQUIRED - {fact.witness for fact in self.facts})
        doubts = [f.sentence for f in self.facts if f.verdict is not Verdict.YES]
        doubts += [f"{name} was not heard" for name in missing]
        return "; ".join(doubts)

    def to_dict(self) -> dict[str, ty.Any]:
        return {"instance": self.instance,
                "facts": [dataclasses.asdict(fact) for fact in self.facts]}


@dataclasses.dataclass(frozen=True)
class NovaRecord:
    """What Nova's database says of a server; it can be wrong about where the guest runs.

    :ivar host: None where Nova has none, as for a server that was shelved off.
    :ivar task_state: what Nova is doing to it, None for nothing.
    :ivar migration: the newest migration in words; empty where it was not asked for.
    """

    instance: str
    host: str | None
    vm_state: str
    task_state: str | None = None
    migration: str = ""

    def __str__(self) -> str:
        where = f"says {self.host}" if self.host else "names no host"
        words = [f"vm_state {self.vm_state}", f"task_state {self.task_state or 'none'}"]
        if self.migration:
            words.append(f"last migration {self.migration}")
        return f"{where} ({', '.join(words)})"
