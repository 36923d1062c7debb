# SPDX-License-Identifier: Apache-2.0
"""The audit: directories that an earlier migration, evacuation or resize left behind.

Every directory whose guest this host's libvirt does not know, and that has not
changed for ``audit_min_age``, is a suspect.  One question to all workers (for
``QUESTION`` suspects at a time) tells which host has which guest; a guest that
nobody has (shelved, being built, lost) keeps its directory.  The holder's host
is then asked for its testimony, and the witnesses of
:mod:`rbd_worker.host.evidence` decide, twice with ``audit_pause`` between:
what leaves was proven both times, was the same directory both times, and its
guest ran elsewhere both times.  A guest that is shut off is never acted upon:
a cold migration looks like that.  Where a migration of the guest is open here,
its plan decides, unless a third host has the guest: an evacuation has come
between then, and no plan will.

Where credentials for nova-api are configured, Nova's record is looked at as
well: it may keep a directory, and it explains (:mod:`~.records`).

Names that are no canonical UUID (``_base``, ``locks``, ``<uuid>_resize``,
``<uuid>_del``) are never looked at.
"""

import collections
import dataclasses
import logging
import secrets
import threading
import typing as ty

import msgspec

from rbd_worker import errors
from rbd_worker.host.instances import PinnedDirectory
from rbd_worker.migration import quarrel, records
from rbd_worker.migration.journal import Entry
from rbd_worker.migration.records import Found
from rbd_worker.migration.task import Ports
from rbd_worker.model import Evidence, GuestState, Phase
from rpcapi import payloads
from rpcapi.fields import MAX_EXPLANATION

LOG = logging.getLogger(__name__)

#: Seconds in which holders answer; who is slower is asked in the next audit.
ANSWER_SECONDS = 3.0
#: Of two hosts that both claim a guest none is believed; more names help nobody.
_MOST_HOLDERS = 4
#: Once every suspect has a holder, the seconds without an answer that end the waiting:
#: enough for a second holder that is as fast as the first ones.  Later ones change
#: nothing that matters, since the witnesses decide, whoever is asked.
QUIET_SECONDS = 0.3
#: Instances in one question for holders: some 400 KB, and as many as a worker takes in one.
QUESTION = 10_000
#: Instances in one question for testimony; each costs its host some milliseconds.
BATCH = 50
#: A guest in another state is on its way: its record may lag behind.
_AT_REST = (GuestState.RUNNING, GuestState.PAUSED, GuestState.SHUTOFF)
#: Device, inode and change time of a directory, as it was first judged.
Seen: ty.TypeAlias = tuple[int, int, float]


@dataclasses.dataclass(frozen=True)
class Report:
    """What one audit found; ``directories`` counts all, ``findings`` the suspects."""

    directories: int
    findings: tuple[payloads.Finding, ...]


class Audit:
    """Thread-safe; one audit at a time, a second caller waits for the first."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._settings = ports.settings
        self._lock = threading.Lock()
        self._answers_lock = threading.Lock()
        self._token = ""
        self._holders: dict[str, set[str]] = {}  # of those asked for

    # -- what others ask and answer ------------------------------------------------

    def who_holds(self, request: payloads.WhoHoldsRequest) -> None:
        """Tell the asker which of its suspects this host's libvirt has."""
        if request.asker == self._settings.host:
            return
        held = tuple(sorted(self._ports.hypervisor.instances().intersection(request.instances)))
        if held:
            self._ports.peers.holding(request.asker, payloads.HoldingReport(
                host=self._settings.host, token=request.token, instances=held))

    def holding(self, report: payloads.HoldingReport) -> None:
        """Take a holder's answer; one to an older question is dropped."""
        with self._answers_lock:
            if report.token == self._token:
                for instance in self._holders.keys() & set(report.instances):
                    if len(self._holders[instance]) < _MOST_HOLDERS:
                        self._holders[instance].add(report.host)

    # -- the audit -------------------------------------------------------------------

    def run(self, act: bool) -> Report:
        """Look at every directory; with ``act`` remove what is proven twice.

        :param act: done only where ``audit_action`` is ``trash``.
        :raises errors.Error: nothing could be judged, nothing was removed.
        """
        act = act and self._settings.audit_acts
        with self._lock:
            names = self._ports.directories.names()
            suspects, young = self._suspects(names)
            findings = {i: _kept(i, "", reason) for i, reason in young.items()}
            judged, found = self._judge(list(suspects))
            judged |= self._left_to_plans(judged)
            findings |= self._beside_record(judged, found, names)
            proven = [f for f in findings.values() if f.verdict == "leftover"]
            if act and proven and not self._ports.shutdown.wait(self._settings.audit_pause):
                findings |= {f.instance: msgspec.structs.replace(
                    self._trashed(f, suspects[f.instance]), nova=f.nova) for f in proven}
            for finding in findings.values():
                _tell(finding)
            self._ports.told.audited(collections.Counter(
                f.verdict for f in findings.values()))
            return Report(len(names), tuple(findings.values()))

    def _suspects(self, names: ty.Sequence[str],
                  ) -> tuple[dict[str, Seen], dict[str, str]]:
        """Directories without a guest here, and why others are no suspects."""
        here = self._ports.hypervisor.instances()
        suspects: dict[str, Seen] = {}
        kept: dict[str, str] = {}
        for name in names:
            if name in here:
                continue
            try:
                directory = self._ports.directories.pin(name)
            except errors.Error as e:
                kept[name] = str(e)
                continue
            if directory is not None:
                with directory:
                    age = self._ports.clock() - directory.changed
                    if age < self._settings.audit_min_age:
                        kept[name] = f"it was changed {max(age, 0):.0f} s ago"
                    else:
                        suspects[name] = _seen(directory)
        return suspects, kept

    def _judge(self, suspects: list[str],
               ) -> tuple[dict[str, payloads.Finding], dict[str, Found]]:
        """Ask all for holders, then each holder for testimony; and where each guest is."""
        findings: dict[str, payloads.Finding] = {}
        found = dict.fromkeys(suspects, records.NOWHERE)
        holders = self._ask_all(suspects)
        by_holder = collections.defaultdict(list)
        for instance in suspects:
            hosts = sorted(holders.get(instance, ()))
            if len(hosts) == 1:
                by_holder[hosts[0]].append(instance)
            else:
                who = f"{' and '.join(hosts)} both have the guest" if hosts else (
                    "no worker says that its libvirt has the guest")
                findings[instance] = _kept(instance, "", who)
        for holder, instances in by_holder.items():
            for begin in range(0, len(instances), BATCH):
                batch = instances[begin:begin + BATCH]
                for instance, evidence in self._ports.witnesses.ask_all(batch, holder).items():
                    findings[instance] = _judged(evidence, holder)
                    found[instance] = Found(holder, _is_active(evidence))
        return findings, found

    def _left_to_plans(self, judged: dict[str, payloads.Finding],
                       ) -> dict[str, payloads.Finding]:
        """Kept for an open migration: its hosts or nobody has the guest, or its files are owed."""
        return {finding.instance: _kept(finding.instance, finding.holder,
                                        f"a migration of it is open here; {_told(entry)}")
                for entry in self._ports.journal.open_entries()
                if (finding := judged.get(entry.migration.instance)) is not None
                and (finding.holder in ("", *entry.migration.hosts)
                     or entry.phase is Phase.POST)}

    def _beside_record(self, judged: dict[str, payloads.Finding], found: dict[str, Found],
                       names: ty.Sequence[str]) -> dict[str, payloads.Finding]:
        """The findings with what Nova's record says, and guests here that it has elsewhere."""
        if not self._ports.records.are_asked:
            return judged
        here = {guest: Found(self._settings.host, state.is_active)
                for guest, state in self._ports.hypervisor.domains().items()
                if guest in names and state in _AT_REST}
        opinions = self._ports.records.opinions({**found, **here})
        findings = {i: records.with_record(f, opinions[i]) for i, f in judged.items()}
        for guest, opinion in opinions.items():
            if opinion.stance is not quarrel.Stance.DISAGREES:
                continue
            LOG.warning("[instance: %s] audit: %s", guest, opinion.sentence)
            if guest in here:
                findings[guest] = records.with_record(
                    _kept(guest, self._settings.host, "the guest is here"), opinion)
        return findings

    def _ask_all(self, suspects: list[str]) -> dict[str, set[str]]:
        """Which hosts have which guest, by as many questions as it takes."""
        holders: dict[str, set[str]] = {}
        for begin in range(0, len(suspects), QUESTION):
            holders |= self._ask(suspects[begin:begin + QUESTION])
        return holders

    def _ask(self, suspects: list[str]) -> dict[str, set[str]]:
        with self._answers_lock:
            self._token = secrets.token_hex(16)
            self._holders = {instance: set() for instance in suspects}
            request = payloads.WhoHoldsRequest(asker=self._settings.host, token=self._token,
                                               instances=tuple(suspects))
        self._ports.peers.who_holds(request)
        self._await_answers()
        with self._answers_lock:
            self._token, holders = "", self._holders
        return holders

    def _await_answers(self) -> None:
        """Until nobody is likely to answer any more."""
        heard, waited, quiet = 0, 0.0, 0.0
        while waited < ANSWER_SECONDS and not self._ports.shutdown.wait(QUIET_SECONDS / 3):
            waited += QUIET_SECONDS / 3
            quiet += QUIET_SECONDS / 3
            with self._answers_lock:
                answers = sum(map(len, self._holders.values()))
                is_complete = all(self._holders.values())
            if answers != heard:
                heard, quiet = answers, 0.0
            if is_complete and quiet >= QUIET_SECONDS:
                return

    def _trashed(self, finding: payloads.Finding, seen: Seen) -> payloads.Finding:
        """The second look, and the removal of what it proves again."""
        instance, holder = finding.instance, finding.holder
        try:
            directory = self._ports.directories.pin(instance)
            if directory is None:
                return _kept(instance, holder, "it is gone by now")
            with directory:
                if _seen(directory) != seen:
                    return _kept(instance, holder, "it was changed meanwhile")
                evidence = self._ports.witnesses.ask(instance, holder)
                again = _judged(evidence, holder)
                if again.verdict != "leftover":
                    return again
                item = self._ports.trash.take(directory, evidence, "")
                self._ports.told.trashed(instance, item.id, "audit")
        except errors.Error as e:
            return _kept(instance, holder, str(e))
        return payloads.Finding(instance=instance, verdict="trashed", holder=holder,
                                reason=item.id)


def _tell(finding: payloads.Finding) -> None:
    """One line in the log for each finding."""
    match finding.verdict:
        case "trashed":
            LOG.info("[instance: %s] audit: a leftover, the guest runs on %s; it is in the trash "
                     "as %s", finding.instance, finding.holder, finding.reason)
        case "leftover":
            LOG.info("[instance: %s] audit: a leftover, the guest runs on %s; it was not to be "
                     "removed", finding.instance, finding.holder)
        case _:
            LOG.debug("[instance: %s] audit: kept: %s", finding.instance, finding.reason)


def _told(entry: Entry) -> str:
    return f"it is unresolved: {entry.reason}" if entry.reason else "its plan decides"


def _seen(directory: PinnedDirectory) -> Seen:
    return directory.device, directory.inode, directory.changed


def _judged(evidence: Evidence, holder: str) -> payloads.Finding:
    said = next((f.sentence for f in evidence.facts if f.witness == "holder"), "")
    if not evidence.holds:
        return _kept(evidence.instance, holder, evidence.doubt)
    if not _is_active(evidence):
        return _kept(evidence.instance, holder,
                     f"{said}: only a guest that runs elsewhere proves a leftover by itself")
    return payloads.Finding(instance=evidence.instance, verdict="leftover", holder=holder,
                            reason=said[:MAX_EXPLANATION])


def _is_active(evidence: Evidence) -> bool:
    return evidence.holder_state is not None and evidence.holder_state.is_active


def _kept(instance: str, holder: str, reason: str) -> payloads.Finding:
    return payloads.Finding(instance=instance, verdict="kept", holder=holder,
                            reason=reason[:MAX_EXPLANATION])
