# SPDX-License-Identifier: Apache-2.0
"""What travels between two workers, with every bound that is checked at the edge.

The structures are msgspec's: the annotations are the validation.  ``to_wire``
gives plain JSON types (bytes become base64), ``from_wire`` refuses whatever
breaks a type, a length or a range with :class:`rpcapi.fields.BadPayload`.
"""

from rpcapi.payloads.audits import AuditReply, AuditRequest, Finding
from rpcapi.payloads.files import (
    MAX_PARCEL_BYTES,
    PARCEL_QUEUE,
    Chunk,
    ChunkRequest,
    Digests,
    Entries,
    FileEntry,
    PathProbe,
    Paths,
)
from rpcapi.payloads.moves import (
    FinishReply,
    FinishRequest,
    LookReply,
    LookRequest,
    PrepareReply,
    PrepareRequest,
    RollbackReply,
    RollbackRequest,
    fingerprint,
)
from rpcapi.payloads.witnesses import (
    HoldingReport,
    ImageName,
    OpenEntry,
    Question,
    Questions,
    TestifyReply,
    TestifyRequest,
    Testimony,
    WhoHoldsRequest,
)
from rpcapi.payloads.workers import Description

__all__ = [
    "MAX_PARCEL_BYTES",
    "PARCEL_QUEUE",
    "AuditReply",
    "AuditRequest",
    "Chunk",
    "ChunkRequest",
    "Description",
    "Digests",
    "Entries",
    "FileEntry",
    "Finding",
    "FinishReply",
    "FinishRequest",
    "HoldingReport",
    "ImageName",
    "LookReply",
    "LookRequest",
    "OpenEntry",
    "PathProbe",
    "Paths",
    "PrepareReply",
    "PrepareRequest",
    "Question",
    "Questions",
    "RollbackReply",
    "RollbackRequest",
    "TestifyReply",
    "TestifyRequest",
    "Testimony",
    "WhoHoldsRequest",
    "fingerprint",
]
