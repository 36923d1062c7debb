# SPDX-License-Identifier: Apache-2.0
"""The kinds of fields that travel, their bounds, and the base that checks them."""

import re
import typing as ty

import msgspec

_UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z"
#: A name, or an IPv6 address.
_HOST = (r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?"
         r"|[0-9A-Fa-f]{0,4}(:[0-9A-Fa-f]{0,4}){2,7}(\.[0-9]{1,3}){0,3})\Z")
_KEY = r"^[A-Za-z0-9._-]{1,128}\Z"
_DIGEST = r"^([0-9a-f]{64})?\Z"

InstanceUUID = ty.Annotated[str, msgspec.Meta(pattern=_UUID)]
HostName = ty.Annotated[str, msgspec.Meta(pattern=_HOST)]
MigrationKey = ty.Annotated[str, msgspec.Meta(pattern=_KEY)]
Digest = ty.Annotated[str, msgspec.Meta(pattern=_DIGEST)]
Size = ty.Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]
#: For people: one line that cannot steer a terminal, and that UTF-8 can carry.
_LINE = r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*\Z"
Text = ty.Annotated[str, msgspec.Meta(max_length=1024, pattern=_LINE)]
#: Longest text with the steps that mend something.
MAX_EXPLANATION = 4096
Explanation = ty.Annotated[str, msgspec.Meta(max_length=MAX_EXPLANATION, pattern=_LINE)]
#: Seconds since the epoch, up to where calendars end.
Moment = ty.Annotated[float, msgspec.Meta(ge=0, le=253_000_000_000)]
#: A user's or group's name.
OwnerName = ty.Annotated[str, msgspec.Meta(max_length=64, pattern=_LINE)]
RelativePath = ty.Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]

#: The one message of msgspec that repeats what it was given, before the place.
_QUOTED_VALUE = re.compile(r"Invalid enum value .*(?= - at )", re.DOTALL)

#: Largest piece of one file that one message carries, in bytes.
CHUNK_BYTES = 1 << 20
#: Largest compressed content of one file within the message that describes it, in bytes.
MAX_INLINE_BYTES = 32 << 20
#: Most entries of one directory that one message describes.
MAX_ENTRIES = 1024


class BadPayload(ValueError):
    """A payload breaks the contract; the text says where, never the content."""


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all that travels."""

    def to_wire(self) -> dict[str, ty.Any]:
        """Plain JSON types, to be an RPC argument or result."""
        return ty.cast(dict[str, ty.Any], msgspec.to_builtins(self))

    @classmethod
    def from_wire(cls, wire: object) -> ty.Self:
        """Build from plain JSON types.

        :raises BadPayload: where a field is missing, has another type or is
            out of its range.  Unknown fields are ignored: a newer peer may
            send them.
        """
        try:
            return msgspec.convert(wire, type=cls)
        except msgspec.ValidationError as e:
            text = _QUOTED_VALUE.sub("Invalid value", str(e))
        except UnicodeError:
            text = "Invalid Unicode"
        raise BadPayload(f"{cls.__name__}: {text}")
