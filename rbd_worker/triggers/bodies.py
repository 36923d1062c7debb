# SPDX-License-Identifier: Apache-2.0
"""The bytes of a message as its sender meant them.

kombu's own ``Message`` would decompress a body of any size and knows how to
decode it; the tap wants bytes, and no more than an envelope may have.
"""

import bz2
import lzma
import typing as ty
import zlib

from rbd_worker.triggers import envelope

#: What a dictionary of xz may take, in bytes; kombu's compression needs 8 MiB.
_XZ_MEMORY = 64 << 20


def raw(message: ty.Any) -> bytes:
    """The body's bytes; oslo.messaging's ``kombu_compression`` is undone, up to a limit."""
    body = message.body
    sent: bytes = body.encode() if isinstance(body, str) else bytes(body)
    headers = getattr(message, "headers", None)
    if headers is None:
        headers = message.properties.get("application_headers")
    kind = headers.get("compression") if isinstance(headers, dict) else None
    return _inflated(sent, kind) if kind else sent


def _inflated(sent: bytes, kind: object) -> bytes:
    """One byte more than a reader of envelopes takes is enough: it will be refused."""
    limit = envelope.MAX_BODY + 1
    try:
        if kind == "application/x-gzip":
            return zlib.decompressobj(wbits=47).decompress(sent, limit)
        if kind == "application/x-bz2":
            return bz2.BZ2Decompressor().decompress(sent, limit)
        if kind == "application/x-lzma":
            return lzma.LZMADecompressor(memlimit=_XZ_MEMORY).decompress(sent, limit)
    except (zlib.error, lzma.LZMAError, OSError, ValueError):
        pass
    return sent  # unknown or broken: no reader will take it for an envelope
