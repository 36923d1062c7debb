# SPDX-License-Identifier: Apache-2.0
"""What a peer sends, checked at the door: lists of files, contents and chunks.

The peer may be hostile or broken.  Whatever it says becomes a name below the
staging area, a number of bytes on this host's disk, or time spent here; so
names are relative and canonical, numbers stay within this host's own limits,
and every chunk has to advance.
"""

import re
import typing as ty
import zlib

from rbd_worker import errors
from rbd_worker.host.instances import Limits
from rpcapi import fields
from rpcapi.payloads import Chunk, FileEntry

#: Uncompressed content of one message: the most that ``inline_kib`` allows anywhere.
MAX_INLINE = 16 << 20
_MAX_NAME = 255
#: QEMU's own log and what virtlogd made of older ones.
_CONSOLE = re.compile(r"console\.log(?:\.(0|[1-9][0-9]{0,5}))?\Z")


def is_console_log(path: str) -> bool:
    return _CONSOLE.match(path) is not None


def rotation(path: str) -> int:
    """The number at the end of a rotated console log; -1 for the log itself."""
    match = _CONSOLE.match(path)
    return -1 if match is None or match.group(1) is None else int(match.group(1))


def check(root: FileEntry, entries: ty.Sequence[FileEntry], limits: Limits) -> None:
    """Refuse a list of files that this host would not have sent itself.

    :raises errors.BadInput: it breaks the contract.
    :raises errors.DirectoryTooLarge: it is beyond this host's limits.
    """
    if root.path != "." or root.kind != "directory":
        raise _refused("the first entry is not the directory itself")
    if len(entries) > limits.max_files:
        raise errors.DirectoryTooLarge(path=".", option="max_files",
                                       reason=f"more than {limits.max_files} files")
    kinds: dict[str, str] = {}
    for entry in entries:
        _check_path(entry.path, limits)
        if entry.path in kinds:
            raise _refused("a path comes twice")
        parent = entry.path.rpartition("/")[0]
        if parent and kinds.get(parent) != "directory":
            raise _refused("a file comes before its directory")
        kinds[entry.path] = entry.kind
        _check_entry(entry, limits)
    if sum(e.size - e.inline_from for e in entries if e.inline is not None) > MAX_INLINE:
        raise _refused("too much content in one message")


def unzipped(data: bytes, most: int) -> bytes:
    """The content of ``data``, of which there may be ``most`` bytes.

    :raises errors.BadInput: it is more, or damaged.
    """
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(data, most + 1)
    except zlib.error as e:
        raise _refused("compressed content is damaged") from e
    if len(content) > most or (not inflater.eof and inflater.unconsumed_tail):
        raise _refused("content is longer than announced")
    if not inflater.eof:
        raise _refused("compressed content is cut off")
    return content


def most_chunks(entry: FileEntry) -> int:
    """In how many chunks a file may come: a whole piece and a hole by turns, at the worst.

    A peer that advances by single bytes would keep a thread for weeks.
    """
    return 2 * (entry.size // fields.CHUNK_BYTES + 1)


def content_of(chunk: Chunk, entry: FileEntry, offset: int) -> bytes:
    """The content of a chunk that was asked for at ``offset``.

    :raises errors.BadInput: it is not what was asked for, or leads nowhere.
    """
    if chunk.offset != offset:
        raise _refused("a chunk is from another place than asked for")
    data = unzipped(chunk.data, min(fields.CHUNK_BYTES, entry.size - offset))
    if not offset + len(data) <= chunk.next <= entry.size:
        raise _refused("a chunk leads outside of its file")
    if chunk.next <= offset:
        raise _refused("a chunk does not advance")
    return data


def _check_path(path: str, limits: Limits) -> None:
    names = path.split("/")
    for name in names:
        if name in ("", ".", "..") or "\0" in name:
            raise _refused("a path is not relative and canonical")
        try:
            is_long = len(name.encode()) > _MAX_NAME
        except UnicodeEncodeError:
            raise _refused("a path is not UTF-8") from None
        if is_long:
            raise _refused("a name is too long")
    if len(names) - 1 > limits.max_depth:
        raise errors.DirectoryTooLarge(path=path, option="max_depth",
                                       reason=f"deeper than {limits.max_depth} directories")


def _check_entry(entry: FileEntry, limits: Limits) -> None:
    if entry.kind == "directory":
        if entry.size or entry.digest or entry.inline is not None or is_console_log(entry.path):
            raise _refused("a directory is described as a file")
        return
    if not entry.digest:
        raise _refused("a file has no digest")
    if entry.size > limits.max_file_bytes:
        raise errors.DirectoryTooLarge(path=entry.path, option="max_file_gib",
                                       reason=f"larger than {limits.max_file_bytes} bytes")
    if entry.inline_from and (entry.inline is None or entry.inline_from > entry.size):
        raise _refused("the tail of a file begins behind its end")


def _refused(reason: str) -> errors.BadInput:
    return errors.BadInput(what="the peer's files", reason=reason)
