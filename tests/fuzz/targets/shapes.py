# SPDX-License-Identifier: Apache-2.0
"""Well-formed requests to begin with, and what they are made of."""

import contextlib
import hashlib
import json
import typing as ty
import uuid
import zlib

from rpcapi import fields, payloads

SOURCE, DESTINATION = "node01", "node02"
MIGRATION = str(uuid.UUID(int=7))
WORDS = (b"node01", b"node02", b"migration", b"instance", b"source", b"destination", b"executor",
         b"nova", b"libvirt", b"probe", b"nonce", b"root", b"entries", b"path", b"kind", b"file",
         b"directory", b"size", b"mode", b"uid", b"gid", b"owner", b"group", b"mtime_ns",
         b"digest", b"inline", b"inline_from", b"offset", b"data", b"next", b"questions",
         b"asker", b"token", b"instances", b"host", b"outcome", b"failed", b"act", b"true",
         b"console.log", b"console.log.0", b"../", b"..", b"./", b"//", b"\\u0000", b"\\ud800",
         b"\\n", b"1125899906842624", b"1125899906842625", b"-1", b"1e3", b"null",
         b"a05482ec-d71a-48c7-bf99-94d829b20aef", b".rbd-worker", b"disk.info", b"keys")


def digest_of(content: bytes) -> str:
    """As :mod:`rbd_worker.host.digest` has it, for less than one block."""
    hasher = hashlib.sha256(len(content).to_bytes(8, "big"))
    if content.strip(b"\0"):
        hasher.update((0).to_bytes(8, "big") + content)
    return hasher.hexdigest()


def file(path: str, content: bytes, **changes: ty.Any) -> payloads.FileEntry:
    values: dict[str, ty.Any] = {
        "path": path, "kind": "file", "size": len(content), "mode": 0o644, "uid": 0, "gid": 0,
        "mtime_ns": 1_600_000_000_000_000_000, "digest": digest_of(content),
        "inline": zlib.compress(content)}
    return payloads.FileEntry(**values | changes)


def directory(path: str, **changes: ty.Any) -> payloads.FileEntry:
    values: dict[str, ty.Any] = {"path": path, "kind": "directory", "mode": 0o755, "uid": 0,
                                 "gid": 0, "mtime_ns": 1}
    return payloads.FileEntry(**values | changes)


def decoded(data: bytes) -> ty.Any:
    """The JSON value of an input, None where it is none."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(data)
    return None


#: A list as an honest source sends it.
HONEST = (file("console.log", b"it boots\n"), file("console.log.0", b"older\n"),
          file("disk.info", b"{}"), directory("keys"), file("keys/secret", b"key"),
          file("zeros", bytes(100), inline=None))


def request(method: str, instance: str) -> dict[str, ty.Any] | None:
    """A well-formed request of ``method``, None for what has no seed."""
    common: dict[str, ty.Any] = {"migration": MIGRATION, "instance": instance,
                                 "source": SOURCE, "destination": DESTINATION, "executor": "nova"}
    copied = common | {"probe": payloads.PathProbe(nonce="0" * 32, inode=1),
                       "root": directory("."), "entries": HONEST}
    made: dict[str, fields.Payload] = {
        "pre_live_migration": payloads.PrepareRequest(**copied),
        "post_live_migration": payloads.FinishRequest(**copied),
        "rollback_live_migration": payloads.RollbackRequest(**common),
        "read_chunk": payloads.ChunkRequest(migration=common["migration"], instance=instance,
                                            path="console.log", offset=0),
        "look_again": payloads.LookRequest(migration=common["migration"], instance=instance),
        "testify": payloads.TestifyRequest(asker=SOURCE, questions=(
            payloads.Question(instance=instance, probe=payloads.PathProbe(nonce="1" * 32)),)),
        "audit": payloads.AuditRequest(act=True),
        "who_holds": payloads.WhoHoldsRequest(asker=SOURCE, token="t", instances=(instance,)),
        "holding": payloads.HoldingReport(host=SOURCE, token="t", instances=(instance,)),
        "Chunk": payloads.Chunk(offset=0, data=zlib.compress(b"x"), next=1),
        "PrepareReply": payloads.PrepareReply(staged={"disk.info": digest_of(b"{}")}),
        "FinishReply": payloads.FinishReply(placed={"a": ""}, own=("b",)),
        "RollbackReply": payloads.RollbackReply(done=True, reason="it is"),
        "Description": payloads.Description(host=SOURCE, worker_version="1", rpc_version="1.0",
                                            executor="nova", started=1.5),
        "AuditReply": payloads.AuditReply(directories=1, findings=(
            payloads.Finding(instance=instance, verdict="kept"),)),
        "TestifyReply": payloads.TestifyReply(testimonies=(_testimony(instance),)),
        "": _testimony(instance)}
    return made[method].to_wire() if method in made else None


def _testimony(instance: str) -> payloads.Testimony:
    return payloads.Testimony(
        host=SOURCE, instance=instance, state="running", addresses=("10.0.0.1",),
        images=(payloads.ImageName(pool="vms", name=f"{instance}_disk"),),
        entries=(payloads.OpenEntry(migration="m", role="source", phase="live_migration"),))
