# SPDX-License-Identifier: Apache-2.0
"""A snapshot of all disks as one value, and what is written of it in Ceph and in the journal.

Pure.  What is read from Ceph was written by another worker or by anybody else
who may write there, so that it is checked like any input.
"""

import dataclasses
import json
import re
import typing as ty

import msgspec

from rbd_worker import errors, model
from rbd_worker.model import RbdImage
from rpcapi import snapshots as contract

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
#: Characters of a text that travels.
_MAX_LINE = 1024


@dataclasses.dataclass(frozen=True)
class SnapshotSet:
    """One snapshot of an instance.

    :ivar id: tells it from another of the same name, before or after it.
    :ivar at: seconds since the epoch; ``expires`` likewise, 0 for never.
    :ivar migration: that it was taken for; empty where an operator asked for it.
    """

    id: str
    name: str
    instance: str
    host: str
    images: tuple[RbdImage, ...]
    at: float
    by: str = ""
    note: str = ""
    expires: float = 0
    how: contract.How = ""
    migration: str = ""

    def __str__(self) -> str:
        return f"[instance: {self.instance}] snapshot {self.name}"

    def to_dict(self) -> dict[str, ty.Any]:
        """Plain JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: object) -> ty.Self:
        """:raises errors.BadInput: it is not what ``to_dict`` gives."""
        try:
            found = msgspec.convert(data, type=cls)
            model.canonical_uuid(found.instance)
            model.host_name(found.host)
        except (msgspec.ValidationError, UnicodeError) as e:
            raise errors.BadInput(what="what is written of a snapshot", reason=str(e)) from e
        if not is_name(found.name) or not found.images:
            raise errors.BadInput(what="what is written of a snapshot",
                                  reason="its name or its images make no sense")
        return found

    def to_note(self) -> str:
        """For the metadata of each image."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_note(cls, note: str) -> ty.Self | None:
        """None where nothing, or nothing that can be understood, is written there."""
        try:
            return cls.from_dict(json.loads(note))
        except (ValueError, RecursionError, errors.BadInput):
            return None

    def told(self, state: ty.Literal["made", "making", "removing", "incomplete"],
             disks: ty.Iterable[contract.Disk],
             jobs: ty.Iterable[contract.Job] = ()) -> contract.Snapshot:
        """As it travels."""
        return contract.Snapshot(
            name=self.name, instance=self.instance, host=self.host, by=line(self.by),
            note=line(self.note), at=self.at, expires=self.expires, how=self.how, state=state,
            disks=tuple(disks), jobs=tuple(jobs))


def is_name(name: str) -> bool:
    """Whether a snapshot may be called so."""
    return bool(_NAME.match(name))


def check_name(name: str) -> str:
    """Return ``name`` if a snapshot may be called so.

    :raises errors.BadInput: it has odd characters, or too many.
    """
    if not is_name(name):
        raise errors.BadInput(
            what=f"the name {name[:80]!r} for a snapshot",
            reason="it has to be of at most 64 letters, digits, '.', '_' and '-' and to begin "
                   "with a letter or digit")
    return name


def line(text: str) -> str:
    """``text`` as one line that may travel."""
    return "".join(c if c.isprintable() else " " for c in text)[:_MAX_LINE]
