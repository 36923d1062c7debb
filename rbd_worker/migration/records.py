# SPDX-License-Identifier: Apache-2.0
"""Nova's record for whoever has a doubt: the audit, an open migration, a removal.

The record is a hint.  It explains, and it may keep a directory that the
witnesses would let go; it never lets one go.  Without credentials, or where
nova-api does not answer, everything is as if nobody had asked.
"""

import dataclasses
import logging
import time
import typing as ty

import msgspec

from rbd_worker import conf, errors
from rbd_worker.host import move_options
from rbd_worker.host.nova_api import NovaApi
from rbd_worker.migration import quarrel
from rbd_worker.model import NovaRecord
from rpcapi import payloads

LOG = logging.getLogger(__name__)

#: Records that one look asks for by themselves: of guests that no list has.
MAX_SINGLE = 20
_TOO_MANY = "Nova's record was not looked at: too many differ, the next audit goes on"


@dataclasses.dataclass(frozen=True)
class Found:
    """Where libvirt was found to have a guest; ``holder`` is empty for nowhere, or for several."""

    holder: str
    is_running: bool = True


NOWHERE = Found("", is_running=False)


class Records:
    """Thread-safe; blocks for the API's time limit.

    :param api: None where no credentials are configured.
    """

    def __init__(self, api: NovaApi | None, settings: conf.Settings) -> None:
        self._api = api
        self._settings = settings

    @property
    def are_asked(self) -> bool:
        return self._api is not None

    def opinion(self, instance: str, found: Found) -> quarrel.Opinion:
        """What the record is worth beside where the guest was found.

        An API that is away has no objection and is told of.
        """
        if self._api is None:
            return quarrel.AGREES
        try:
            record = self._api.of(instance)
        except errors.Error as e:
            LOG.warning("[instance: %s] %s", instance, e.sentence)
            return _not_read(e.sentence)
        return self._judged(instance, record, found)

    def opinions(self, found: ty.Mapping[str, Found]) -> dict[str, quarrel.Opinion]:
        """The same for many: one list for each host in question, none for each guest.

        What the lists do not have, or have elsewhere than libvirt, is asked for by itself with
        its newest migration: ``MAX_SINGLE`` at most, in the order of ``found``.
        """
        if self._api is None or not found:
            return dict.fromkeys(found, quarrel.AGREES)
        deadline = time.monotonic() + self._api.seconds
        try:
            listed: dict[str, NovaRecord] = {}
            for host in _hosts(self._settings.host, found):
                listed |= self._api.on_host(host, deadline)
            odd = [instance for instance, each in found.items()
                   if instance not in listed or listed[instance].host != each.holder]
            single = {instance: self._api.of(instance, deadline)
                      for instance in odd[:MAX_SINGLE]}
        except errors.Error as e:
            LOG.warning("Nova's record is not looked at: %s", e.sentence)
            return dict.fromkeys(found, _not_read(e.sentence))
        known: dict[str, NovaRecord | None] = {**listed, **single}
        return {instance: self._judged(instance, known[instance], each)
                if instance in known else _not_read(_TOO_MANY)
                for instance, each in found.items()}

    def _judged(self, instance: str, record: NovaRecord | None,
                found: Found) -> quarrel.Opinion:
        uri = self._uri(record.host) if record is not None and record.host else ""
        return quarrel.judge(instance, record, found.holder, is_running=found.is_running, uri=uri)

    def _uri(self, host: str) -> str:
        try:
            return move_options.connection_uri(self._settings.libvirt,
                                               move_options.MoveOrder(host))
        except errors.BadHostName:
            return "to its libvirt"


def _hosts(own: str, found: ty.Mapping[str, Found]) -> list[str]:
    return sorted({own, *(each.holder for each in found.values() if each.holder)})


def _not_read(why: str) -> quarrel.Opinion:
    return quarrel.Opinion(quarrel.Stance.SILENT, why)


def with_record(finding: payloads.Finding, opinion: quarrel.Opinion) -> payloads.Finding:
    """The finding of an audit with what Nova's record adds; a leftover may become kept."""
    beside = msgspec.structs.replace(finding, nova=opinion.sentence)
    if finding.verdict != "leftover" or opinion.allows:
        return beside
    return msgspec.structs.replace(
        beside, verdict="kept",
        reason=f"Nova's record does not agree that it is a leftover; {finding.reason}")
