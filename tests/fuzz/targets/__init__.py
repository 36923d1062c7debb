# SPDX-License-Identifier: Apache-2.0
"""One target for each place where input of others is read; ``load`` makes one by its name.

A target takes bytes, hands them to the real code, and raises
``oracle.Broken`` (or lets any foreign exception pass) where a promise broke.
"""

import dataclasses
import importlib
import typing as ty

import rpcapi  # noqa: F401 -- chooses how oslo.messaging runs its threads, before it is imported


@dataclasses.dataclass(frozen=True)
class Target:
    """:ivar one: takes one input.

    :ivar seeds: inputs to begin with, well-formed ones and nasty ones.
    :ivar words: what inputs of this kind are made of.
    :ivar max_len: bytes of the longest input worth trying.
    :ivar is_json: inputs are JSON, and mutations should mostly keep them so.
    """

    one: ty.Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()
    max_len: int = 4096
    is_json: bool = False


#: Name to the module and the function in it that makes the target.
_MAKERS = {
    "cast": "casts:whole",
    "cast-message": "casts:inner",
    "rpc-payload": "calls:payloads_only",
    "rpc-call": "calls:whole",
    "snapshot-call": "snapshots:whole",
    "hook-question": "hooks:question",
    "hook-answer": "hooks:answer",
    "arriving-xml": "domains:arriving",
    "domain-xml": "domains:domain",
    "ceph-conf": "domains:monitors",
    "entries": "files:entries",
    "chunks": "files:chunks",
    "records": "files:records",
    "journal-rows": "journals:rows",
    "journal-file": "journals:file",
}
NAMES = tuple(_MAKERS)


def load(name: str) -> Target:
    """:raises KeyError: there is no such target."""
    module, _, function = _MAKERS[name].partition(":")
    made = getattr(importlib.import_module(f"{__name__}.{module}"), function)()
    return ty.cast(Target, made)
