# SPDX-License-Identifier: Apache-2.0
"""The journal as an operator reads it, on this host or from another one."""

import json
import typing as ty

from rbd_worker.migration import journal
from rpcapi import history as contract
from rpcapi.fields import MAX_EXPLANATION


class History:
    """Answers from the file, also where no worker runs.

    :raises errors.JournalUnusable: it cannot be read.
    """

    def __init__(self, host: str, reader: journal.JournalReader) -> None:
        self._host = host
        self._reader = reader

    def page(self, request: contract.HistoryRequest) -> contract.HistoryReply:
        """One page of entries, newest first."""
        found = self._entries(request)
        entries = found[:request.limit]
        return contract.HistoryReply(
            host=self._host, more=len(found) > len(entries),
            entries=tuple(self._told(entry, request.records) for entry in entries))

    def refusals(self, request: contract.RefusalsRequest) -> contract.RefusalsReply:
        """Bad input that was turned away, newest first."""
        return contract.RefusalsReply(refusals=tuple(
            contract.Refusal(at=r.at, origin=r.origin[:1024], reason=r.reason[:1024])
            for r in self._reader.refusals(request.limit)))

    def _entries(self, request: contract.HistoryRequest) -> list[journal.Entry]:
        """One more than the page holds, where there are more."""
        if request.migration is not None:
            return self._reader.entries_with(request.migration)
        return self._reader.entries_between(
            request.since, request.until, open_only=request.open_only,
            limit=request.limit + 1, skip=request.skip)

    def _told(self, entry: journal.Entry, with_records: bool) -> contract.Entry:
        migration = entry.migration
        records: tuple[contract.Record, ...] = ()
        if with_records:
            kept = self._reader.records(migration)[-contract.MAX_RECORDS:]
            records = tuple(map(_record, kept))
        return contract.Entry(
            migration=migration.key, instance=migration.instance, role=migration.role.value,
            source=migration.source, destination=migration.destination,
            executor=migration.executor.value, request_id=migration.request_id,
            number=migration.number or 0, phase=entry.phase.value,
            outcome=entry.outcome or "", reason=entry.reason[:MAX_EXPLANATION],
            opened=entry.opened, closed=entry.closed or 0, records=records)


def _record(record: journal.Record) -> contract.Record:
    data = json.dumps(record.data)
    if len(data) > contract.MAX_DATA:  # hundreds of files with very long names
        data = json.dumps({"left_out": f"{len(data)} characters, which the journal has"})
    return contract.Record(at=record.at, step=record.step, state=record.state.value, data=data)


def data_of(record: contract.Record) -> dict[str, ty.Any]:
    """What a record kept; empty where it cannot be read."""
    try:
        data = json.loads(record.data)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
